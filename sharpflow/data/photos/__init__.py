"""32×32 patches of the two photographs that scikit-learn ships, one class each.

Real pictures of CIFAR-10's exact shape, without a download.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images

from sharpflow.data.base import Dataset
from sharpflow.data.labelled import choose, picture_tensors

_SIZE = 32
_STRIDES = (16, 8, 4, 2)
_ORDER_SEED = 0


def patches(photograph: np.ndarray, least: int = 0) -> np.ndarray:
    """Patches of a photograph on a grid, no two of them alike, in one fixed random order.

    Args:
        photograph: (rows, columns, 3) uint8.
        least: patches that are needed; the grid is the coarsest of 16, 8, 4 and 2 pixels that has
            them, or the finest.

    Returns:
        (patches, 3, 32, 32) uint8.
    """
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (_SIZE, _SIZE), axis=(0, 1))
    found = np.empty((0, 3, _SIZE, _SIZE), dtype=np.uint8)
    for stride in _STRIDES:
        found = windows[::stride, ::stride].reshape(-1, 3, _SIZE, _SIZE)
        found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
        if len(found) >= least:
            break
    return found[np.random.default_rng(_ORDER_SEED).permutation(len(found))]


def strip(photograph: np.ndarray, draw: int, strips: int) -> np.ndarray:
    """The part of a photograph that a draw takes its patches from.

    Args:
        photograph: (rows, columns, 3).
        draw: number of the draw; draws that differ by a multiple of `strips` share their part.
        strips: upright strips of equal width, which share no pixel.

    Returns:
        (rows, columns // strips, 3).
    """
    width = photograph.shape[1] // strips
    first = width * (draw % strips)
    return photograph[:, first : first + width]


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of photos from its options.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the photographs have fewer patches than asked for.
    """
    photographs = load_sample_images()
    files = [str(name).rsplit("/", 1)[-1] for name in photographs.filenames]
    images = photographs.images
    if spec["draw_seed"] is None:
        classes = [patches(image) for image in images]
    else:
        least = spec["samples"] // len(images)
        parts = [strip(image, spec["draw_seed"], spec["strips"]) for image in images]
        classes = [patches(part, least) for part in parts]
    found = np.repeat(np.arange(len(classes)), [len(each) for each in classes])
    choice = choose(found, files, spec, "scikit-learn", word="patches")
    pixels = np.concatenate(classes)[choice.rows]
    return picture_tensors(pixels, choice, spec), {"source": "photos", "files": files}
