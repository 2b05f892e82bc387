"""A user's table: columns of a CSV or Parquet file, read through pandas."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from sharpflow.data.base import Dataset, first_rows, input_tensors, real, reason
from sharpflow.data.cells import no_column, refusal
from sharpflow.data.labelled import choose_labels, label_tensors
from sharpflow.errors import DataError
from sharpflow.storage.files import sha256_of


@dataclass(frozen=True)
class Table:
    """A table and the file that it was read from.

    Attributes:
        path: of the file.
        frame: its columns.
        separator: character between two columns; None in a Parquet file.
    """

    path: str
    frame: pd.DataFrame
    separator: str | None

    @classmethod
    def read(cls, path: str, separator: str) -> "Table":
        """Read a table from its file.

        Returns:
            The table.

        Raises:
            DataError: the file cannot be read as a table with at least one row.
        """
        parquet = path.lower().endswith(".parquet")
        try:
            if parquet:
                frame = pd.read_parquet(path)
            else:
                with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
                    frame = pd.read_csv(path, sep=separator, index_col=False, low_memory=False)
        except pd.errors.ParserWarning as error:
            raise DataError(
                f"{path} cannot be read: a line has more cells than the first line has columns."
            ) from error
        except Exception as error:  # what a broken file raises differs by format
            raise DataError(f"{path} cannot be read: {reason(error)}.") from error
        if frame.empty:
            raise DataError(f"{path} has no rows.")
        return cls(path, frame, None if parquet else separator)

    def column(self, name: str) -> pd.Series:
        """Look a column up.

        Returns:
            The column, (rows,).

        Raises:
            DataError: there is none of this name.
        """
        if name not in self.frame.columns:
            raise DataError(no_column(self.path, name, list(map(str, self.frame.columns))))
        return self.frame[name]

    def numbers(self, names: Sequence[str], rows: np.ndarray, targets: bool = False) -> np.ndarray:
        """Take rows of columns of numbers.

        Returns:
            Numbers (rows, columns), float64.

        Raises:
            DataError: a column does not exist, or has a cell that is no finite number.
        """
        found = np.empty((len(rows), len(names)))
        for place, name in enumerate(names):
            column = self.column(name).iloc[rows]
            if not pd.api.types.is_numeric_dtype(column.dtype):
                column = pd.to_numeric(column.astype(object).map(_text), errors="coerce")
            found[:, place] = column.to_numpy(np.float64, na_value=np.nan)
            bad = ~np.isfinite(found[:, place])
            if bad.any():
                row = int(rows[np.argmax(bad)])
                cell = self._shown(name, row)
                raise DataError(refusal(self.path, self._place(row), name, cell, targets))
        return found

    def _shown(self, name: str, row: int) -> str:
        """A cell as messages show it."""
        cell = _text(self.frame[name].iloc[row])
        return repr(cell) if isinstance(cell, str) else "nothing"

    def _place(self, row: int) -> str:
        """Where a row stands: its line in a text file, of which pandas skips blank ones."""
        if self.separator is None:
            return f"row {row + 1}"
        with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
            lines = csv.reader(file, delimiter=self.separator)
            filled = (lines.line_num for cells in lines if len(cells) > 1 or "".join(cells).strip())
            try:
                return f"line {next(islice(filled, row + 1, None))}"
            except (csv.Error, StopIteration):
                return f"row {row + 1}"

    def classes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Take a column of labels.

        Returns:
            Each row's place among the labels, (rows,), and the labels as text, in ascending order.

        Raises:
            DataError: the column does not exist, or has a missing cell.
        """
        column = self.column(name)
        missing = column.isna().to_numpy()
        if missing.any():
            raise DataError(
                f"{self.path}, {self._place(int(np.argmax(missing)))}: the column {name!r} has "
                "nothing where a label is needed; mend the file, or leave the row out."
            )
        if not pd.api.types.is_numeric_dtype(column.dtype):
            column = column.astype(object).map(_text)
        labels, found = np.unique(column.to_numpy(), return_inverse=True)
        return found, [_label(value) for value in labels.tolist()]


def _text(cell: Any) -> str | None:
    """A cell as text; None for a missing one."""
    return None if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns of (n, d) brought to mean 0 and variance 1; a constant one to 0."""
    centred = values - values.mean(axis=0)
    constant = values.max(axis=0) == values.min(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, values.std(axis=0)))


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: table, path, inputs, target, task, standardise, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the file is no table, lacks a column or rows, or has a cell that does not do.
    """
    path = spec["path"]
    table = Table.read(path, spec["separator"])
    target = [spec["target"]] if isinstance(spec["target"], str) else spec["target"]
    columns = spec["inputs"] or [name for name in table.frame.columns if name not in target]
    if not columns:
        raise DataError(f"{path} has no column beside the target {target[0]!r}.")
    provenance = {"source": "table", "inputs": columns, "sha256": sha256_of(path)}
    if spec["task"] == "regression":
        rows = first_rows(len(table.frame), spec["samples"], path)
        answers = {"targets": real(table.numbers(target, rows, targets=True), "targets", path)}
    else:
        found, names = table.classes(target[0])
        choice = choose_labels(found, names, spec, path)
        rows, answers = choice.rows, label_tensors(choice, spec)
        provenance["classes"] = names if spec["classes"] is None else spec["classes"]
    values = table.numbers(columns, rows)
    scaled = standardised(values) if spec["standardise"] else values
    return input_tensors(real(scaled, "inputs", path, rows)) | answers, provenance
