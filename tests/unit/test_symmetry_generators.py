"""Generators of symmetries: their algebra, and the numerical test of a symmetry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from sharpflow.symmetry import (
    dense,
    is_symmetry,
    matrix_symmetry,
    noether_charge,
    rescaling,
    scale,
    symmetry_deviation,
    weighted,
)
from sharpflow.symmetry.generators import flatten

SEEDS = st.integers(0, 2**31 - 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(seed=0, d2=3, d=4, d0=2):
    return {"u": normal(seed, d2, d), "w": normal(seed + 1, d, d0)}


def symmetric(seed, size):
    matrix = normal(seed, size, size) / size**0.5
    return (matrix + matrix.T) / 2


def linear_loss(params, x, y):
    return (x @ params["w"].T @ params["u"].T - y).square().sum(-1)


def relu_loss(params, x, y):
    return (torch.relu(x @ params["w"].T) @ params["u"].T - y).square().sum(-1)


def tanh_loss(params, x, y):
    return (torch.tanh(x @ params["w"].T) @ params["u"].T - y).square().sum(-1)


def normalised_loss(params, x, y):
    return linear_loss({name: p / p.norm() for name, p in params.items()}, x, y)


def globally_normalised_loss(params, x, y):
    norm = flatten(params).norm()
    return tanh_loss({name: p / norm for name, p in params.items()}, x, y)


DATA = (normal(7, 6, 2), normal(8, 6, 3))
A = symmetric(3, 4)
GENERATORS = {
    "rescaling": rescaling("u", "w"),
    "matrix": matrix_symmetry("u", "w", A),
    "layer": scale(["u"]),
    "global": scale(["u", "w"]),
}


def dense_matrix(generator, params):
    """Q column by column."""
    columns = []
    for index in range(len(flatten(params))):
        unit = torch.zeros_like(flatten(params))
        unit[index] = 1
        sizes = [p.numel() for p in params.values()]
        parts = dict(zip(params, unit.split(sizes), strict=True))
        moved = generator.apply({n: parts[n].reshape(p.shape) for n, p in params.items()})
        full = {n: moved.get(n, torch.zeros_like(p)) for n, p in params.items()}
        columns.append(flatten(full))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_is_its_dense_matrix(name):
    params, generator = factors(), GENERATORS[name]
    q = dense_matrix(generator, params)
    theta = flatten(params)
    torch.testing.assert_close(q, q.T, rtol=0, atol=1e-15)
    torch.testing.assert_close(noether_charge(params, generator), theta @ q @ theta)
    torch.testing.assert_close(noether_charge(params, q), theta @ q @ theta)
    torch.testing.assert_close(noether_charge(theta, q), theta @ q @ theta)
    flowed = flatten(generator.flow(params, 0.37))
    torch.testing.assert_close(flowed, torch.linalg.matrix_exp(0.37 * q) @ theta)
    torch.testing.assert_close(flatten(dense(q).flow(params, 0.37)), flowed)


def test_charges_in_closed_form():
    params = factors()
    u, w = params["u"], params["w"]
    assert noether_charge(params, GENERATORS["rescaling"]).item() == pytest.approx(
        (u.square().sum() - w.square().sum()).item(), rel=1e-13
    )
    assert noether_charge(params, GENERATORS["matrix"]).item() == pytest.approx(
        torch.trace(A @ (u.T @ u - w @ w.T)).item(), rel=1e-13
    )
    assert noether_charge(params, weighted({"u": 2.0})).item() == pytest.approx(
        2 * u.square().sum().item(), rel=1e-13
    )


def test_charge_maps_over_runs():
    runs = [factors(seed) for seed in (0, 10, 20)]
    stacked = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    charges = vmap(lambda p: noether_charge(p, GENERATORS["matrix"]))(stacked)
    expected = torch.stack([noether_charge(run, GENERATORS["matrix"]) for run in runs])
    torch.testing.assert_close(charges, expected)


@pytest.mark.parametrize(
    ("loss", "name", "holds"),
    [
        (linear_loss, "rescaling", True),
        (linear_loss, "matrix", True),
        (linear_loss, "global", False),
        (relu_loss, "rescaling", True),
        (relu_loss, "matrix", False),
        (tanh_loss, "rescaling", False),
        (normalised_loss, "layer", True),
        (normalised_loss, "global", True),
        (globally_normalised_loss, "global", True),
        (globally_normalised_loss, "layer", False),
    ],
)
def test_symmetry_is_told_from_none(loss, name, holds):
    deviation = symmetry_deviation(loss, factors(), GENERATORS[name], *DATA)
    assert is_symmetry(loss, factors(), GENERATORS[name], *DATA) is holds
    assert deviation < 1e-12 if holds else deviation > 1e-3


def test_symmetry_in_single_precision():
    params = {name: p.float() for name, p in factors().items()}
    data = [tensor.float() for tensor in DATA]
    assert is_symmetry(linear_loss, params, GENERATORS["matrix"], *data)
    assert not is_symmetry(tanh_loss, params, GENERATORS["rescaling"], *data)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_each_gradient_is_orthogonal_to_the_orbit(seed):
    """gᵀ Q θ = 0 for each sample: the term of first order in η that a step would have."""
    params, q = factors(seed), matrix_symmetry("u", "w", symmetric(seed, 4))
    x, y = normal(seed + 2, 2), normal(seed + 3, 3)
    gradient = grad(linear_loss)(params, x, y)
    moved = q.apply(params)
    product = sum((gradient[name] * moved[name]).sum() for name in moved)
    size = flatten(gradient).norm() * flatten(moved).norm()
    assert abs(product) <= 1e-13 * size


def test_loss_leaving_the_finite_numbers_is_no_symmetry():
    def loss(params):
        return 1 + torch.log(2 - params["u"].sum()) * 0

    deviation = symmetry_deviation(loss, {"u": torch.ones(1)}, scale(["u"]), strengths=(2.0,))
    assert deviation == float("inf")


def test_errors_name_the_argument():
    params = factors()
    with pytest.raises(ValueError, match="q must be symmetric"):
        noether_charge(params, normal(0, 20, 20))
    with pytest.raises(ValueError, match="q must be a square"):
        dense(normal(0, 3, 4))
    with pytest.raises(ValueError, match="q must be one matrix"):
        dense(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="q is 5 × 5 but there are 20"):
        noether_charge(params, torch.eye(5, dtype=torch.float64))
    with pytest.raises(ValueError, match="q must be a Generator"):
        noether_charge(params, "rescaling")
    with pytest.raises(ValueError, match="a must be symmetric"):
        matrix_symmetry("u", "w", normal(0, 4, 4))
    with pytest.raises(ValueError, match="a is 3 × 3"):
        noether_charge(params, matrix_symmetry("u", "w", torch.eye(3)))
    with pytest.raises(ValueError, match="two different"):
        rescaling("u", "u")
    with pytest.raises(ValueError, match="acts on z"):
        noether_charge(params, rescaling("u", "z"))
    with pytest.raises(ValueError, match="names must be a collection"):
        scale("u")
    with pytest.raises(ValueError, match="weights must name"):
        scale([])
    with pytest.raises(ValueError, match="q must be finite"):
        dense(torch.full((2, 2), torch.nan))


def test_random_loss_is_refused():
    def loss(params, x):
        return torch.dropout(x @ params["w"].T, 0.5, True).sum()

    with pytest.raises(ValueError, match="deterministic"):
        symmetry_deviation(loss, factors(), scale(["u"]), normal(5, 50, 2))
    with pytest.raises(ValueError, match="finite at params"):
        symmetry_deviation(lambda p: p["u"].sum() / 0, factors(), scale(["u"]))
