"""Operators stay at the state that they were made at; what they cannot keep is refused."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sharpflow.curvature import (
    LinearOperator,
    ModelCurvature,
    SharpnessTracker,
    diagonal,
    frobenius_norm,
    participation_ratio,
    sharpness,
    spectral_density,
    stable_rank,
    trace,
)

N = 24
OPERATORS = [
    "hessian",
    "gauss_newton",
    "empirical_fisher",
    "noise_covariance",
    "monte_carlo_fisher",
    "neural_tangent_kernel",
]


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(N, 5).double(), torch.randint(0, 3, (N,))


def outputs_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return model(batch[0])


def curvature(form: str, model: nn.Module, **options) -> ModelCurvature:
    x, y = data()
    if form == "batches":
        batches = [(x[:10], y[:10]), (x[10:], y[10:])]
        return ModelCurvature(model, nn.CrossEntropyLoss(), batches, forward=outputs_of, **options)
    micro = 10 if form == "parts" else None
    return ModelCurvature(model, nn.CrossEntropyLoss(), x, y, micro_batch=micro, **options)


def train(model: nn.Module) -> None:
    x, y = data()
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()


def net(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), *between, nn.Tanh(), nn.Linear(6, 3)).double()


@pytest.mark.parametrize("form", ["whole", "parts", "batches"])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_keeps_buffers_and_modes(name, form):
    """The model has other statistics afterwards, and dropout that draws."""
    model = net(nn.BatchNorm1d(6), nn.Dropout(0.5))
    model(data()[0])
    operator = getattr(curvature(form, model.eval()), name)()
    vector = torch.randn(operator.shape[0], dtype=torch.float64)
    before = operator @ vector
    train(model)
    drawn = torch.get_rng_state()
    torch.testing.assert_close(operator @ vector, before, rtol=1e-12, atol=1e-14)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("form", ["whole", "parts", "batches"])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_of_some_parameters_refuses_others_that_have_changed(name, form):
    model = net()
    operator = getattr(curvature(form, model, only="0.*"), name)()
    vector = torch.randn(operator.shape[0], dtype=torch.float64)
    before = operator @ vector
    with torch.no_grad():
        model[0].weight.add_(1.0)  # one that varies, of which there is a copy
    torch.testing.assert_close(operator @ vector, before, rtol=1e-12, atol=1e-14)
    train(model)
    with pytest.raises(ValueError, match="the model was changed since this operator was made"):
        operator @ vector


# --- tied parameters


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.middle = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(self.words(tokens))))


@pytest.mark.parametrize("only", ["head.*", "head.weight", ["words.weight"]])
def test_a_tied_parameter_is_meant_by_any_of_its_names(only):
    torch.manual_seed(0)
    model = Tied().double()
    tokens, targets = torch.randint(0, 7, (2, 30))
    names = ["words.weight"] + ["head.bias"] * (only == "head.*")
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    sizes = [params[name].numel() for name in names]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), strict=True)
        moved = params | {name: part.view_as(params[name]) for name, part in parts}
        return F.cross_entropy(functional_call(model, moved, (tokens,)), targets)

    flat = torch.cat([params[name].reshape(-1) for name in names])
    dense = torch.autograd.functional.hessian(loss, flat)
    found = ModelCurvature(model, nn.CrossEntropyLoss(), tokens, targets, only=only).hessian()
    torch.testing.assert_close(found.to_dense(), dense)
    value = sharpness(model, nn.CrossEntropyLoss(), tokens, targets, only=only)
    assert value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-4)


# --- what is no symmetric matrix


def skewed(size: int = 700) -> LinearOperator:
    """A symmetric matrix with as much beside it as the wrong second derivative of a kernel has."""
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double()
    matrix = matrix @ matrix.T / size + 0.05 * (matrix - matrix.T)
    return LinearOperator(size, lambda v: matrix @ v, torch.float64, "cpu", lambda v: matrix @ v)


ESTIMATES = {
    "trace": trace,
    "trace, Hutch++": lambda operator: trace(operator, basis_size=4),
    "trace, Hutchinson": lambda operator: trace(operator, basis_size=0),
    "norm": frobenius_norm,
    "diagonal": diagonal,
    "diagonal without a basis": lambda operator: diagonal(operator, basis_size=0),
    "participation": participation_ratio,
    "rank": lambda operator: stable_rank(operator, tol=0.5),
    "density": spectral_density,
}


@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
def test_estimates_refuse_products_that_are_not_symmetric(estimate):
    with pytest.raises(ValueError, match="not those of a symmetric matrix"):
        estimate(skewed())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
def test_estimates_take_rounding_for_no_asymmetry(estimate, dtype):
    """Also where the eigenvalues add up to nothing, beside which rounding is large."""
    scale = torch.logspace(0, -4, 700, dtype=torch.float64)
    values = torch.where(torch.arange(700) % 2 == 0, scale, -scale.roll(1))
    basis = torch.linalg.qr(torch.randn(700, 700, generator=torch.Generator().manual_seed(0)))[0]
    matrix = ((basis.double() * values) @ basis.double().T).to(dtype)
    estimate(LinearOperator(700, lambda v: matrix @ v, dtype, "cpu", lambda v: matrix @ v))


# --- drawn targets, second moments of another mode, arithmetic


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_targets_are_not_drawn_from_classes_that_the_loss_ignores(reduction):
    torch.manual_seed(0)
    x, y = torch.randn(20, 5).double(), torch.randint(1, 4, (20, 6))
    model = nn.Sequential(nn.Linear(5, 24), nn.Unflatten(1, (4, 6))).double()
    loss = nn.CrossEntropyLoss(ignore_index=0, reduction=reduction)
    with pytest.raises(ValueError, match=r"ignores class 0.* ignore_index=-100"):
        ModelCurvature(model, loss, x, y).monte_carlo_fisher()
    outside = nn.CrossEntropyLoss(reduction=reduction)
    found = ModelCurvature(model, outside, x, y)
    share = 20 if reduction == "sum" else 1
    matrix, wanted = found.monte_carlo_fisher(400).to_dense(), found.gauss_newton().to_dense()
    assert float(matrix.trace()) == pytest.approx(float(wanted.trace()) / share, rel=0.02)


def test_second_moments_of_another_mode_are_told_once():
    """A bias in front of a batch norm has no gradient in training mode, and curvature without."""
    x, y = data()
    model = net(nn.BatchNorm1d(6))
    optimiser = torch.optim.Adam(model.parameters())
    for _ in range(5):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    tracker = SharpnessTracker(model, nn.CrossEntropyLoss(), x, y, optimiser=optimiser)
    training = float(tracker.measure().values[0])
    other = SharpnessTracker(model.eval(), nn.CrossEntropyLoss(), x, y, optimiser=optimiser)
    with pytest.warns(UserWarning, match=r"1 is a batch norm in evaluation mode.* means nothing"):
        measured = other.measure()
    assert float(measured.values[0]) > 100 * training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.measure()


def test_arithmetic_with_what_is_no_number_or_operator_is_refused():
    operator = LinearOperator.from_dense(torch.eye(3))
    for wrong in (operator, 1j, torch.ones(3), "2", None, float("nan"), True):
        with pytest.raises(TypeError, match="multiplied by a finite number"):
            operator * wrong
    for wrong in (1, None):
        with pytest.raises(TypeError, match="cannot be added"):
            operator + wrong
    with pytest.raises(TypeError, match="factors is a float"):
        operator.scaled(2.0)
    ones = torch.ones(3)
    assert torch.equal(sum([operator, operator]) @ ones, 2 * ones)
    assert torch.equal((operator / 2) @ ones, ones / 2)
    with pytest.raises(ZeroDivisionError):
        operator / 0
    with pytest.raises(ValueError, match=r"grid has the shape \(\)"):
        spectral_density(LinearOperator.from_dense(torch.eye(9))).smoothed(0.0, 1.0)


@pytest.mark.parametrize("products", ["autograd", "differences"])
def test_a_loaded_tracker_goes_on_to_the_last_bit(products):
    torch.manual_seed(0)
    x, y = torch.randn(40, 5), torch.randn(40, 2)
    model = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 2))
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    tracker = SharpnessTracker(model, F.mse_loss, x, y, products=products)
    for _ in range(5):
        tracker.measure()
        optimiser.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimiser.step()
    other = SharpnessTracker(model, F.mse_loss, x, y, products=products)
    other.load_state_dict(tracker.state_dict())
    first, second = tracker.measure(), other.measure()
    assert torch.equal(first.values, second.values)
    assert first.matvecs == second.matvecs
