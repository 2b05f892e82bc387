"""Losses and their derivatives against `torch.nn.functional` and automatic differentiation."""

import pytest
import torch
from torch.nn import functional as F

from sharpflow.parts.loading import load
from sharpflow.parts.registry import Registry

RUNS, ROWS = 2, 5
CASES = {
    "mse": ("mse", {}),
    "binary_cross_entropy": ("binary_cross_entropy", {}),
    "cross_entropy": ("cross_entropy", {"label_smoothing": 0.0}),
    "smoothed cross_entropy": ("cross_entropy", {"label_smoothing": 0.2}),
}


def loss_of(case):
    name, options = CASES[case]
    return load("losses", name).build(options)


def classes(outputs):
    source = torch.Generator().manual_seed(1)
    return torch.randint(outputs, (ROWS,), generator=source)


def targets_of(case, outputs):
    source = torch.Generator().manual_seed(2)
    if case == "mse":
        return torch.randn(ROWS, outputs, dtype=torch.float64, generator=source)
    if case == "binary_cross_entropy":
        return 2.0 * torch.randint(2, (ROWS, outputs), generator=source).double() - 1.0
    return F.one_hot(classes(outputs), outputs).double()


def reference(case, outputs, targets):
    """Of one run, from (m, k)."""
    if case == "mse":
        return F.mse_loss(outputs, targets, reduction="sum") / ROWS
    if case == "binary_cross_entropy":
        labels = (targets + 1.0) / 2.0
        return F.binary_cross_entropy_with_logits(outputs, labels, reduction="sum") / ROWS
    smoothing = CASES[case][1]["label_smoothing"]
    return F.cross_entropy(outputs, classes(outputs.shape[-1]), label_smoothing=smoothing)


def drawn(outputs):
    source = torch.Generator().manual_seed(3)
    return 2.0 * torch.randn(RUNS, ROWS, outputs, dtype=torch.float64, generator=source)


def test_every_loss_has_a_reference_here():
    assert set(Registry().parts("losses")) == {name for name, _ in CASES.values()}


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_value_slope_and_curvature(case, outputs):
    loss, targets, f = loss_of(case), targets_of(case, outputs), drawn(outputs)
    value = torch.stack([reference(case, run, targets) for run in f])
    torch.testing.assert_close(loss(f, targets), value, rtol=1e-12, atol=1e-14)
    slope = torch.autograd.functional.jacobian(lambda x: loss.rows(x, targets).sum(), f)
    torch.testing.assert_close(loss.slope(f, targets), slope, rtol=1e-12, atol=1e-14)
    whole = torch.autograd.functional.hessian(lambda x: loss.rows(x, targets).sum(), f)
    blocks = torch.einsum("rmarmb->rmab", whole)
    curvature = loss.curvature(f, targets)
    found = torch.diag_embed(curvature) if loss.diagonal else curvature
    torch.testing.assert_close(found, blocks, rtol=1e-10, atol=1e-14)


def test_cross_entropy_takes_any_distribution_for_a_target():
    f, source = drawn(3)[0], torch.Generator().manual_seed(4)
    targets = torch.rand(ROWS, 3, dtype=torch.float64, generator=source).softmax(-1)
    for case in ("cross_entropy", "smoothed cross_entropy"):
        smoothing = CASES[case][1]["label_smoothing"]
        expected = F.cross_entropy(f, targets, label_smoothing=smoothing)
        torch.testing.assert_close(loss_of(case)(f, targets), expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("case", [case for case in CASES if case != "mse"])
def test_extreme_outputs_give_finite_numbers(case):
    loss, f = loss_of(case), torch.tensor([[800.0, -800.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[-1.0, 1.0, 1.0]] if "binary" in case else [[0.0, 1.0, 0.0]]).double()
    for tensor in (loss(f, targets), loss.slope(f, targets), loss.curvature(f, targets)):
        assert torch.isfinite(tensor).all()
    assert loss(f, targets) > 500.0
