"""CIFAR-10, the official binary version (Krizhevsky, 2009), from a folder or from its source.

A record is 1 label byte and 3,072 pixel bytes (red, green, blue planes, row by row), so nothing
is ever unpickled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.data.base import ImageSet, image_tensors
from sharpflow.data.download import fetch
from sharpflow.errors import DataError
from sharpflow.storage.files import sha256_of

RECORD_BYTES = 1 + 3 * 32 * 32


def read_batch(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and pixels (n, 3, 32, 32), both uint8, of one batch file.

    Raises:
        DataError: the file cannot be read, is not whole records, or has a label above 9.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if raw.size == 0 or raw.size % RECORD_BYTES:
        raise DataError(
            f"{path} has {raw.size} bytes, which is not a whole number of CIFAR-10 records of "
            f"{RECORD_BYTES} bytes: the file is truncated or is not the binary version."
        )
    records = raw.reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() > 9:
        at = int(np.argmax(labels > 9))
        raise DataError(
            f"{path}: record {at} has label {labels[at]}; CIFAR-10 labels are 0 to 9, so this is "
            "not a CIFAR-10 batch."
        )
    return labels, records[:, 1:].reshape(-1, 3, 32, 32)


def load(
    path: str | Path,
    samples: int,
    classes: Sequence[int] | None = None,
    archive_verified: bool = False,
) -> ImageSet:
    """A balanced subset: the first `samples` / 2 records of each side, in file order.

    Args:
        path: folder with `data_batch_*.bin`.
        samples: even number of images.
        classes: the classes labelled +1 and -1; by default classes 0-4 against 5-9.
        archive_verified: whether the batches come from an archive of the published checksum;
            recorded in the provenance, beside the SHA-256 of each batch.

    Raises:
        DataError: no batch file, a malformed one, or too few images of a side.
    """
    files = sorted(Path(path).glob("data_batch_*.bin"))
    if not files:
        raise DataError(
            f"data.path = {str(path)!r} holds no data_batch_*.bin: give the folder of the unpacked "
            "binary version of CIFAR-10 (cifar-10-batches-bin)."
        )
    batches = [read_batch(file) for file in files]
    labels = np.concatenate([batch[0] for batch in batches])
    pixels = np.concatenate([batch[1] for batch in batches])
    sides = [[classes[0]], [classes[1]]] if classes else [list(range(5)), list(range(5, 10))]
    chosen = []
    for side in sides:
        members = np.flatnonzero(np.isin(labels, side))
        if len(members) < samples // 2:
            raise DataError(
                f"data.samples = {samples} needs {samples // 2} images of "
                f"{'class' if len(side) == 1 else 'classes'} {', '.join(map(str, side))}, but "
                f"{path} has {len(members)}; ask for at most {2 * len(members)}."
            )
        chosen.append(members[: samples // 2])
    signs = np.repeat([1.0, -1.0], samples // 2).astype(np.float32)
    provenance = {
        "source": "cifar10",
        "archive_verified": archive_verified,
        "sha256": {file.name: sha256_of(file) for file in files},
    }
    return ImageSet(
        torch.from_numpy(pixels[np.concatenate(chosen)]), torch.from_numpy(signs), provenance
    )


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and provenance of `{source: cifar10, path, samples, classes, scaling}`.

    Without a path the batches are downloaded to the cache, or found there.
    """
    path = spec.get("path")
    folder = fetch() if path is None else path
    images = load(folder, spec["samples"], spec["classes"], archive_verified=path is None)
    return image_tensors(images, spec["scaling"]), images.provenance
