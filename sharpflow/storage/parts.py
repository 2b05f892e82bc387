"""A table in parts: Parquet files in one folder, each written and read a piece at a time."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from sharpflow.storage.seal import check, read_as
from sharpflow.storage.tables import write_pieces

if TYPE_CHECKING:  # as in `tables`
    import pandas as pd

ROWS = 500_000
"""Rows of a piece: what is in memory at once, beside the largest table that is added."""


def write_part(path: str | Path, tables: Iterable[pa.Table], rows: int = ROWS) -> None:
    """Write tables, one after another, as one Parquet file, atomically, sealed.

    A piece of the file is one table or several whole ones, so that what belongs to one run stays
    together; no more than `rows` rows, or the largest table, are held in memory.

    Args:
        path: of the Parquet file.
        tables: at least one, all of the same columns.
        rows: of a piece.
    """
    write_pieces(path, _pieces(tables, rows))


def _pieces(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        if waiting and count + len(table) > rows:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, count = [], 0
        waiting.append(table.replace_schema_metadata(None))
        count += len(table)
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def read_pieces(path: str | Path) -> "Iterator[pd.DataFrame]":
    """The pieces of a part, in order, once its seal is checked.

    Raises:
        IntegrityError: the file is missing, truncated, altered or not one of ours.
    """
    check(path)
    with read_as("Parquet", path, pa.ArrowException, OSError), pq.ParquetFile(path) as file:
        for index in range(file.num_row_groups):
            yield file.read_row_group(index).replace_schema_metadata(None).to_pandas()


def read_parts(
    paths: str | Path | Sequence[str | Path], quantities: Collection[str] | None = None
) -> "pd.DataFrame":
    """The table that parts hold together, in the order of the paths.

    Args:
        paths: of the parts; of at least one.
        quantities: rows of these only are kept, as they are read; None keeps all.

    Raises:
        IntegrityError: a part is missing, truncated, altered or not one of ours.
    """
    import pandas as pd

    several = [paths] if isinstance(paths, (str, Path)) else paths
    kept = [
        piece if quantities is None else piece[piece["quantity"].isin(list(quantities))]
        for path in several
        for piece in read_pieces(path)
    ]
    return pd.concat(kept, ignore_index=True)


def shared_out(paths: Sequence[str], counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Paths by name, of which each takes the next so many."""
    following = iter(paths)
    return {name: list(islice(following, count)) for name, count in counts.items()}


def remove_others(path: str | Path, names: Collection[str]) -> None:
    """Remove the parts beside `path` that the table no longer has; `names` are those it has."""
    for other in Path(path).parent.glob("*.parquet"):
        if other.name not in names:
            other.unlink(missing_ok=True)
