"""The binary files of CIFAR: records of label bytes and pixels, so nothing is ever unpickled."""

from pathlib import Path

import numpy as np

from sharpflow.data.base import reason
from sharpflow.data.download import Remote
from sharpflow.data.numbered import Pictures
from sharpflow.errors import DataError

_PIXELS = 3 * 32 * 32


def read_records(
    path: str | Path, title: str, counts: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The records of one file.

    A record is one byte for each label, and 3,072 pixel bytes (red, green, blue planes, row by
    row).

    Args:
        path: of the file.
        title: what messages call the dataset.
        counts: number of classes that each label byte tells apart.

    Returns:
        Labels (n, labels) and pixels (n, 3, 32, 32), both uint8.

    Raises:
        DataError: the file cannot be read, is not whole records, or has a label of no class.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error
    size = len(counts) + _PIXELS
    if raw.size == 0 or raw.size % size:
        raise DataError(
            f"{path} has {raw.size} bytes, which is not a whole number of {title} records of "
            f"{size} bytes: the file is truncated or is not the binary version."
        )
    records = raw.reshape(-1, size)
    labels = records[:, : len(counts)]
    wrong = np.argwhere(labels >= np.array(counts))
    if len(wrong):
        row, byte = wrong[0]
        raise DataError(
            f"{path}: record {row} has label {labels[row, byte]}; {title} labels are 0 to "
            f"{counts[byte] - 1}, so this is not a {title} batch."
        )
    return labels, records[:, len(counts) :].reshape(-1, 3, 32, 32)


def read_folder(folder: Path, remote: Remote, counts: tuple[int, ...], label: int) -> Pictures:
    """All records of a folder, in file order.

    Args:
        folder: with the files of `remote.pattern`.
        remote: the published dataset.
        counts: as for `read_records`.
        label: place of the label byte that tells the classes.

    Returns:
        The pictures.

    Raises:
        DataError: there is no such file, or a malformed one.
    """
    files = sorted(folder.glob(remote.pattern))
    if not files:
        raise DataError(
            f"data.path = {str(folder)!r} holds no {remote.pattern}: give the folder of the "
            f"unpacked binary version of {remote.title} ({remote.folder})."
        )
    batches = [read_records(file, remote.title, counts) for file in files]
    labels, pixels = (np.concatenate(each) for each in zip(*batches, strict=True))
    return Pictures(labels[:, label], pixels, files)
