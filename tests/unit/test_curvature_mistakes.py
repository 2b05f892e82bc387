"""Mistakes that would give a number: each is refused, in one sentence."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature import ModelCurvature, SharpnessTracker, sharpness


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(60, 5, generator=generator), torch.arange(60) % 3


def batches(data, size=16) -> DataLoader:
    return DataLoader(TensorDataset(*data), size)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], reduction="sum"),
    ],
    ids=["of torch.nn", "of model and batch"],
)
def test_a_sum_over_samples_is_no_loss_of_batches(model, data, loss):
    with pytest.raises(ValueError, match="the sum over its samples, and its mean over batches"):
        sharpness(model, loss, batches(data))


def test_a_sum_is_n_times_the_mean_where_there_is_one_batch(model, data):
    mean = sharpness(model, nn.CrossEntropyLoss(), *data)
    summed = nn.CrossEntropyLoss(reduction="sum")
    assert sharpness(model, summed, *data) == pytest.approx(60 * mean, rel=1e-3)
    assert sharpness(model, summed, batches(data, 60)) == pytest.approx(60 * mean, rel=1e-3)


def test_weights_say_what_a_sum_counts_for(model, data):
    """Of batches of one size, the mean of their sums is the size times the mean."""
    loader = batches(data, 15)
    loss = nn.CrossEntropyLoss(reduction="sum")
    tracker = SharpnessTracker(model, loss, loader, weight=lambda _: 1.0)
    mean = sharpness(model, nn.CrossEntropyLoss(), *data)
    assert float(tracker.measure().values[0]) == pytest.approx(15 * mean, rel=1e-3)


def test_a_mean_over_something_else_is_no_sum(model, data):
    """Half of the targets are ignored: the mean is over the other half, wherever they are."""
    inputs, targets = data[0], data[1].clone()
    targets[:30] = -100
    loader = batches((inputs, targets))

    def counted(batch) -> float:
        return float((batch[1] != -100).sum()) or 1.0

    loss = nn.CrossEntropyLoss(reduction="sum")
    sharpness(model, lambda m, b: loss(m(b[0]), b[1]) / counted(b), loader)


def test_a_loss_of_torch_nn_reads_pairs(model, data):
    whole = sharpness(model, nn.CrossEntropyLoss(), *data)
    assert sharpness(model, nn.CrossEntropyLoss(), batches(data)) == pytest.approx(whole, rel=1e-3)
    with pytest.raises(TypeError, match="reads batches that are pairs"):
        sharpness(model, nn.CrossEntropyLoss(), list(data))


@pytest.mark.parametrize("loss", [nn.MSELoss(), F.l1_loss, nn.HuberLoss(), F.smooth_l1_loss])
@pytest.mark.parametrize(
    "measured",
    [sharpness, lambda *given: ModelCurvature(*given).hessian()],
    ids=["sharpness", "curvature"],
)
def test_targets_that_would_be_broadcast_are_refused(loss, measured):
    inputs, targets = torch.randn(50, 5), torch.randn(50)
    for model in (nn.Linear(5, 1), nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))):
        with pytest.raises(ValueError, match=r"targets have the shape \[50\] and .* \[50, 1\]"):
            measured(model, loss, inputs, targets)


@pytest.mark.parametrize("k", [0, 7])
def test_a_number_of_pairs_is_checked_before_the_first_measurement(k):
    with pytest.raises(ValueError, match=f"k is {k}; it must be a whole number "):
        SharpnessTracker(nn.Linear(5, 1), nn.MSELoss(), torch.randn(9, 5), torch.randn(9, 1), k=k)
