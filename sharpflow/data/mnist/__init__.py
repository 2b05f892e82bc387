"""MNIST, handwritten digits (LeCun, Cortes and Burges), from a folder or from its source."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sharpflow.data.base import Dataset
from sharpflow.data.download import Remote, RemoteFile
from sharpflow.data.idx import read_folder
from sharpflow.data.numbered import numbered_pictures

_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist"
REMOTE = Remote(
    name="mnist",
    title="MNIST",
    files=(
        RemoteFile(f"{_ADDRESS}/train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        RemoteFile(f"{_ADDRESS}/train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    variable="SHARPFLOW_MNIST_URL",
    pattern="train-*-ubyte.gz",
    download_limit=64_000_000,
    megabytes=100,
)


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: mnist, path, samples, classes, scaling, …}`.

    Returns:
        The dataset's tensors, and where they come from.

    Raises:
        DataError: the files cannot be had or read, or a class has too few pictures.
    """
    return numbered_pictures(spec, REMOTE, 10, partial(read_folder, remote=REMOTE))
