"""Differences of gradients in place of second derivatives, where they are near enough."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpflow.curvature import SharpnessTracker, hessian_operator
from sharpflow.curvature.shortcut import Shortcut

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
        model, F.cross_entropy, *data, k=count, accuracy=ACCURACY, check_every=20
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
    assert used == 4
    model.ripple = 50.0  # a second derivative of 50 that is gone 2e-4 from here
    found = [float(tracker.measure().values[0]) for _ in range(5)]
    assert found[-1] == pytest.approx(52.0, rel=ACCURACY)


def test_vectors_that_differences_found_from_a_far_start_are_not_trusted(data, monkeypatch):
    """Autograd starts from them, at no other state than they were found at."""
    loss, model = cross_entropy(data), network()
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
    tracker.measure()
    tracker.measure()
    assert tracker.shortcuts == 2
    monkeypatch.setattr(Shortcut, "confirm", lambda *_: False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
            )
    found = tracker.measure()
    assert tracker.shortcuts == 2
    assert found.error_kind == "residual"
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=ACCURACY)


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
    assert tracker.shortcuts == 3
    model[0].requires_grad_(requires_grad=True)
    found = tracker.measure()
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=ACCURACY)
    assert found.vectors.shape[0] == sum(p.numel() for p in model.parameters())
    tracker.measure()
    assert tracker.shortcuts == 5


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_random_start_is_measured_by_gradients_and_two_products(data, count, kind):
    model, loss = network().to(kind), cross_entropy(data)
    found = [
        SharpnessTracker(
            model, F.cross_entropy, data[0].to(kind), data[1], k=count, accuracy=ACCURACY,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in range(4)
    ]  # fmt: skip
    exact = top(model, loss, count)
    for tracker in found:
        result = tracker.measure()
        assert result.converged
        assert tracker.shortcuts == 1
        assert float(result.errors.max()) <= ACCURACY
        assert float(((result.values - exact).abs() / exact).max()) <= ACCURACY
        assert 0 <= tracker.verified["finite_difference"] <= ACCURACY / 5


def test_the_value_is_autograds_quotient_of_the_vector(data):
    """To six digits, which a float32 sum of 100,000 products misses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 300), nn.GELU(), nn.Linear(300, 300), nn.Tanh(),
                          nn.Linear(300, 2))  # fmt: skip
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
    found = tracker.measure()
    assert tracker.shortcuts == 1
    double = copy.deepcopy(model).double()
    operator = hessian_operator(
        lambda p: F.cross_entropy(functional_call(double, p, (data[0].double(),)), data[1]),
        dict(double.named_parameters()),
    )
    vector = found.vectors[:, 0].double()
    image = operator.matvec(vector)
    quotient = float(vector @ image / vector.square().sum())
    assert float(found.values[0]) == pytest.approx(quotient, rel=5e-6)
    residual = float((image - quotient * vector).norm())
    assert float(found.residuals[0]) == pytest.approx(residual, rel=1e-2)


class Wrong(torch.autograd.Function):
    """x³ whose second derivative is half of what it is."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        fixed = x.detach()
        return grad * 3 * (0.5 * x.square() + 0.5 * fixed.square())


def test_a_wrong_second_derivative_is_not_covered_up(data):
    """Autograd disagrees with gradients at the first product, and then as it did before."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 1))
    tracker = SharpnessTracker(
        model, lambda f, y: Wrong.apply(f + 1).mean(), *data, accuracy=ACCURACY
    )
    with pytest.raises(ValueError, match="second derivative"):
        tracker.measure()
    assert tracker.shortcuts == 0


def test_differences_that_are_wrong_along_the_eigenvector_are_thrown_away(data, monkeypatch):
    """Whatever a first product says: the last one finds it, and autograd measures."""
    model, loss = network(), cross_entropy(data)
    multiply = Shortcut._differences

    def spoiled(self, *given):
        operator = multiply(self, *given)
        product, made = operator._product, []

        def wrong(vector):
            made.append(vector)
            return product(vector) * (1.0 if len(made) == 1 else 1.05)

        operator._product = wrong
        return operator

    monkeypatch.setattr(Shortcut, "_differences", spoiled)
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
    found = tracker.measure()
    assert tracker.shortcuts == 0
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=ACCURACY)


def test_batches_of_unequal_size_from_a_random_start(data):
    model, loss = network(), cross_entropy(data)
    sizes = [15, 15, 7, 3]
    batches = list(zip(*(each.split(sizes) for each in data), strict=True))

    def of_batch(m, batch):
        return F.cross_entropy(m(batch[0]), batch[1])

    tracker = SharpnessTracker(model, of_batch, batches, accuracy=ACCURACY)
    found = tracker.measure()
    assert tracker.shortcuts == 1
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=ACCURACY)


def test_a_limit_on_products_holds_for_a_random_start(data):
    for most in (2, 4, 6, 9):
        tracker = SharpnessTracker(
            network(), F.cross_entropy, *data, accuracy=1e-3, max_products=most
        )
        assert tracker.measure().matvecs <= most


def test_an_accuracy_that_rounding_hides_is_left_to_autograd(data):
    model, loss = network(), cross_entropy(data)
    tracker = SharpnessTracker(model, F.cross_entropy, *data, accuracy=1e-5)
    found = tracker.measure()
    assert tracker.shortcuts == 0
    assert found.converged
    assert float(found.values[0]) == pytest.approx(float(top(model, loss)[0]), rel=1e-5)


def test_a_random_loss_is_refused_as_before(data):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="random"):
        SharpnessTracker(model, F.cross_entropy, *data, accuracy=ACCURACY)
