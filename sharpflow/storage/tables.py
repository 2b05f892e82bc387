"""Tables as sealed Parquet files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from sharpflow.errors import IntegrityError
from sharpflow.storage.seal import BLANK, read_as, read_bytes, sealed_path

if TYPE_CHECKING:  # a third of a second that the jobs of small networks do not need
    import pandas as pd

_ORIGIN = "sharpflow-origin"


def long_table(
    seed: ArrayLike,
    step: ArrayLike,
    quantity: ArrayLike,
    index: ArrayLike,
    value: ArrayLike,
    names: Sequence[str],
) -> pa.Table:
    """A long table from its columns, each (rows,); `quantity` holds places in `names`."""
    words = pa.DictionaryArray.from_arrays(
        np.asarray(quantity, dtype=np.int32), pa.array(names, pa.string())
    )
    return pa.table(
        {
            "seed": np.asarray(seed, dtype=np.int64),
            "step": np.asarray(step, dtype=np.int64),
            "quantity": words.cast(pa.string()),
            "index": np.asarray(index, dtype=np.int64),
            "value": np.asarray(value, dtype=np.float64),
        }
    )


def write_table(path: str | Path, table: "pa.Table | pd.DataFrame", origin: str = "") -> None:
    """Write a table (a data frame's index is dropped) atomically, sealed.

    Args:
        path: of the Parquet file.
        table: of Arrow, or a data frame.
        origin: fingerprint of the job that made it.
    """
    arrow: pa.Table = table
    if not isinstance(table, pa.Table):
        arrow = pa.Table.from_pandas(table, preserve_index=False)
    write_pieces(path, [arrow], origin)


def write_pieces(path: str | Path, pieces: Iterable[pa.Table], origin: str = "") -> None:
    """Write tables of the same columns one below another, atomically, sealed.

    Args:
        path: of the Parquet file.
        pieces: of which one is held in memory at a time; each can be read by itself.
        origin: fingerprint of the job that made it.

    Raises:
        ValueError: there is no piece.
    """
    with sealed_path(path) as temporary:
        writer = None
        for piece in pieces:
            if writer is None:
                schema = piece.schema.remove_metadata()
                writer = pq.ParquetWriter(temporary, schema, compression="zstd")
            writer.write_table(piece.replace_schema_metadata(None), max(len(piece), 1))
        if writer is None:
            raise ValueError(f"{path}: a table needs at least one piece.")
        # in the footer alone: as metadata of the schema they would be written twice
        writer.add_key_value_metadata({"seal": BLANK, _ORIGIN: origin})
        writer.close()


def read_table(path: str | Path, origin: str | None = None) -> "pd.DataFrame":
    """Read a table that `write_table` wrote.

    Args:
        path: of the Parquet file.
        origin: fingerprint of the job that it must be of; None reads any.

    Raises:
        IntegrityError: the file is missing, truncated, altered, not one of ours, or another job's.
    """
    content = read_bytes(path)
    with read_as("Parquet", path, pa.ArrowException, KeyError, TypeError):
        file = pq.ParquetFile(pa.BufferReader(content))
        found = file.metadata.metadata[_ORIGIN.encode()].decode()
        frame = file.read().replace_schema_metadata(None).to_pandas()
    if origin not in (None, found):
        raise IntegrityError(
            f"{path} is the table of another job; delete it and it will be made again."
        )
    return frame
