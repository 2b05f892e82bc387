"""32×32 patches of the two photographs that scikit-learn ships, a class each or each strip.

Real pictures of CIFAR-10's exact shape, without a download.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sharpflow.data.base import Dataset
from sharpflow.data.labelled import choose, picture_tensors
from sharpflow.data.photos.options import CELL
from sharpflow.errors import DataError

_SIZE = 32
_STRIDE, _FINER = 16, (16, 8, 4, 2)
_ORDER_SEED = 0
_FILES = ["china.jpg", "flower.jpg"]


def photographs() -> tuple[list[str], list[np.ndarray]]:
    """Names and pixels of the photographs; scikit-learn is not imported, which takes a second.

    Returns:
        Names, and arrays (427, 640, 3) uint8.

    Raises:
        DataError: scikit-learn, or its photographs, are not installed.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("data.source = photos needs scikit-learn, which is not installed.")
    folder = Path(found.origin).parent / "datasets" / "images"
    try:
        return _FILES, [np.asarray(Image.open(folder / name)) for name in _FILES]
    except OSError as error:
        raise DataError(f"scikit-learn's photographs cannot be read: {error}.") from None


def patches(picture: np.ndarray, stride: int = _STRIDE) -> np.ndarray:
    """Patches of a picture on a grid.

    Args:
        picture: (rows, columns, 3) uint8.
        stride: pixels from one to the next.

    Returns:
        (patches, 3, 32, 32) uint8.
    """
    windows = np.lib.stride_tricks.sliding_window_view(picture, (_SIZE, _SIZE), axis=(0, 1))
    return windows[::stride, ::stride].reshape(-1, 3, _SIZE, _SIZE)


def shuffled(found: np.ndarray) -> np.ndarray:
    """Patches (patches, 3, 32, 32), no two of them alike, in one fixed random order."""
    found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
    return found[np.random.default_rng(_ORDER_SEED).permutation(len(found))]


def cut(photograph: np.ndarray, strips: int) -> list[np.ndarray]:
    """Vertical strips of a photograph (rows, columns, 3), of equal widths up to a pixel."""
    return np.array_split(photograph, strips, axis=1)


def part(photograph: np.ndarray, draw: int, parts: int) -> list[np.ndarray]:
    """The cells of a photograph, or a strip of one, that a draw takes its patches from.

    It is cut into cells of 48 × 48 pixels, which are dealt out at random to the parts.

    Args:
        photograph: (rows, columns, 3).
        draw: number of the draw; draws that differ by a multiple of `parts` share their cells.
        parts: number of parts, which share no pixel.

    Returns:
        Cells (48, 48, 3).
    """
    rows, columns = (size // CELL for size in photograph.shape[:2])
    dealt = np.random.default_rng(_ORDER_SEED).permutation(rows * columns)[draw % parts :: parts]
    corners = ((CELL * (cell // columns), CELL * (cell % columns)) for cell in dealt.tolist())
    return [photograph[y : y + CELL, x : x + CELL] for y, x in corners]


def drawn(cells: list[np.ndarray], least: int) -> np.ndarray:
    """Patches of some cells, on the coarsest grid that has at least so many, or the finest."""
    found = np.empty((0, 3, _SIZE, _SIZE), dtype=np.uint8)
    for stride in _FINER:
        found = shuffled(np.concatenate([patches(cell, stride) for cell in cells]))
        if len(found) >= least:
            break
    return found


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of photos from its options.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the photographs have fewer patches than asked for.
    """
    files, images = photographs()
    names = files
    if spec["strips"] > 1:
        names = [f"{file}, strip {k + 1}" for file in files for k in range(spec["strips"])]
    strips = [strip for image in images for strip in cut(image, spec["strips"])]
    if spec["draw_seed"] is None:
        classes = [shuffled(patches(strip)) for strip in strips]
    else:
        least = spec["samples"] // len(strips)
        cells = [part(strip, spec["draw_seed"], spec["parts"]) for strip in strips]
        classes = [drawn(own, least) for own in cells]
    found = np.repeat(np.arange(len(classes)), [len(each) for each in classes])
    choice = choose(found, names, spec, "scikit-learn", word="patches")
    pixels = np.concatenate(classes)[choice.rows]
    return picture_tensors(pixels, choice, spec), {"source": "photos", "files": files}
