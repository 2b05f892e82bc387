"""32×32 patches of the two photographs that scikit-learn ships, one class each.

Real pictures of CIFAR-10's exact shape, without a download.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from sharpflow.data.base import ImageSet, image_tensors
from sharpflow.errors import DataError

_SIZE = 32
_STRIDE = 16
_ORDER_SEED = 0


def load(samples: int) -> ImageSet:
    """The first `samples` / 2 patches of each photograph, in one fixed random order.

    Patches lie on a grid with a stride of 16 pixels; no two of them are alike.

    Raises:
        DataError: the photographs have fewer patches than asked for.
    """
    photographs = load_sample_images()
    classes = []
    for image in photographs.images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (_SIZE, _SIZE), axis=(0, 1))
        patches = windows[::_STRIDE, ::_STRIDE].reshape(-1, 3, _SIZE, _SIZE)
        patches = patches[np.sort(np.unique(patches, axis=0, return_index=True)[1])]
        if samples // 2 > len(patches):
            raise DataError(
                f"data.samples = {samples}: the photos have {len(patches)} patches a class; "
                f"ask for at most {2 * len(patches)}, or use cifar10."
            )
        order = np.random.default_rng(_ORDER_SEED).permutation(len(patches))
        classes.append(patches[order[: samples // 2]])
    labels = np.repeat([1.0, -1.0], samples // 2).astype(np.float32)
    return ImageSet(
        torch.from_numpy(np.concatenate(classes)),
        torch.from_numpy(labels),
        {
            "source": "photos",
            "files": [str(name).rsplit("/", 1)[-1] for name in photographs.filenames],
        },
    )


def generate(spec: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and provenance of `{source: photos, samples, scaling}`."""
    images = load(spec["samples"])
    return image_tensors(images, spec["scaling"]), images.provenance
