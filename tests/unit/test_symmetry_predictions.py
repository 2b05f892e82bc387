"""Predictions for the experiments: against the general closed form and exact one-step means."""

import pytest
import torch
from torch.func import vmap

from sharpflow.symmetry import (
    gammas,
    hessian_trace,
    noether_path,
    noether_step,
    noise_equilibrium,
    noise_trace,
    plain_balance,
    scale,
    stationary_gammas,
    two_layer_noise_trace,
    weighted_grams,
)
from sharpflow.symmetry.predictions import (
    convergence_rate,
    equilibrium_hessian_trace,
    gaussian_equilibrium,
    norm_ratio,
    scale_invariant_radius,
    sharpening_ratio,
    toy_unit_noise,
    unweighted_gammas,
    weight_decay_shift,
)

EYE = torch.eye(10, dtype=torch.float64)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def half_and_half(phi, size=10):
    return torch.tensor([phi, 2 - phi], dtype=torch.float64).repeat_interleave(size // 2).sqrt()


@pytest.mark.parametrize("phi", [0.1, 0.5, 1.0, 1.9])
def test_norm_ratio_is_that_of_the_equilibrium(phi):
    a = half_and_half(phi)
    u, w = gaussian_equilibrium(EYE, a.square().diag(), EYE, width=20)
    general = u.square().sum() / w.square().sum()
    torch.testing.assert_close(norm_ratio(a), general)
    torch.testing.assert_close(norm_ratio(a), 10 / a.square().sum() * a.sum() / (1 / a).sum())
    assert (norm_ratio(a) - 1).abs() < 1e-12 if phi == 1 else norm_ratio(a) < 0.9


def test_norm_ratio_of_unequal_noise_and_teacher():
    a, e, m = (normal(seed, 10).abs() + 0.3 for seed in (0, 1, 2))
    u, w = gaussian_equilibrium(m.diag(), a.square().diag(), e.square().diag())
    torch.testing.assert_close(norm_ratio(a, e, m), u.square().sum() / w.square().sum())
    batch = norm_ratio(torch.stack([a, e]))
    torch.testing.assert_close(batch, torch.stack([norm_ratio(a), norm_ratio(e)]))
    assert norm_ratio(a, e, m, decay_shift=1e9).item() == pytest.approx(1, abs=1e-6)


def test_weight_decay_shift_balances_the_exact_step():
    """At the shifted equilibrium one step's noise and decay of every charge cancel exactly."""
    eta, decay, batch = 0.02, 0.3, 10
    kappa = weight_decay_shift(decay, eta, batch)
    assert kappa == pytest.approx(batch * decay / (2 * eta) * (1 - eta * decay / 2))
    a = half_and_half(0.1)
    gamma_u = a.square().sum() * EYE + kappa * EYE
    gamma_w = 10 * a.square().diag() + kappa * EYE
    ratio = (gamma_w.diagonal() / gamma_u.diagonal()).sqrt()
    u, w = ratio.sqrt().diag(), ratio.rsqrt().diag()
    zero = torch.zeros_like(u), torch.zeros_like(w)
    charge = u.square().sum() - w.square().sum()
    noise = two_layer_noise_trace(u, w, a.square().sum() * EYE, 10 * a.square().diag(), zero)
    change = ((1 - eta * decay) ** 2 - 1) * charge + noether_step(noise, eta, batch)
    assert abs(change) < 1e-12 * abs(charge)
    torch.testing.assert_close(
        norm_ratio(a, decay_shift=kappa), u.square().sum() / w.square().sum()
    )


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_sharpening_needs_noise_larger_where_the_signal_is(power):
    """Diagonal data with noise eᵢ ∝ aᵢᵏ: flat for k < 1, sharp for k > 1, unchanged at k = 1."""
    a = half_and_half(0.2)
    e = a**power
    e = e / e.square().mean().sqrt()
    sigma_x, sigma_noise = a.square().diag(), e.square().diag()
    ratio = sharpening_ratio(EYE, sigma_x, sigma_noise).item()
    rho = e.square().sum() / a.square().sum()
    u_squared, w_squared = rho.sqrt() * a / e, e / a / rho.sqrt()
    expected = (u_squared.sum() * a.square().sum() + 10 * (w_squared * a.square()).sum()) / (
        2 * 10 * a.square().sum()
    )
    assert ratio == pytest.approx(expected.item(), rel=1e-12)
    assert (ratio - 1) * (power - 1) >= -1e-12
    assert abs(ratio - 1) > 0.05 or power == 1
    start = hessian_trace(*plain_balance(EYE), sigma_x)
    end = equilibrium_hessian_trace(EYE, sigma_x, sigma_noise)
    assert (end / start).item() == pytest.approx(ratio)


@pytest.mark.parametrize("width", [4, 50])
def test_convergence_rate_is_the_exact_decay_of_one_step(width):
    k, eta, batch = 4, 0.1, 100
    u, w = normal(0, k, width) * 0.7, normal(1, width, k) * 0.2
    teacher = u @ w
    second = 2 * 0.5 * k * torch.eye(k, dtype=torch.float64)
    zero = torch.zeros_like(u), torch.zeros_like(w)
    change = noether_step(two_layer_noise_trace(u, w, second, second, zero), eta, batch)
    charge = u.square().sum() - w.square().sum()
    rate = convergence_rate(k, eta, batch, x_variance=2.0, noise_variance=0.5)
    torch.testing.assert_close(change, -rate * charge)
    assert convergence_rate(k, 2 * eta, batch) == pytest.approx(4 * convergence_rate(k, eta, batch))
    x = normal(2, 300_000, k) * 2**0.5
    sampled = gammas(u, w, x, x @ teacher.T + normal(3, 300_000, k) * 0.5**0.5)
    for gamma in sampled:
        assert (gamma - second).norm() < 0.02 * second.norm()


def toy_loss(params, x, y):
    theta = params["theta"]
    return ((theta / theta.norm()) @ x - y).square()


def test_scale_invariant_toy_noise_and_radius():
    """Tr[Σ] = 4σ²/r² at the minimum, by quadrature; the radius solves dr²/dk = η² Tr[Σ]/S."""
    sigma = 2.0
    nodes = torch.tensor([-(3**0.5), 0, 0, 0, 0, 3**0.5], dtype=torch.float64)
    points = torch.cartesian_prod(nodes, nodes, nodes)
    x, y = points[:, :2], points[:, 0] + sigma * points[:, 2]
    for radius in (1.0, 2.5):
        params = {"theta": torch.tensor([radius, 0.0], dtype=torch.float64)}
        noise = noise_trace(toy_loss, params, scale(["theta"]), x, y)
        assert noise.covariance.item() == pytest.approx(toy_unit_noise(sigma) / radius**2)
        assert abs(noise.gradient.item()) < 1e-20
    steps, eta = torch.arange(0, 2001), 0.02
    radius = scale_invariant_radius(steps, eta, toy_unit_noise(sigma))
    assert radius[0] == 1
    assert radius[-1].item() == pytest.approx((1 + 8 * eta**2 * sigma**2 * 2000) ** 0.25)
    growth = (radius[2:] ** 2 - radius[:-2] ** 2) / 2
    expected = eta**2 * toy_unit_noise(sigma) / radius[1:-1] ** 2
    torch.testing.assert_close(growth, expected, rtol=1e-4, atol=0)


def test_sgd_on_the_toy_reaches_the_predicted_radius():
    runs, eta, sigma, steps = 2_000, 0.02, 2.0, 500
    theta = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(runs, 1)
    x, noise = normal(0, steps, runs, 2), normal(1, steps, runs)
    for step in range(steps):
        norm = theta.norm(dim=1, keepdim=True)
        unit = theta / norm
        residual = (unit * x[step]).sum(1) - x[step, :, 0] - sigma * noise[step]
        tangent = x[step] - (x[step] * unit).sum(1, keepdim=True) * unit
        theta = theta - eta * 2 * residual[:, None] * tangent / norm
    predicted = scale_invariant_radius(torch.tensor(steps), eta, toy_unit_noise(sigma))
    assert theta.norm(dim=1).mean().item() == pytest.approx(predicted.item(), rel=0.02)
    assert predicted > 1.5


def test_unweighted_gammas_keep_the_trace():
    gamma = vmap(torch.diag)(normal(0, 3, 4).abs())
    plain, _ = unweighted_gammas(gamma, gamma)
    torch.testing.assert_close(plain.diagonal(dim1=1, dim2=2).sum(1), gamma.sum((1, 2)))
    assert torch.equal(plain[1], plain[1, 0, 0] * torch.eye(4, dtype=torch.float64))


def test_errors_name_the_argument():
    a = half_and_half(0.5)
    with pytest.raises(ValueError, match="sigma_noise must not be zero"):
        gaussian_equilibrium(EYE, EYE, 0 * EYE)
    with pytest.raises(ValueError, match="sigma_x must be symmetric"):
        gaussian_equilibrium(EYE, normal(0, 10, 10), EYE)
    with pytest.raises(ValueError, match="x_std must be positive"):
        norm_ratio(-a)
    with pytest.raises(ValueError, match="decay_shift"):
        norm_ratio(a, decay_shift=-1.0)
    with pytest.raises(ValueError, match="weight_decay must be in"):
        weight_decay_shift(-0.1, 0.1, 1)
    with pytest.raises(ValueError, match=r"inputs is .* whole number"):
        convergence_rate(0, 0.1, 10)
    with pytest.raises(ValueError, match="noise_variance"):
        convergence_rate(1, 0.1, 10, noise_variance=0.0)
    with pytest.raises(ValueError, match="learning_rate"):
        scale_invariant_radius(torch.tensor(1), 0.0, 1.0)
    with pytest.raises(ValueError, match="noise_std"):
        toy_unit_noise(0.0)
    with pytest.raises(ValueError, match="gamma_w must have shape"):
        unweighted_gammas(EYE, EYE[:5])


def flow_setting():
    teacher = torch.linalg.qr(normal(7, 4, 4))[0]
    u = torch.cat([teacher * 1.5, torch.zeros(4, 2, dtype=torch.float64)], 1)
    w = torch.cat([torch.eye(4, dtype=torch.float64) / 1.5, 0.3 * normal(8, 2, 4)], 0)
    stds = [1.4, 1.2, 0.9, 0.6], [0.5, 1, 1, 2]
    x, noise = (torch.tensor(values, dtype=torch.float64) for values in stds)
    return teacher, u, w, stationary_gammas(x.diag(), noise.diag())


def test_the_noether_path_keeps_the_minimum_and_ends_at_the_equilibrium():
    teacher, u, w, gammas = flow_setting()
    times = [100, 1000, 10_000, 1_000_000]
    path = noether_path(u, w, *gammas, 0.01, 10, times)
    exact = noise_equilibrium(teacher, *gammas)
    for now in path:
        torch.testing.assert_close(now[0] @ now[1], teacher, rtol=0, atol=1e-9)
    distances = [float((now[1].mT @ now[1] - exact[1].mT @ exact[1]).norm()) for now in path]
    assert distances[-1] < 1e-3 < distances[0]


def test_the_noether_path_moves_every_charge_by_the_noether_flow():
    """Central difference in time against 4η²/S Tr[A (W Γ_W Wᵀ − Uᵀ Γ_U U)] for each symmetric A."""
    _, u, w, gammas = flow_setting()
    eta, batch, step = 0.01, 10, 2
    before, after = noether_path(u, w, *gammas, eta, batch, [step, 3 * step])
    middle = noether_path(u, w, *gammas, eta, batch, [2 * step])[0]
    gram_u, gram_w = weighted_grams(*middle, *gammas)
    predicted = 4 * eta**2 / batch * (gram_w - gram_u)

    def charges(u, w):
        return u.mT @ u - w @ w.mT

    measured = (charges(*after) - charges(*before)) / (2 * step)
    torch.testing.assert_close(measured, predicted, rtol=1e-4, atol=1e-9)


def test_the_noether_path_does_not_depend_on_where_it_stops():
    _, u, w, gammas = flow_setting()
    once = noether_path(u, w, *gammas, 0.01, 10, [100, 200])[-1]
    first = noether_path(u, w, *gammas, 0.01, 10, [100])[-1]
    again = noether_path(*first, *gammas, 0.01, 10, [100])[-1]
    torch.testing.assert_close(once, again)
    with pytest.raises(ValueError, match="times must ascend"):
        noether_path(u, w, *gammas, 0.01, 10, [10, 10])
