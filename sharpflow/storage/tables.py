"""Tables as Parquet files that carry a checksum of their contents."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from sharpflow.errors import IntegrityError
from sharpflow.storage.files import atomic_path

if TYPE_CHECKING:  # a third of a second that the jobs of small networks do not need
    import pandas as pd

_KEY = b"sharpflow-sha256"
_ORIGIN = b"sharpflow-origin"


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


def contents_digest(table: pa.Table) -> str:
    """SHA-256 of a table's columns: the same for any chunks and encodings of the same values."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        labels = []
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            codes = column.combine_chunks().dictionary_encode()
            found = codes.dictionary.to_pylist()
            labels = sorted(found)
            place = {label: position for position, label in enumerate(labels)}
            places = np.array([*(place[label] for label in found), -1])  # the last: missing
            values = places[codes.indices.fill_null(-1).to_numpy()]
        else:
            values = column.to_numpy()
            if values.dtype.kind == "f":  # Arrow keeps no NaN's sign or payload
                values = np.where(np.isnan(values), np.nan, values)
        digest.update(json.dumps([name, str(values.dtype), len(values), labels]).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def write_table(path: str | Path, table: "pa.Table | pd.DataFrame", origin: str = "") -> None:
    """Write a table (a data frame's index is dropped) atomically, with its contents' SHA-256.

    Args:
        path: of the Parquet file.
        table: of Arrow, or a data frame.
        origin: fingerprint of the job that made it.
    """
    arrow: pa.Table = table
    if not isinstance(table, pa.Table):
        arrow = pa.Table.from_pandas(table, preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(
            arrow.replace_schema_metadata(
                {_KEY: contents_digest(arrow).encode(), _ORIGIN: origin.encode()}
            ),
            temporary,
            compression="zstd",
            write_page_checksum=True,
        )


def read_table(path: str | Path, origin: str | None = None) -> "pd.DataFrame":
    """Read a table that `write_table` wrote.

    Args:
        path: of the Parquet file.
        origin: fingerprint of the job that it must be of; None reads any.

    Raises:
        IntegrityError: the file is missing, truncated, altered, not one of ours, or another job's.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        expected, found = metadata[_KEY].decode(), metadata[_ORIGIN].decode()
        whole = contents_digest(table) == expected
        frame = table.replace_schema_metadata(None).to_pandas()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise IntegrityError(
            f"{path} is not a whole table of sharpflow ({error}); "
            "delete it and it will be made again."
        ) from error
    if not whole:
        raise IntegrityError(f"{path} differs from its checksum; delete it to have it made again.")
    if origin not in (None, found):
        raise IntegrityError(
            f"{path} is the table of another job; delete it and it will be made again."
        )
    return frame
