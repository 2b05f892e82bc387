"""Whether this user can write what a run writes, looked at before Snakemake tries and fails."""

import os
from collections.abc import Iterable
from pathlib import Path

from sharpflow.errors import ConfigError, SharpflowError
from sharpflow.storage.files import VOUCHED

MADE = (*VOUCHED, "logs", "benchmarks")
"""Folders of a results root."""
STATE = Path(".snakemake")
KEPT = ("locks", "metadata", "incomplete")
"""Folders of Snakemake's whose files it writes over and reads again."""
ADDED_TO = ("auxiliary", "iocache", "log", "scripts", "shadow")
"""Folders of Snakemake's to which it adds files."""


def unwritable(folder: Path, inner: Iterable[str] = ()) -> Path | None:
    """What keeps this user from writing a folder: itself, what stands in its place, or one in it.

    Args:
        folder: need not be there; then the nearest folder above it counts.
        inner: names of folders in it that are looked at where they are there.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    places = [place, *(place / name for name in inner if os.path.lexists(place / name))]
    return next((each for each in places if not _is_open(each)), None)


def _is_open(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def check_writable_results(results: str, where: str) -> None:
    """Refuse a results root that cannot be made or written.

    Args:
        results: the folder, relative to the working directory.
        where: names the configuration.

    Raises:
        ConfigError: one paragraph that names what is in the way.
    """
    if (place := unwritable(Path(results), MADE)) is not None:
        raise ConfigError(
            f"{where}: results = {results!r} cannot be made or written, for {place} is read-only "
            "to you or not a folder; give another folder."
        )


def check_writable_state() -> None:
    """Refuse a working directory in which Snakemake cannot keep its records.

    Raises:
        SharpflowError: one paragraph that names what is in the way.
    """
    place = unwritable(STATE, (*KEPT, *ADDED_TO))
    if place is None:
        records = (
            Path(at, n) for kept in KEPT for at, _, names in os.walk(STATE / kept) for n in names
        )
        place = next((each for each in records if not os.access(each, os.R_OK | os.W_OK)), None)
    if place is not None:
        raise SharpflowError(
            f"{place.absolute()} cannot be read and written by you, and Snakemake keeps its "
            f"records in {STATE}: work in a folder of your own, a clone of this one say."
        )
