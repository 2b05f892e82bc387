"""CIFAR-10, the official binary version (Krizhevsky, 2009), from a folder or from its source.

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
    name="cifar10",
    title="CIFAR-10",
    files=(
        RemoteFile(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
    ),
    variable="SHARPFLOW_CIFAR10_URL",
    pattern="data_batch_*.bin",
    members=r"data_batch_[0-9]{1,2}\.bin",
    folder="cifar-10-batches-bin",
    download_limit=256_000_000,
    member_limit=64_000_000,
    unpacked_limit=200_000_000,  # the official archive unpacks to 184.4 MB
    megabytes=400,
)
CLASSES = (10,)


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: cifar10, path, samples, classes, scaling, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the batches cannot be had or read, or a class has too few pictures.
    """
    read = partial(read_folder, remote=REMOTE, counts=CLASSES, label=0)
    return numbered_pictures(spec, REMOTE, CLASSES[0], read)
