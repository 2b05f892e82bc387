"""Differences of gradients in place of second derivatives, where they are near enough."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpflow.curvature import SharpnessTracker, hessian_operator

ACCURACY = 0.01


@pytest.fixture
def data():
    stream = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 6, generator=stream)
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()


def network(activation=nn.GELU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), activation(), nn.LayerNorm(16), nn.Linear(16, 2))


def descend(model, loss, learning_rate=0.5):
    slopes = torch.autograd.grad(loss(model), list(model.parameters()))
    with torch.no_grad():
        for parameter, slope in zip(model.parameters(), slopes, strict=True):
            parameter -= learning_rate * slope


def top(model, loss, count=1, scaling=None):
    double = copy.deepcopy(model).double()
    params = dict(double.named_parameters())
    dense = hessian_operator(lambda p: loss(lambda *x: functional_call(double, p, x)), params)
    dense = dense.to_dense()
    if scaling is not None:
        dense = scaling.double()[:, None] * dense * scaling.double()
    return torch.linalg.eigvalsh(dense).flip(0)[:count]


def cross_entropy(data):
    inputs, targets = data

    def loss(model):
        kind = torch.float64 if callable(model) and not isinstance(model, nn.Module) else None
        return F.cross_entropy(model(inputs.to(kind or inputs.dtype)), targets)

    return loss


def follow(tracker, model, loss, steps=40, count=1):
    """The largest relative error along a trajectory, over the largest eigenvalue."""
    worst = 0.0
    for _ in range(steps):
        found = tracker.measure()
        assert found.converged
        exact = top(model, loss, count)
        worst = max(worst, float(((found.values - exact).abs() / exact[0]).max()))
        descend(model, loss)
    return worst


@pytest.mark.parametrize("count", [1, 3])
def test_a_smooth_loss_is_followed_by_gradients_alone_within_the_accuracy(data, count):
    model, loss = network(), cross_entropy(data)
    tracker = SharpnessTracker(
        model, F.cross_entropy, *data, count, accuracy=ACCURACY, check_every=20
    )
    assert follow(tracker, model, loss, count=count) <= ACCURACY
    assert tracker.shortcuts >= 35  # all but the cold checks, and what follows a refusal


@pytest.mark.parametrize(("width", "samples"), [(16, 40), (16, 400), (200, 1000)])
def test_kinks_do_no_harm(width, samples):
    stream = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 6, generator=stream)
    data = inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))
    loss = cross_entropy(data)
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
    assert follow(tracker, model, loss, 40 if samples < 1000 else 4) <= ACCURACY


@pytest.mark.parametrize("option", [{"accuracy": 0.01, "products": "autograd"}, {"tol": 1e-2}])
def test_autograd_is_used_where_it_is_asked_for_or_no_accuracy_is(data, option):
    model, loss = network(), cross_entropy(data)
    tracker = SharpnessTracker(model, F.cross_entropy, *data, **option)
    for _ in range(4):
        tracker.measure()
        descend(model, loss)
    assert tracker.shortcuts == 0


class Rough(nn.Module):
    """Of one direction the curvature is that of a ripple, too fine for float32's differences."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([0.0, 30.0]))
        self.ripple = 0.0

    def forward(self, x):
        first, second = self.place
        wave = 3e3
        ripple = self.ripple * (1 - torch.cos(wave * first)) / wave**2
        return (first.square() + 0.1 * second.square() + ripple).expand(len(x))


def test_a_loss_that_is_rough_is_measured_by_autograd(data):
    model = Rough()
    model.ripple = 50.0
    tracker = SharpnessTracker(model, lambda f, y: f.mean(), *data, accuracy=ACCURACY)
    for _ in range(4):
        assert float(tracker.measure().values[0]) == pytest.approx(52.0, rel=ACCURACY)
    assert tracker.shortcuts == 0


def test_a_loss_that_becomes_rough_is_noticed(data):
    model = Rough()
    tracker = SharpnessTracker(model, lambda f, y: f.mean(), *data, accuracy=ACCURACY)
    for _ in range(4):
        assert float(tracker.measure().values[0]) == pytest.approx(2.0, rel=ACCURACY)
    used = tracker.shortcuts
    assert used == 3
    model.ripple = 50.0  # a second derivative of 50 that is gone 2e-4 from here
    found = [float(tracker.measure().values[0]) for _ in range(5)]
    assert found[-1] == pytest.approx(52.0, rel=ACCURACY)


def test_adams_metric_and_batches(data):
    model, loss = network(), cross_entropy(data)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(5):
        optimiser.zero_grad()
        loss(model).backward()
        optimiser.step()
    batches = list(zip(*(each.split(15) for each in data), strict=True))
    tracker = SharpnessTracker(
        model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), batches, accuracy=ACCURACY,
        optimiser=optimiser,
    )  # fmt: skip
    for _ in range(6):
        found = tracker.measure()
        scaling = tracker._scaling
        assert float(found.values[0]) == pytest.approx(
            float(top(model, loss, scaling=scaling)[0]), rel=ACCURACY
        )
        optimiser.zero_grad()
        loss(model).backward()
        optimiser.step()
    assert tracker.shortcuts >= 4


def test_a_tracker_goes_on_to_the_last_bit(data):
    model, loss = network(), cross_entropy(data)
    make = lambda: SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)  # noqa: E731
    tracker = make()
    for _ in range(5):
        tracker.measure()
        descend(model, loss)
    state = copy.deepcopy(tracker.state_dict())
    other = make()
    other.load_state_dict(state)
    for _ in range(4):
        first, second = tracker.measure(), other.measure()
        assert torch.equal(first.values, second.values)
        assert torch.equal(first.vectors, second.vectors)
        descend(model, loss)
    assert tracker.shortcuts == other.shortcuts > 5


def test_a_pair_that_is_near_is_followed_too_and_may_overtake():
    model = nn.Linear(3, 1, bias=False).double()
    scales = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.95, 0.0], [0.0, 0.0, 0.1]]).double()
    inputs = scales.clone()
    tracker = SharpnessTracker(
        model, lambda f, y: f.square().sum(), inputs, torch.zeros(3, 1).double(), accuracy=1e-3,
        check_every=1000,
    )  # fmt: skip
    for step in range(6):
        inputs[1, 1] = 1.95 + 0.04 * step  # overtakes after the second step
        found = tracker.measure()
        expected = 2 * max(2.0, 1.95 + 0.04 * step) ** 2
        assert found.values.shape == (1,)
        assert found.vectors.shape == (3, 1)
        assert float(found.values[0]) == pytest.approx(expected, rel=1e-3)
    assert tracker.corrections == 0


def test_parameters_that_are_freed_are_noticed(data):
    model, loss = network(), cross_entropy(data)
    model[0].requires_grad_(requires_grad=False)
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
    for _ in range(3):
        tracker.measure()
    assert tracker.shortcuts == 2
    model[0].requires_grad_(requires_grad=True)
    found = tracker.measure()
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=ACCURACY)
    assert found.vectors.shape[0] == sum(p.numel() for p in model.parameters())
    tracker.measure()
    assert tracker.shortcuts == 3
