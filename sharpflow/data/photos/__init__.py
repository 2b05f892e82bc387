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
_STRIDE = 16
_ORDER_SEED = 0


def patches(photograph: np.ndarray) -> np.ndarray:
    """Patches of a photograph on a grid, no two of them alike, in one fixed random order.

    Args:
        photograph: (rows, columns, 3) uint8.

    Returns:
        (patches, 3, 32, 32) uint8; neighbours on the grid are 16 pixels apart.
    """
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (_SIZE, _SIZE), axis=(0, 1))
    found = windows[::_STRIDE, ::_STRIDE].reshape(-1, 3, _SIZE, _SIZE)
    found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])]
    return found[np.random.default_rng(_ORDER_SEED).permutation(len(found))]


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: photos, samples, scaling, targets, label_noise, label_seed}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the photographs have fewer patches than asked for.
    """
    photographs = load_sample_images()
    files = [str(name).rsplit("/", 1)[-1] for name in photographs.filenames]
    classes = [patches(image) for image in photographs.images]
    found = np.repeat(np.arange(len(classes)), [len(each) for each in classes])
    choice = choose(found, files, spec, "scikit-learn", word="patches")
    pixels = np.concatenate(classes)[choice.rows]
    return picture_tensors(pixels, choice, spec), {"source": "photos", "files": files}
