"""IDX files, the format of MNIST: a magic number, dimensions and bytes; plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from sharpflow.data.base import reason
from sharpflow.data.download import Remote
from sharpflow.data.numbered import Pictures
from sharpflow.errors import DataError

_BYTES = 8
"""The code of unsigned bytes in a magic number."""
_MOST = 1_000_000
_CLASSES = 10
_IMAGES = "train-images-idx3-ubyte"
_LABELS = "train-labels-idx1-ubyte"


def read_idx(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """The contents of an IDX file of unsigned bytes.

    Args:
        path: of the file; gzipped if its name ends in `.gz`.
        shape: of one item.

    Returns:
        (n, *shape) uint8.

    Raises:
        DataError: the file cannot be read, or its magic number, dimensions or length are not those
            of such items.
    """
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rb") as handle:
            magic = handle.read(4)
            expected = bytes([0, 0, _BYTES, 1 + len(shape)])
            if magic != expected:
                raise DataError(
                    f"{path} begins with the bytes {magic.hex(' ') or 'of nothing'}, not with "
                    f"{expected.hex(' ')}: it is not an IDX file of {1 + len(shape)} dimensions "
                    "of bytes."
                )
            header = handle.read(4 * (1 + len(shape)))
            found = struct.unpack(f">{len(header) // 4}I", header[: len(header) // 4 * 4])
            if len(found) != 1 + len(shape) or found[1:] != shape or not 1 <= found[0] <= _MOST:
                wanted = ", ".join(["n", *map(str, shape)])
                raise DataError(
                    f"{path} has the dimensions ({', '.join(map(str, found))}), where ({wanted}) "
                    f"with n from 1 to {_MOST:,} is expected."
                )
            length = math.prod(found)
            content = handle.read(length + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    if len(content) != length:
        kind = "less" if len(content) < length else "more"
        raise DataError(
            f"{path} has {kind} than the {length} bytes that its dimensions "
            f"({', '.join(map(str, found))}) need: it is truncated or altered."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(found)


def read_folder(folder: Path, remote: Remote) -> Pictures:
    """The pictures for training of a folder with the names that MNIST has.

    Args:
        folder: with `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, plain or with `.gz`.
        remote: the published dataset.

    Returns:
        The pictures, (n, 1, 28, 28).

    Raises:
        DataError: a file is missing or malformed, or the two are not of the same pictures.
    """
    files = [_found(folder, name, remote) for name in (_IMAGES, _LABELS)]
    pixels, labels = read_idx(files[0], (28, 28)), read_idx(files[1], ())
    if len(pixels) != len(labels):
        raise DataError(
            f"{files[0]} has {len(pixels)} pictures and {files[1]} {len(labels)} labels; they must "
            "be of the same pictures."
        )
    if labels.max() >= _CLASSES:
        at = int(np.argmax(labels >= _CLASSES))
        raise DataError(
            f"{files[1]}: item {at} has label {labels[at]}; {remote.title} labels are 0 to "
            f"{_CLASSES - 1}."
        )
    return Pictures(labels, pixels[:, None], files)


def _found(folder: Path, name: str, remote: Remote) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(
        f"data.path = {str(folder)!r} holds neither {name} nor {name}.gz, which {remote.title} has."
    )
