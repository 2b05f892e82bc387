"""The noise equilibrium: its identities, its uniqueness, and SGD against it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.symmetry import (
    gammas,
    noise_equilibrium,
    noise_imbalance,
    plain_balance,
    stationary_gammas,
    weighted_grams,
)
from sharpflow.symmetry.predictions import gaussian_equilibrium, norm_ratio, weight_decay_shift

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.integers(1, 6)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed, size, rank=None):
    """Eigenvalues in [0.1, 10] in a random basis; `rank` of them, the others zero."""
    basis = torch.linalg.qr(normal(seed, size, size)).Q
    values = 10 ** torch.linspace(-1, 1, size, dtype=torch.float64)
    if rank is not None:
        values[rank:] = 0
    matrix = basis * values @ basis.T
    return (matrix + matrix.T) / 2


def square_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def geometric_mean(a, b):
    """The only positive definite S with S a⁻¹ S = b."""
    root = square_root(a)
    inverse = torch.linalg.inv(root)
    return root @ square_root(inverse @ b @ inverse) @ root


def assert_equilibrium(v, gamma_u, gamma_w, u, w, tolerance=1e-12):
    assert (u @ w - v).norm() <= tolerance * v.norm()
    assert noise_imbalance(u, w, gamma_u, gamma_w) <= tolerance


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, d2=SIZES, d0=SIZES, rank=SIZES, extra=st.integers(0, 3))
def test_identities_for_any_shape_rank_and_width(seed, d2, d0, rank, extra):
    rank = min(rank, d2, d0)
    left, right = (
        torch.linalg.qr(normal(seed, d2, rank)).Q,
        torch.linalg.qr(normal(seed + 1, d0, rank)).Q,
    )
    v = left * torch.linspace(1, 2, rank, dtype=torch.float64) @ right.T
    gamma_u, gamma_w = covariance(seed + 2, d2), covariance(seed + 3, d0)
    u, w = noise_equilibrium(v, gamma_u, gamma_w, width=rank + extra)
    assert u.shape == (d2, rank + extra)
    assert w.shape == (rank + extra, d0)
    assert_equilibrium(v, gamma_u, gamma_w, u, w)
    slim = noise_equilibrium(v, gamma_u, gamma_w)
    assert slim[0].shape == (d2, rank)
    torch.testing.assert_close(slim[0] @ slim[0].T, u @ u.T)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, d2=SIZES, d0=SIZES)
def test_equilibrium_is_unique_on_the_orbit(seed, d2, d0):
    """From any factors of V, the only symmetric flow to balance ends at the same U Uᵀ, Wᵀ W.

    With S = T² the condition T A T = T⁻¹ B T⁻¹ reads S A S = B, which has one positive solution.
    """
    width = min(d2, d0)
    start_u, start_w = normal(seed, d2, width), normal(seed + 1, width, d0)
    gamma_u, gamma_w = covariance(seed + 2, d2), covariance(seed + 3, d0)
    a, b = weighted_grams(start_u, start_w, gamma_u, gamma_w)
    if max(torch.linalg.cond(a), torch.linalg.cond(b)) > 1e5:
        return
    root = square_root(geometric_mean(torch.linalg.inv(a), b))
    reached_u, reached_w = start_u @ root, torch.linalg.solve(root, start_w)
    u, w = noise_equilibrium(start_u @ start_w, gamma_u, gamma_w)
    torch.testing.assert_close(reached_u @ reached_u.T, u @ u.T, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(reached_w.T @ reached_w, w.T @ w, rtol=1e-6, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 5))
def test_the_condition_is_monotone_along_every_orbit(seed, size):
    """Tr[A (W Γ_W Wᵀ − Uᵀ Γ_U U)] falls along e^{λA} and vanishes at λ = 0 from equilibrium."""
    v, gamma_u, gamma_w = (
        normal(seed, size, size),
        covariance(seed, size),
        covariance(seed + 1, size),
    )
    u, w = noise_equilibrium(v, gamma_u, gamma_w)
    a = normal(seed + 2, size, size)
    a = a + a.T
    a = a / a.norm()

    def push(strength):
        moved = (
            u @ torch.linalg.matrix_exp(strength * a),
            torch.linalg.matrix_exp(-strength * a) @ w,
        )
        gram_u, gram_w = weighted_grams(*moved, gamma_u, gamma_w)
        return ((gram_w - gram_u) * a).sum().item()

    values = [push(strength) for strength in (-1.0, -0.4, 0.0, 0.4, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[1] > 0 > values[3]
    assert abs(values[2]) <= 1e-11 * values[1]


def test_equal_gammas_give_plain_balance():
    v = normal(0, 3, 5)
    u, w = plain_balance(v, width=4)
    torch.testing.assert_close(u.T @ u, w @ w.T)
    torch.testing.assert_close(u @ w, v)


def test_singular_gamma_with_v_inside_its_range():
    gamma_u, gamma_w = covariance(0, 5, rank=3), covariance(1, 4, rank=2)
    v = gamma_u @ normal(2, 5, 4) @ gamma_w
    u, w = noise_equilibrium(v, gamma_u, gamma_w, width=3)
    assert_equilibrium(v, gamma_u, gamma_w, u, w)


def test_singular_gamma_silent_on_both_sides():
    """The part of V without noise on either side is free; the rest is unaffected by it."""
    eye = torch.eye(5, dtype=torch.float64)
    gamma_u, gamma_w = covariance(0, 5, rank=3), covariance(1, 5, rank=3)
    silent_u = torch.linalg.eigh(gamma_u).eigenvectors[:, :1]
    silent_w = torch.linalg.eigh(gamma_w).eigenvectors[:, :1]
    inside = gamma_u @ normal(2, 5, 2) @ normal(3, 2, 5) @ gamma_w
    v = inside + silent_u @ silent_w.T
    u, w = noise_equilibrium(v, gamma_u, gamma_w)
    assert u.shape == (5, 3)
    assert_equilibrium(v, gamma_u, gamma_w, u, w)
    alone = noise_equilibrium(inside, gamma_u, gamma_w)
    expected = alone[0] @ alone[0].T
    torch.testing.assert_close(gamma_u @ u @ u.T @ gamma_u, gamma_u @ expected @ gamma_u)
    u, w = noise_equilibrium(eye, 0 * eye, 0 * eye)
    torch.testing.assert_close(u @ w, eye)


def test_singular_gamma_with_no_equilibrium_is_refused():
    eye = torch.eye(3, dtype=torch.float64)
    silent = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"gamma_u must not be singular.*gamma_w is not"):
        noise_equilibrium(eye, silent, eye)
    with pytest.raises(ValueError, match=r"gamma_w must not be singular.*gamma_u is not"):
        noise_equilibrium(eye, eye, silent)
    with pytest.raises(ValueError, match="no equilibrium exists"):
        noise_equilibrium(eye, silent, silent.flip(0).flip(1))


def test_zero_and_single_precision():
    eye = torch.eye(3, dtype=torch.float64)
    u, w = noise_equilibrium(torch.zeros(3, 3, dtype=torch.float64), eye, eye, width=2)
    assert u.shape == (3, 2)
    assert not u.any()
    assert not w.any()
    u, w = noise_equilibrium(
        normal(0, 3, 3).float(), covariance(1, 3).float(), covariance(2, 3).float()
    )
    assert u.dtype == torch.float32
    assert noise_imbalance(u, w, covariance(1, 3).float(), covariance(2, 3).float()) < 1e-5


def test_errors_name_the_argument():
    v, eye = normal(0, 3, 3), torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="width must be at least rank v = 3; got 2"):
        noise_equilibrium(v, eye, eye, width=2)
    with pytest.raises(ValueError, match=r"width is .* whole number"):
        noise_equilibrium(v, eye, eye, width=3.0)
    with pytest.raises(ValueError, match="gamma_u must have shape"):
        noise_equilibrium(v, eye[:2, :2], eye)
    with pytest.raises(ValueError, match="gamma_w must be symmetric"):
        noise_equilibrium(v, eye, v)
    with pytest.raises(ValueError, match="gamma_u must be positive semi-definite"):
        noise_equilibrium(v, -eye, eye)
    with pytest.raises(ValueError, match="gamma_w must be finite"):
        noise_equilibrium(v, eye, eye * torch.nan)
    with pytest.raises(ValueError, match="gamma_u must be one matrix of v's dtype"):
        noise_equilibrium(v, eye.float(), eye)
    with pytest.raises(ValueError, match="v must be one finite"):
        noise_equilibrium(v[None], eye, eye)
    with pytest.raises(ValueError, match="v must be one finite"):
        noise_equilibrium(v * torch.inf, eye, eye)


def train(u, w, teacher, x_std, noise_std, *, eta, steps, tail, batch=10, decay=0.0, noise=True):
    """SGD on runs side by side; means over the tail and the runs of U Uᵀ, Wᵀ W and U W."""
    runs, (d2, d0) = len(u), teacher.shape
    generator = torch.Generator().manual_seed(1)
    sums = [torch.zeros(n, n) for n in (d2, d0)]
    keep = 1 - eta * decay
    if not noise:
        x = x_std * torch.randn(runs, 50 * d0, d0, generator=generator)
        y = x @ teacher.T + noise_std * torch.randn(runs, 50 * d0, d2, generator=generator)
    for step in range(steps):
        if noise and step % 100 == 0:
            xs = x_std * torch.randn(100, runs, batch, d0, generator=generator)
            ys = xs @ teacher.T
            ys += noise_std * torch.randn(100, runs, batch, d2, generator=generator)
        if noise:
            x, y = xs[step % 100], ys[step % 100]
        h = x @ w.mT
        r = (h @ u.mT - y) * (2 * eta / x.shape[1])
        u, w = keep * u - r.mT @ h, keep * w - (r @ u).mT @ x
        if step >= steps - tail:
            sums[0] += (u @ u.mT).mean(0)
            sums[1] += (w.mT @ w).mean(0)
    return u, w, *(total / tail for total in sums)


D = 6
X_STD, NOISE_STD = torch.linspace(0.5, 1.5, D), torch.linspace(1.5, 0.5, D)
TEACHER = torch.linalg.qr(normal(5, D, D)).Q.float()


def starts(runs=24, width=8):
    """Half the runs with a large U, half with a large W."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(runs, D, width, generator=generator) / width**0.5
    w = torch.randn(runs, width, D, generator=generator) / D**0.5
    scales = torch.where(torch.arange(runs) % 2 == 0, 0.5, 1.6)[:, None, None]
    return u * scales, w * scales.flip(0)


def test_sgd_settles_at_the_closed_form_and_gd_does_not():
    sigma_x, sigma_noise = X_STD.double().square().diag(), NOISE_STD.double().square().diag()
    u, w = gaussian_equilibrium(TEACHER.double(), sigma_x, sigma_noise, width=8)
    closed = (u @ u.T).float(), (w.T @ w).float()
    sgd = train(*starts(), TEACHER, X_STD, NOISE_STD, eta=0.015, steps=12_000, tail=4_000)
    for reached, expected in zip(sgd[2:], closed, strict=True):
        # What is left is a bias of order η: 0.057, 0.054, 0.040 at η = 0.02, 0.015, 0.01.
        assert (reached - expected).norm() < 0.075 * expected.norm()
    plain_u, plain_w = plain_balance(TEACHER.double())
    for reached, expected in zip(sgd[2:], (plain_u @ plain_u.T, plain_w.T @ plain_w), strict=True):
        assert (reached - expected).norm() > 0.3 * expected.norm()
    stationary = [g.float() for g in stationary_gammas(sigma_x, sigma_noise)]
    assert noise_imbalance(sgd[0], sgd[1], *stationary).mean() < 0.15
    gd = train(*starts(), TEACHER, X_STD, NOISE_STD, eta=0.05, steps=500, tail=1, noise=False)
    assert noise_imbalance(gd[0], gd[1], *stationary).min() > 0.4
    # The two starts differ after GD, and no longer after SGD.
    ratio = {
        name: [(u[half::2].square().sum() / w[half::2].square().sum()).item() for half in (0, 1)]
        for name, (u, w) in {"sgd": sgd[:2], "gd": gd[:2]}.items()
    }
    assert ratio["sgd"][0] == pytest.approx(ratio["sgd"][1], rel=0.1)
    assert ratio["gd"][1] > 3 * ratio["gd"][0]


def test_isotropic_data_cannot_tell_weighted_from_plain_balance():
    eye = torch.eye(D, dtype=torch.float64)
    u, _ = gaussian_equilibrium(TEACHER.double(), eye, eye)
    plain, _ = plain_balance(TEACHER.double())
    torch.testing.assert_close(u @ u.T, plain @ plain.T)


def test_weight_decay_shifts_the_equilibrium_of_sgd():
    """Decay acts as κI on both Γ: the norm ratio moves towards one, by the predicted amount."""
    x_std = torch.tensor([0.5] * 3 + [1.75**0.5] * 3)
    eta, decay = 0.03, 1e-2
    _, _, u_gram, w_gram = train(
        *starts(12),
        torch.eye(D),
        x_std,
        torch.ones(D),
        eta=eta,
        steps=8_000,
        tail=3_000,
        decay=decay,
    )
    ratio = (u_gram.trace() / w_gram.trace()).item()
    predicted = norm_ratio(x_std.double(), decay_shift=weight_decay_shift(decay, eta, 10)).item()
    assert ratio == pytest.approx(predicted, rel=0.04)
    assert ratio > 1.1 * norm_ratio(x_std.double()).item()


def test_closed_form_is_in_balance_by_gammas_from_data():
    """Γ from samples at the closed-form factors is in balance up to the sampling error."""
    u, w = gaussian_equilibrium(
        TEACHER.double(), X_STD.double().square().diag(), NOISE_STD.double().square().diag()
    )
    x = normal(1, 100_000, D) * X_STD
    y = x @ TEACHER.double().T + normal(2, 100_000, D) * NOISE_STD
    assert noise_imbalance(u, w, *gammas(u, w, x, y)) < 0.02
    plain = plain_balance(TEACHER.double())
    assert noise_imbalance(*plain, *gammas(*plain, x, y)) > 0.2
