"""The seal: every file that a job writes carries the SHA-256 of its own bytes.

Somewhere in the file stands `sharpflow-sha256:` and 64 hexadecimal digits, the SHA-256 of the file
with zeros in the digits' place. Parquet, safetensors and JSON files carry it in their metadata, a
PNG in a text chunk, a PDF, an SVG and a page in a comment at the end: the usual readers read them
all. A CSV table has no place for it: `FILE.sha256` beside it says the same in the form of
`sha256sum`.
"""

import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sharpflow.errors import IntegrityError
from sharpflow.storage.files import atomic_path, sha256_of, write_bytes

WORD = "sharpflow-sha256"
BLANK = f"{WORD}:{'0' * 64}"
"""What a writer puts into a file that `sealed_path` then seals."""
BESIDE = ".sha256"
"""Ends the name of the file that vouches for a CSV table."""

_MARK = re.compile(rb"sharpflow-sha256:([0-9a-f]{64})")
_WINDOW = 1 << 16  # the mark stands in the first or the last of so many bytes
_PIECE = 1 << 20
_COMMENTS = {".pdf": f"%{BLANK}\n"} | dict.fromkeys((".html", ".svg"), f"<!-- {BLANK} -->\n")
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = f"tEXtComment\0{BLANK[:-64]}".encode()
_END = 12  # bytes of a PNG's last chunk


def _gap(digest: str, picture: bool) -> bytes:
    """What the mark's digits are, and in a PNG the checksum of their chunk, for this SHA-256."""
    digits = digest.encode()
    return digits + zlib.crc32(_CHUNK + digits).to_bytes(4, "big") if picture else digits


def _windows(handle: BinaryIO) -> list[tuple[int, bytes]]:
    """Where marks may stand: parts of a file, each with its start, that do not overlap."""
    size = handle.seek(0, os.SEEK_END)
    starts = [(0, size)] if size <= 2 * _WINDOW else [(0, _WINDOW), (size - _WINDOW, _WINDOW)]
    found = []
    for start, length in starts:
        handle.seek(start)
        found.append((start, handle.read(length)))
    return found


def _marks(windows: list[tuple[int, bytes]]) -> list[int]:
    """Places of the digits of all marks."""
    return [start + m.start(1) for start, part in windows for m in _MARK.finditer(part)]


def _digest(handle: BinaryIO, place: int, length: int, *plain: Any) -> str:
    """SHA-256 of a file with zeros in a gap; `plain` hash objects get the bytes as they are."""
    sealed = hashlib.sha256()
    handle.seek(0)
    for until in (place, place + length, None):
        while piece := handle.read(_PIECE if until is None else min(_PIECE, until - handle.tell())):
            sealed.update(b"0" * len(piece) if until == place + length else piece)
            for other in plain:
                other.update(piece)
    return sealed.hexdigest()


def _seal(path: Path) -> None:
    with open(path, "rb+") as handle:
        windows = _windows(handle)
        places = _marks(windows)
        if len(places) != 1:
            raise ValueError(f"{path} has {len(places)} marks of a seal, and must have one")
        picture = windows[0][1].startswith(_PNG)
        digest = _digest(handle, places[0], len(_gap("0" * 64, picture)))
        handle.seek(places[0])
        handle.write(_gap(digest, picture))


def _with_comment(path: Path, suffix: str) -> None:
    """Put a blank mark into a file of a kind whose writer knows nothing of seals."""
    if suffix in _COMMENTS:
        with open(path, "ab") as handle:
            handle.write(_COMMENTS[suffix].encode())
    elif suffix == ".png":
        content = path.read_bytes()
        data = _CHUNK + b"0" * 64
        chunk = (len(data) - 4).to_bytes(4, "big") + data + bytes(4)
        path.write_bytes(content[:-_END] + chunk + content[-_END:])


@contextmanager
def sealed_path(path: str | Path) -> Iterator[Path]:
    """As `files.atomic_path`, and the file is sealed when the block succeeds.

    What the block writes contains `BLANK` once, unless the name ends in `.png`, `.pdf`, `.svg` or
    `.html`, to which it is added, or `.csv`, which gets a file beside it.

    Raises:
        SharpflowError: the file system refused (disk full, read-only); names `path`.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        yield temporary
        if path.suffix == ".csv":
            line = f"{sha256_of(temporary)}  {path.name}\n"
            write_bytes(path.with_name(path.name + BESIDE), line.encode())
        else:
            _with_comment(temporary, path.suffix)
            _seal(temporary)


class AlteredError(IntegrityError):
    """A file is there and is not what its job wrote."""

    def __init__(self, path: str | Path):
        super().__init__(
            f"{path} was altered since its job wrote it; delete it and it will be made again."
        )


@contextmanager
def read_as(kind: str, path: str | Path, *errors: type[Exception]) -> Iterator[None]:
    """Say of a whole file of another kind, on which a reader fails with `errors`, what it is not.

    Raises:
        IntegrityError: the block raised one of `errors`.
    """
    try:
        yield
    except errors as error:
        raise IntegrityError(
            f"{path} is not a {kind} file of sharpflow ({error}); "
            "delete it and it will be made again."
        ) from error


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise IntegrityError(
            f"{path} cannot be read ({reason}); once it is gone it will be made again."
        ) from error


def _check_handle(handle: BinaryIO, path: str | Path, *plain: Any) -> str:
    windows = _windows(handle)
    picture = windows[0][1].startswith(_PNG)
    length = len(_gap("0" * 64, picture))
    for place in _marks(windows)[:1]:
        digest = _digest(handle, place, length, *plain)
        handle.seek(place)
        if handle.read(length) == _gap(digest, picture):
            return digest
    raise AlteredError(path)


def _check_beside(path: Path, *plain: Any) -> str:
    table = path.with_suffix("") if path.suffix == BESIDE else path
    line = table.with_name(table.name + BESIDE).read_bytes()
    digest = sha256_of(table)
    if line != f"{digest}  {table.name}\n".encode():
        raise AlteredError(path)
    for other in plain:
        other.update(line if path.suffix == BESIDE else path.read_bytes())
    return digest


def check(path: str | Path, *plain: Any) -> str:
    """The SHA-256 in a file's seal, once the file agrees with it.

    Args:
        path: of a file that a job wrote.
        plain: hash objects that are fed with the file's bytes as they are, in the same reading.

    Raises:
        IntegrityError: the file is missing, cut, altered, or has no seal; a sentence that names it.
    """
    path = Path(path)
    with _explained(path):
        if path.suffix in (".csv", BESIDE):
            return _check_beside(path, *plain)
        with open(path, "rb") as handle:
            return _check_handle(handle, path, *plain)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a sealed file; what is given is what was checked.

    Raises:
        IntegrityError: as `check`.
    """
    with _explained(path):
        content = Path(path).read_bytes()
    _check_handle(io.BytesIO(content), path)
    return content


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write values as indented JSON with sorted keys, atomically and sealed."""
    ordered = json.loads(json.dumps(values, sort_keys=True))
    text = json.dumps({"seal": BLANK} | ordered, indent=2)
    with sealed_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """The values that `write_json` wrote.

    Raises:
        IntegrityError: as `check`.
    """
    content = read_bytes(path)
    with read_as("JSON", path, ValueError):
        return {k: v for k, v in json.loads(content).items() if k != "seal"}
