"""Closed forms of the two-layer linear net: against exact quadrature and dense derivatives."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian
from torch.func import grad

from sharpflow.symmetry import (
    alignment,
    gammas,
    gaussian_gammas,
    hessian_trace,
    noise_imbalance,
    population_gradient,
    population_loss,
    residual_gammas,
    weighted_grams,
)

SEEDS = st.integers(0, 2**31 - 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed, size):
    root = normal(seed, size, size)
    return root @ root.T / size


def setting(seed=0, d2=2, d=4, d0=2):
    return {
        "u": normal(seed, d2, d),
        "w": normal(seed + 1, d, d0),
        "teacher": normal(seed + 2, d2, d0),
        "sigma_x": covariance(seed + 3, d0),
        "sigma_noise": covariance(seed + 4, d2),
    }


def quadrature(sigma_x, sigma_noise):
    """Equally weighted points on which every polynomial up to degree 5 has its Gaussian mean.

    Gauss-Hermite with three nodes has weights 1/6, 2/3, 1/6: the middle one is taken four times.
    """
    node = 3**0.5
    size = len(sigma_x) + len(sigma_noise)
    nodes = [-node, 0.0, 0.0, 0.0, 0.0, node]
    points = torch.tensor(list(itertools.product(nodes, repeat=size)), dtype=torch.float64)
    x, noise = points.split([len(sigma_x), len(sigma_noise)], 1)
    return x @ torch.linalg.cholesky(sigma_x).T, noise @ torch.linalg.cholesky(sigma_noise).T


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_gaussian_gammas_and_those_of_samples_agree_on_a_quadrature(seed):
    s = setting(seed)
    x, noise = quadrature(s["sigma_x"], s["sigma_noise"])
    closed = gaussian_gammas(**s)
    sampled = gammas(s["u"], s["w"], x, x @ s["teacher"].T + noise)
    for left, right in zip(closed, sampled, strict=True):
        assert (left - right).abs().max() <= 1e-12 * left.abs().max()
        assert torch.equal(right, right.T)


def test_gaussian_gammas_against_monte_carlo():
    s = setting(3, d2=3, d=4, d0=5)
    count = 200_000
    x = normal(11, count, 5) @ torch.linalg.cholesky(s["sigma_x"]).T
    noise = normal(12, count, 3) @ torch.linalg.cholesky(s["sigma_noise"]).T
    sampled = gammas(s["u"], s["w"], x, x @ s["teacher"].T + noise)
    for left, right in zip(gaussian_gammas(**s), sampled, strict=True):
        assert (left - right).norm() < 0.03 * left.norm()


def test_gammas_by_their_definition_and_over_runs():
    u, w = normal(0, 3, 2, 4), normal(1, 3, 4, 5)
    x, y = normal(2, 3, 6, 5), normal(3, 3, 6, 2)
    gamma_u, gamma_w = gammas(u, w, x, y)
    for run in range(3):
        expected_u, expected_w = torch.zeros(2, 2).double(), torch.zeros(5, 5).double()
        for one_x, one_y in zip(x[run], y[run], strict=True):
            r = u[run] @ w[run] @ one_x - one_y
            expected_u += one_x.dot(one_x) * torch.outer(r, r) / 6
            expected_w += r.dot(r) * torch.outer(one_x, one_x) / 6
        torch.testing.assert_close(gamma_u[run], expected_u)
        torch.testing.assert_close(gamma_w[run], expected_w)
    residuals = x @ w.mT @ u.mT - y
    torch.testing.assert_close(residual_gammas(x, residuals), (gamma_u, gamma_w))


def test_closed_forms_over_runs():
    s = setting()
    u, w = normal(5, 3, 2, 4), normal(6, 3, 4, 2)
    rest = {name: s[name] for name in ("teacher", "sigma_x", "sigma_noise")}
    gamma_u, gamma_w = gaussian_gammas(u, w, **rest)
    grams = weighted_grams(u, w, gamma_u, gamma_w)
    assert gamma_u.shape == gamma_w.shape == (3, 2, 2)
    for run in range(3):
        one = gaussian_gammas(u[run], w[run], **rest)
        torch.testing.assert_close((gamma_u[run], gamma_w[run]), one)
        for batched, single in (
            (hessian_trace(u, w, s["sigma_x"]), hessian_trace(u[run], w[run], s["sigma_x"])),
            (noise_imbalance(u, w, gamma_u, gamma_w), noise_imbalance(u[run], w[run], *one)),
            (population_loss(u, w, **rest), population_loss(u[run], w[run], **rest)),
            (alignment(*grams), alignment(*weighted_grams(u[run], w[run], *one))),
        ):
            assert batched.shape == (3,)
            torch.testing.assert_close(batched[run], single)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_derivatives_of_the_population_loss(seed):
    s = setting(seed, d2=3, d=2, d0=4)
    x, noise = quadrature(s["sigma_x"][:2, :2], s["sigma_noise"][:1, :1])
    mean = (noise**2).mean() + ((x @ s["teacher"][:1, :2].T - x @ s["w"][:1, :2].T) ** 2).mean()
    small = population_loss(
        torch.ones(1, 1).double(),
        s["w"][:1, :2],
        s["teacher"][:1, :2],
        s["sigma_x"][:2, :2],
        s["sigma_noise"][:1, :1],
    )
    torch.testing.assert_close(small, mean)

    def flat_loss(flat):
        u, w = flat[:6].reshape(3, 2), flat[6:].reshape(2, 4)
        return population_loss(u, w, s["teacher"], s["sigma_x"], s["sigma_noise"])

    theta = torch.cat([s["u"].flatten(), s["w"].flatten()])
    gradient = torch.cat(
        [g.flatten() for g in population_gradient(s["u"], s["w"], s["teacher"], s["sigma_x"])]
    )
    torch.testing.assert_close(gradient, grad(flat_loss)(theta), rtol=1e-11, atol=1e-11)
    trace = hessian(flat_loss, theta).trace()
    torch.testing.assert_close(
        hessian_trace(s["u"], s["w"], s["sigma_x"]), trace, rtol=1e-12, atol=0
    )


def test_imbalance_and_alignment_at_their_ends():
    eye = torch.eye(2, dtype=torch.float64)
    zero = torch.zeros_like(eye)
    assert noise_imbalance(eye, eye, eye, eye) == 0
    assert noise_imbalance(eye, zero, eye, eye) == 1
    assert noise_imbalance(zero, zero, eye, eye) == 0
    assert noise_imbalance(2 * eye, eye, eye, eye) == pytest.approx(0.6)
    assert alignment(eye, 3 * eye) == pytest.approx(1)
    assert alignment(eye, -eye) == pytest.approx(-1)
    assert alignment(eye, eye.flip(0)) == 0
    assert alignment(eye, zero) == 0
    diverged = noise_imbalance(
        torch.stack([eye, eye * torch.nan]), torch.stack([eye, eye]), eye, eye
    )
    assert diverged[0] == 0
    assert diverged[1].isnan()


def test_errors_name_the_argument():
    s = setting(d2=3, d=4, d0=5)
    x, y = normal(0, 6, 5), normal(1, 6, 3)
    with pytest.raises(ValueError, match="u and w must be"):
        gammas(s["u"], s["w"][:3], x, y)
    with pytest.raises(ValueError, match="inputs must have shape"):
        gammas(s["u"], s["w"], x[:, :4], y)
    with pytest.raises(ValueError, match="targets must have shape"):
        gammas(s["u"], s["w"], x, y[:5])
    with pytest.raises(ValueError, match="inputs and targets must be"):
        residual_gammas(x, y[:5])
    with pytest.raises(ValueError, match="at least one sample"):
        residual_gammas(x[:0], y[:0])
    with pytest.raises(ValueError, match="teacher must have shape"):
        gaussian_gammas(**{**s, "teacher": s["teacher"].T})
    with pytest.raises(ValueError, match="sigma_x must be 5 × 5"):
        gaussian_gammas(**{**s, "sigma_x": s["sigma_noise"]})
    with pytest.raises(ValueError, match="sigma_x must be symmetric"):
        hessian_trace(s["u"], s["w"], s["sigma_x"] + normal(2, 5, 5))
    with pytest.raises(ValueError, match="sigma_noise must be positive semi-definite"):
        gaussian_gammas(**{**s, "sigma_noise": -s["sigma_noise"]})
    with pytest.raises(ValueError, match="sigma_noise must have a floating"):
        gaussian_gammas(**{**s, "sigma_noise": torch.eye(3, dtype=torch.int64)})
    with pytest.raises(ValueError, match="gamma_w must have shape"):
        noise_imbalance(s["u"], s["w"], torch.eye(3), torch.eye(3))
    with pytest.raises(ValueError, match="b must have shape"):
        alignment(x, y)
