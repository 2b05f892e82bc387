"""A user's table: columns of a CSV or Parquet file, read through pandas."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from sharpflow.data.base import Dataset, input_tensors
from sharpflow.data.labelled import choose, choose_all, first_rows, label_tensors, places, real
from sharpflow.errors import DataError
from sharpflow.parts.words import nearest
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
        """A table from its file.

        Raises:
            DataError: the file cannot be read as a table with at least one row.
        """
        parquet = path.lower().endswith(".parquet")
        try:
            if parquet:
                frame = pd.read_parquet(path)
            else:
                with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
                    frame = pd.read_csv(
                        path,
                        sep=separator,
                        index_col=False,
                        low_memory=False,
                        float_precision="round_trip",
                    )
        except pd.errors.ParserWarning as error:
            raise DataError(
                f"{path} cannot be read: a line has more cells than the first line has columns."
            ) from error
        except Exception as error:  # what a broken file raises differs by format
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise DataError(f"{path} cannot be read: {reason.rstrip('.')}.") from error
        if frame.empty:
            raise DataError(f"{path} has no rows.")
        return cls(path, frame, None if parquet else separator)

    def column(self, name: str) -> pd.Series:
        """One column.

        Raises:
            DataError: there is none of this name.
        """
        if name not in self.frame.columns:
            known = [str(column) for column in self.frame.columns]
            raise DataError(
                f"{self.path} has no column {name!r}; it has {', '.join(known[:20])}"
                f"{', …' if len(known) > 20 else ''}.{nearest(name, known)}"
            )
        return self.frame[name]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers, (rows, columns) float64.

        Raises:
            DataError: a column does not exist, or has a cell that is no finite number.
        """
        found = np.empty((len(self.frame), len(names)))
        for place, name in enumerate(names):
            column = self.column(name)
            if not pd.api.types.is_numeric_dtype(column.dtype):
                column = pd.to_numeric(column.map(_text), errors="coerce")
            found[:, place] = column.to_numpy(np.float64, na_value=np.nan)
            bad = ~np.isfinite(found[:, place])
            if bad.any():
                self.refuse(name, int(np.argmax(bad)), "a finite number")
        return found

    def refuse(self, name: str, row: int, wanted: str) -> None:
        """Name the cell that is not what it should be.

        Raises:
            DataError: always.
        """
        cell = self.frame[name].iloc[row]
        what = "nothing" if pd.isna(cell) else repr(_text(cell))
        raise DataError(
            f"{self.path}, {self._place(row)}: the column {name!r} has {what} where {wanted} is "
            "needed; mend the file, or leave the column out."
        )

    def _place(self, row: int) -> str:
        """Where a row stands: its line in a text file, with the lines that pandas skips."""
        if self.separator is None:
            return f"row {row + 1}"
        with open(self.path, newline="") as file:
            lines = csv.reader(file, delimiter=self.separator)
            filled = (lines.line_num for cells in lines if any(cell.strip() for cell in cells))
            return f"line {next(n for place, n in enumerate(filled) if place == row + 1)}"

    def classes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column of labels.

        Returns:
            Each row's place among the labels, (rows,), and the labels as text, in ascending order.

        Raises:
            DataError: the column does not exist, or has a missing cell.
        """
        column = self.column(name)
        missing = column.isna().to_numpy()
        if missing.any():
            self.refuse(name, int(np.argmax(missing)), "a label")
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        values = column.to_numpy(np.float64) if numeric else column.map(_text).to_numpy(str)
        labels, found = np.unique(values, return_inverse=True)
        texts = [f"{v:.0f}" if v.is_integer() else repr(v) for v in labels.tolist()]
        return found, texts if numeric else labels.tolist()


def _text(cell: Any) -> Any:
    """A cell of no number type as text; a missing one as it is."""
    return cell if pd.api.types.is_scalar(cell) and pd.isna(cell) else str(cell)


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns of (n, d) brought to mean 0 and variance 1; a constant one to 0."""
    centred = values - values.mean(axis=0)
    constant = values.max(axis=0) == values.min(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, values.std(axis=0)))


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Tensors and provenance of `{source: table, path, inputs, target, task, standardise, …}`.

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
        answers = {"targets": real(table.numbers(target)[rows], "targets", path)}
    else:
        found, names = table.classes(target[0])
        chosen = spec["classes"] and places([str(c) for c in spec["classes"]], names, path)
        pick = choose_all if spec["samples"] is None else choose
        choice = pick(found, names, spec, path, chosen, "rows")
        rows, answers = choice.rows, label_tensors(choice, spec)
        provenance["classes"] = names if chosen is None else [names[place] for place in chosen]
    values = table.numbers(columns)[rows]
    inputs = real(standardised(values) if spec["standardise"] else values, "inputs", path)
    return input_tensors(inputs) | answers, provenance
