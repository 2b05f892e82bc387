"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), from a folder or from its source.

Addresses and MD5 are those published at https://github.com/zalandoresearch/fashion-mnist.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sharpflow.data.base import Dataset
from sharpflow.data.download import Remote, RemoteFile
from sharpflow.data.idx import read_folder
from sharpflow.data.numbered import numbered_pictures

_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
REMOTE = Remote(
    name="fashion_mnist",
    title="Fashion-MNIST",
    files=(
        RemoteFile(f"{_ADDRESS}/train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        RemoteFile(f"{_ADDRESS}/train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    ),
    variable="SHARPFLOW_FASHION_MNIST_URL",
    pattern="train-*-ubyte.gz",
    download_limit=64_000_000,
    megabytes=100,
)


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: fashion_mnist, path, samples, classes, scaling, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the files cannot be had or read, or a class has too few pictures.
    """
    return numbered_pictures(spec, REMOTE, 10, partial(read_folder, remote=REMOTE))
