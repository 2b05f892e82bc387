"""The devices that results come from are read from the states that were trained on them."""

import pytest
import torch

from sharpflow.errors import IntegrityError
from sharpflow.storage.provenance import trained_on
from sharpflow.storage.tensors import write_tensors

DEVICES = {"a": "cuda (NVIDIA H100)", "b": "cpu", "c": "cuda (NVIDIA H100)"}


@pytest.fixture
def states(tmp_path):
    """Files of states of three trainings on two devices."""
    for name, device in DEVICES.items():
        write_tensors(tmp_path / name / "s.safetensors", {"w": torch.ones(3)}, {"device": device})
    return [f"{name}/s.safetensors" for name in DEVICES]


def test_each_device_is_named_once(tmp_path, states):
    assert trained_on(tmp_path, states) == ["cpu", "cuda (NVIDIA H100)"]
    assert trained_on(tmp_path, states[::2]) == ["cuda (NVIDIA H100)"]
    assert trained_on(tmp_path, []) == []


def test_an_altered_file_is_not_believed(tmp_path, states):
    path = tmp_path / states[0]
    path.write_bytes(path.read_bytes().replace(b"H100", b"H200"))
    with pytest.raises(IntegrityError, match=f"{states[0]} was altered"):
        trained_on(tmp_path, states)


def test_a_file_that_is_gone_or_silent_is_named(tmp_path, states):
    write_tensors(tmp_path / states[1], {"w": torch.ones(3)})
    with pytest.raises(IntegrityError, match=f"{states[1]} is not a safetensors file of sharpflow"):
        trained_on(tmp_path, states)
    (tmp_path / states[0]).unlink()
    with pytest.raises(IntegrityError, match=f"{states[0]} is missing"):
        trained_on(tmp_path, states)
