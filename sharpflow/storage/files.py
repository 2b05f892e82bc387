"""Atomic writes and checksums."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sharpflow.errors import SharpflowError

VOUCHED = ("data", "runs", "tables", "claims", "figures", "report")
"""Folders of a results root whose files jobs seal."""
_HOST = re.sub(r"\W", "_", socket.gethostname())
"""In the names of temporary files: processes of two nodes may have one number."""
PAGE, CLAIMS, BY_SEED = "report/index.html", "claims.csv", "claims_by_seed.csv"
"""What a reader opens, from the results root on."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, flushed to disk, if the block succeeds.

    On any failure `path` is as it was before and the temporary file is gone.

    Raises:
        SharpflowError: the file system refused (disk full, read-only); names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # safetensors makes files that only their owner may read
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SharpflowError(f"{path} could not be written: {reason}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


_LEFTOVER = re.compile(r"\..+\.(\w+-)?\d+\.tmp|\.tmp\w{6}")  # the second kind is safetensors' own


def is_leftover(path: Path) -> bool:
    """Whether a file is the temporary file of a writer, killed if it no longer works."""
    return _LEFTOVER.fullmatch(path.name) is not None


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def fingerprint(*parts: Any) -> str:
    """SHA-256 of JSON-able values: says which job a file is of."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
