"""Options of a user's table."""

import csv
import math
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sharpflow.data.cells import no_column, refusal
from sharpflow.data.class_options import TaskOptions
from sharpflow.errors import DataError
from sharpflow.parts.options import Form, UserPath, distinct

Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[list[Column], Field(min_length=1), AfterValidator(distinct)]

LOOKED_AT = 1000
"""Rows of a text file that are looked at before anything runs."""
_NO_NUMBER_YET = ("", "true", "false", "na", "nan", "n/a", "null", "none", "inf", "infinity")
"""Cells that pandas reads as a number, a truth value or a missing cell, or may."""


class Options(TaskOptions):
    """Columns of a CSV or Parquet file: some are the inputs, others the targets or labels."""

    path: Annotated[str, UserPath("data"), Field(pattern=r"(?i)\.(csv|tsv|txt|parquet)$")]
    """A `.csv`, `.tsv` or `.txt` file whose first line names its columns, or a `.parquet` file."""
    inputs: Columns | None = None
    """Columns that are the inputs, in this order; by default all but the targets, in the file's."""
    target: Column | Columns
    """The column of targets or labels; for regression it may be a list of columns."""
    standardise: bool = True
    """Whether each input is brought to mean 0 and variance 1 over the samples; one that is the same
    in all of them becomes 0."""
    separator: Literal[",", ";", "|", "\t", " "] = ","
    """Character between two cells of a text file."""

    @property
    def target_columns(self) -> list[str]:
        """Columns of targets."""
        return [self.target] if isinstance(self.target, str) else self.target

    @model_validator(mode="after")
    def _apart(self):
        if self.task == "classes" and len(self.target_columns) > 1:
            raise ValueError("target names one column where task = classes")
        for name in self.target_columns:
            if name in (self.inputs or ()):
                raise ValueError(f"the column {name!r} is both a target and an input")
        return self

    def form(self) -> Form:
        """The form of its samples."""
        shape = None if self.inputs is None else (len(self.inputs),)
        outputs, targets = self.target_form(len(self.target_columns))
        return Form("vectors", shape, outputs, targets, self.samples)

    def check_files(self) -> None:
        """Raise DataError where a text file lacks a column, or its first targets are words.

        Raises:
            DataError: the first line names no such column, or targets of the first rows are words
                and not numbers.
        """
        if self.path.lower().endswith(".parquet"):
            return
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as file:
                lines = csv.reader(file, delimiter=self.separator)
                names = next(lines, [])
                found = self._words(lines, names) if self.task == "regression" else iter(())
                place, column, cell = next(found, (0, "", ""))
        except (OSError, UnicodeDecodeError, csv.Error):
            return  # the job that reads all of it says what is wrong
        for name in (*self.target_columns, *(self.inputs or ())) if names else ():
            if not {name, _before_pandas(name)} & {*names}:
                raise DataError(no_column(self.path, name, names))
        if cell:
            raise DataError(refusal(self.path, f"line {place}", column, repr(cell), target=True))

    def _words(self, lines: Any, names: list[str]) -> Iterator[tuple[int, str, str]]:
        """Line, column and text of each target that is a word."""
        columns = [name for name in self.target_columns if names.count(name) == 1]
        for cells in islice(lines, LOOKED_AT):
            for name in columns if len(cells) == len(names) else ():
                cell = cells[names.index(name)].strip()
                if not _is_number(cell) and any(letter.isalpha() for letter in cell):
                    yield lines.line_num, name, cell


def _before_pandas(name: str) -> str:
    """What a file calls a column that pandas names `x.1`, the second x, or `Unnamed: 0`."""
    first, dot, number = name.rpartition(".")
    return "" if name.startswith("Unnamed: ") else first if dot and number.isdigit() else name


def _is_number(cell: str) -> bool:
    if cell.lower().strip("<>#+-") in _NO_NUMBER_YET:
        return True
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
