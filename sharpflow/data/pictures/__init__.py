"""A user's pictures: a folder with a folder in it for each class."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sharpflow.data.base import Dataset, reason
from sharpflow.data.labelled import choose, picture_tensors, places
from sharpflow.errors import DataError
from sharpflow.storage.files import sha256_of

_MODES = {1: "L", 3: "RGB"}


def read_picture(path: Path, size: Sequence[int], channels: int) -> np.ndarray:
    """One picture, resized with a bilinear filter over all the pixels that it merges.

    Args:
        path: of the file, in any format that Pillow reads; of several frames the first is taken,
            and transparency is left out.
        size: rows and columns.
        channels: 3 for red, green and blue, 1 for grey.

    Returns:
        (channels, rows, columns) uint8.

    Raises:
        DataError: the file does not open as a picture of at most 8 bits a channel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise DataError(
                    f"{path} has more than 8 bits a channel (Pillow's mode {picture.mode}); save "
                    "it with 8."
                )
            converted = picture.convert(_MODES[channels])
        resized = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except DataError:
        raise
    except Exception as error:  # what a broken file raises differs by format
        raise DataError(f"{path} does not open as a picture: {reason(error)}.") from error
    return np.asarray(resized).reshape(*size, channels).transpose(2, 0, 1)


def picture_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, both in alphabetical order; hidden ones are left out.

    Args:
        folder: with a folder a class.

    Returns:
        Files by the class's name.

    Raises:
        DataError: the folder cannot be read, or has fewer than two classes.
    """
    try:
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        found = {
            each.name: sorted(p for p in each.iterdir() if p.is_file() and p.name[0] != ".")
            for each in classes
        }
    except OSError as error:
        raise DataError(f"data.path = {str(folder)!r} cannot be read: {reason(error)}.") from error
    if len(found) < 2:
        raise DataError(
            f"data.path = {str(folder)!r} has {len(found)} folders in it; it needs one for each of "
            "two classes or more."
        )
    return found


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: pictures, path, size, channels, samples, classes, …}`.

    Classes that share a sign take turns, so that each is there as often as it can be.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: a picture does not open, a class does not exist or has too few pictures.
    """
    folder = Path(spec["path"])
    classes = picture_files(folder)
    names = list(classes)
    chosen = places(spec["classes"], names, str(folder))
    turns = sorted(
        (turn, place, file)
        for place, files in enumerate(classes.values())
        for turn, file in enumerate(files)
    )
    found = np.array([place for _, place, _ in turns], dtype=int)
    choice = choose(found, names, spec, str(folder), chosen, "pictures")
    files = [turns[row][2] for row in choice.rows]
    pixels = np.stack([read_picture(file, spec["size"], spec["channels"]) for file in files])
    sums = "".join(sha256_of(file) for file in files)
    provenance = {
        "source": "pictures",
        "classes": names if chosen is None else [names[place] for place in chosen],
        "sha256": hashlib.sha256(sums.encode()).hexdigest(),
    }
    return picture_tensors(pixels, choice, spec), provenance
