"""Tables as Parquet files that carry a checksum of their contents."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sharpflow.errors import IntegrityError
from sharpflow.storage.files import atomic_path

_KEY = b"sharpflow-sha256"
_ORIGIN = b"sharpflow-origin"


def _digest(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            values, labels = column.to_numpy(), []
            if values.dtype.kind == "f":  # Arrow keeps no NaN's sign or payload
                values = np.where(np.isnan(values), np.nan, values)
        else:
            values, uniques = pd.factorize(column, sort=True)
            labels = [str(label) for label in uniques]
        digest.update(json.dumps([str(name), str(values.dtype), len(values), labels]).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def write_table(path: str | Path, frame: pd.DataFrame, origin: str = "") -> None:
    """Write a data frame (index dropped) atomically, with the SHA-256 of its contents.

    Args:
        origin: fingerprint of the job that made it.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(
                {_KEY: _digest(frame).encode(), _ORIGIN: origin.encode()}
            ),
            temporary,
            compression="zstd",
            write_page_checksum=True,
        )


def read_table(path: str | Path, origin: str | None = None) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Args:
        origin: fingerprint of the job that it must be of; None reads any.

    Raises:
        IntegrityError: the file is missing, truncated, altered, not one of ours, or another job's.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        expected, found = metadata[_KEY].decode(), metadata[_ORIGIN].decode()
        frame = table.replace_schema_metadata(None).to_pandas()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise IntegrityError(
            f"{path} is not a whole table of sharpflow ({error}); "
            "delete it and it will be made again."
        ) from error
    if _digest(frame) != expected:
        raise IntegrityError(f"{path} differs from its checksum; delete it to have it made again.")
    if origin not in (None, found):
        raise IntegrityError(
            f"{path} is the table of another job; delete it and it will be made again."
        )
    return frame
