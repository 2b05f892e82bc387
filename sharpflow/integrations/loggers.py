"""What takes the numbers of a measurement: a CSV file, TensorBoard, Weights & Biases."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpflow.curvature.monitor import Log


def csv_log(path: str | Path) -> Log:
    """A table with a row a measurement, its first column the step; numbers read back exactly.

    A file that is there is gone on with: rows of the first logged step and later ones, of a run
    that was resumed from an earlier checkpoint, are dropped.

    Args:
        path: of the file; its folder is made.

    Returns:
        The log. It raises ValueError where the file, or the row before, has other columns.
    """
    file = Path(path)
    columns: list[str] = []

    def log(step: int, scalars: Mapping[str, float]) -> None:
        row = {"step": step, **scalars}
        if not columns:
            columns.extend(row)
            _begin(file, columns, step)
        if list(row) != columns:
            raise ValueError(f"{file} has the columns {columns}, and a row has {list(row)}.")
        with file.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, columns).writerow(row)

    return log


def _begin(file: Path, columns: list[str], step: int) -> None:
    """Write the header and the rows before a step that the file has."""
    kept: list[list[str]] = []
    if file.exists() and file.stat().st_size:
        with file.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        if header != columns:
            raise ValueError(
                f"{file} has the columns {header}, and the measurements have {columns}; give "
                "another file."
            )
        kept = [row for row in rows if int(row[0]) < step]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *kept])


def tensorboard_log(writer: Any) -> Log:
    """Scalars of a `torch.utils.tensorboard.SummaryWriter`."""

    def log(step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    return log


def wandb_log(run: Any) -> Log:
    """Metrics of a Weights & Biases run, online or offline: of anything with `log(dict, step=)`.

    Its steps may not go back, so whatever else is logged to the run has to give the same steps.
    """

    def log(step: int, scalars: Mapping[str, float]) -> None:
        run.log(dict(scalars), step=step)

    return log
