"""CIFAR-100, the official binary version (Krizhevsky, 2009), from a folder or from its source.

Address and MD5 are those published at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sharpflow.data.base import Dataset
from sharpflow.data.cifar_records import read_folder
from sharpflow.data.download import Remote, RemoteFile
from sharpflow.data.numbered import numbered_pictures

REMOTE = Remote(
    name="cifar100",
    title="CIFAR-100",
    files=(
        RemoteFile(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        ),
    ),
    variable="SHARPFLOW_CIFAR100_URL",
    pattern="train.bin",
    members=r"train\.bin",
    folder="cifar-100-binary",
    download_limit=256_000_000,
    member_limit=160_000_000,  # the official train.bin has 153.7 MB
    unpacked_limit=200_000_000,
    megabytes=400,
)
LABELS = ("coarse", "fine")
CLASSES = (20, 100)


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: cifar100, labels, path, samples, classes, scaling, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the file cannot be had or read, or a class has too few pictures.
    """
    label = LABELS.index(spec["labels"])
    read = partial(read_folder, remote=REMOTE, counts=CLASSES, label=label)
    return numbered_pictures(spec, REMOTE, CLASSES[label], read)
