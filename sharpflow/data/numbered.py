"""Pictures of numbered classes, from a folder of the user's or from their source."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sharpflow.data.base import Dataset
from sharpflow.data.download import Remote, fetch
from sharpflow.data.labelled import choose, picture_tensors
from sharpflow.storage.files import sha256_of


class Pictures(NamedTuple):
    """Pictures as their files have them.

    Attributes:
        classes: number of each one's class, (n,).
        pixels: (n, channels, rows, columns) uint8.
        files: that they were read from.
    """

    classes: np.ndarray
    pixels: np.ndarray
    files: list[Path]


def numbered_pictures(
    spec: Mapping[str, Any], remote: Remote, count: int, read: Callable[[Path], Pictures]
) -> Dataset:
    """Tensors and provenance of a balanced choice of pictures.

    Args:
        spec: options of the source: `path`, `samples`, `classes`, `scaling`, and those of targets.
            Without a path the files are downloaded to the cache, or found there.
        remote: the published dataset.
        count: number of its classes.
        read: reads all pictures of a folder.

    Returns:
        Tensors, and the SHA-256 of each file with whether they are the published ones.

    Raises:
        DataError: the files cannot be had or read, or a class has too few pictures.
    """
    path = spec["path"]
    folder = fetch(remote) if path is None else Path(path)
    found = read(folder)
    names = [str(number) for number in range(count)]
    choice = choose(found.classes, names, spec, str(folder), spec["classes"])
    provenance = {
        "source": spec["source"],
        "archive_verified": path is None,
        "sha256": {file.name: sha256_of(file) for file in found.files},
    }
    return picture_tensors(found.pixels[choice.rows], choice, spec), provenance
