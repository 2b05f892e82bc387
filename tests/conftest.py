"""Fixtures that several files share: small datasets and shards."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "unit"))

import specs  # registers the papers, so that tests may import papers.<key>

from sharpflow.data.compression import compress
from sharpflow.training import Problem

settings.register_profile("sharpflow", deadline=None, derandomize=True)
settings.load_profile("sharpflow")


def pytest_collection_modifyitems(items):
    """What runs Snakemake comes first, for it takes longest; a process takes whole files."""
    items.sort(key=lambda item: item.path.parent.name == "unit")


@pytest.fixture(autouse=True, scope="session")
def _heard():
    """What tests start hears of a Ctrl-C, also where the tests themselves are in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread():
    """Before each test, for one that runs a job in its process sets the job's number."""
    torch.set_num_threads(1)


@pytest.fixture
def make_dataset():
    """Factory of an image-like dataset: n samples in d dimensions, labels ±1, all float64."""

    def make(samples=12, dimensions=30, seed=0):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(samples, dimensions, dtype=torch.float64, generator=generator)
        signs = torch.ones(samples, dtype=torch.float64)
        signs[samples // 2 :] = -1.0
        coordinates, basis = compress(inputs)
        return {
            "inputs": inputs,
            "targets": signs[:, None],
            "coordinates": coordinates,
            "basis": basis,
        }

    return make


@pytest.fixture
def make_problem(make_dataset):
    """Factory of a small shard; keywords change its specification."""

    def make(dataset=None, **changes):
        return Problem(specs.spec(**changes), make_dataset() if dataset is None else dataset)

    return make
