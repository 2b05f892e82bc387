"""Gradient noise and the Noether flow: against dense references and every possible batch."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import grad, vmap

from sharpflow.symmetry import (
    NoiseTrace,
    dense_noise_trace,
    gammas,
    gaussian_gammas,
    gradient_covariance,
    matrix_symmetry,
    noether_charge,
    noether_flow_rate,
    noether_step,
    noise_trace,
    per_sample_gradients,
    population_gradient,
    rescaling,
    sample_loss,
    scale,
    two_layer_noise_trace,
)
from sharpflow.symmetry.generators import flatten

SEEDS = st.integers(0, 2**31 - 1)
ETA = 0.05


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(seed, size):
    matrix = normal(seed, size, size)
    return (matrix + matrix.T) / 2


def loss(params, x, y):
    return (params["u"] @ (params["w"] @ x) - y).square().sum()


def setting(samples=5, seed=0):
    params = {"u": normal(seed, 2, 3), "w": normal(seed + 1, 3, 2)}
    return params, (normal(seed + 2, samples, 2), normal(seed + 3, samples, 2))


def rows(params, data):
    gradients = per_sample_gradients(loss, params, *data)
    return torch.cat([value.flatten(1) for value in gradients.values()], 1)


def charge_after(params, gradient, q):
    stepped = {name: value - ETA * gradient[name] for name, value in params.items()}
    return noether_charge(stepped, q) - noether_charge(params, q)


def test_per_sample_gradients_are_one_backward_pass_each():
    params, data = setting()
    gradients = per_sample_gradients(loss, params, *data)
    for index, (x, y) in enumerate(zip(*data, strict=True)):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        expected = torch.autograd.grad(loss(leaves, x, y), list(leaves.values()))
        for name, value in zip(leaves, expected, strict=True):
            torch.testing.assert_close(gradients[name][index], value)


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 64])
@pytest.mark.parametrize("correction", [0, 1])
def test_covariance_and_trace_against_torch_cov(chunk_size, correction):
    params, data = setting()
    reference = torch.cov(rows(params, data).T, correction=correction)
    mean = rows(params, data).mean(0)
    options = {"chunk_size": chunk_size, "correction": correction}
    sigma = gradient_covariance(loss, params, *data, **options)
    torch.testing.assert_close(sigma, reference, rtol=1e-12, atol=1e-12)
    q = symmetric(9, 12)
    noise = noise_trace(loss, params, q, *data, **options)
    expected = dense_noise_trace(reference, mean, q)
    torch.testing.assert_close(noise.covariance, torch.trace(reference @ q))
    torch.testing.assert_close(tuple(noise), tuple(expected), rtol=1e-12, atol=1e-12)


def test_trace_keeps_its_digits_under_a_large_mean_gradient():
    params = {"theta": torch.zeros(3, dtype=torch.float64)}
    noise = normal(4, 50, 3)

    def linear(p, x):
        return p["theta"] @ x

    expected = torch.trace(torch.cov(noise.T, correction=0))
    q = scale(["theta"])
    found = noise_trace(linear, params, q, noise + 1e7, chunk_size=7).covariance
    assert found.item() == pytest.approx(expected.item(), rel=1e-7)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_step_is_the_mean_over_every_batch(batch_size):
    """Exact expectation over all batches, with and without replacement; no sampling error."""
    params, data = setting()
    gradients = per_sample_gradients(loss, params, *data)
    q = matrix_symmetry("u", "w", symmetric(2, 3))
    noise = noise_trace(loss, params, q, *data)
    draws = {
        None: itertools.product(range(5), repeat=batch_size),
        5: itertools.combinations(range(5), batch_size),
    }
    for dataset_size, batches in draws.items():
        index = torch.tensor(list(batches))
        mean = {name: value[index].mean(1) for name, value in gradients.items()}
        measured = vmap(lambda g: charge_after(params, g, q))(mean).mean()
        predicted = noether_step(noise, ETA, batch_size, dataset_size)
        torch.testing.assert_close(predicted, measured, rtol=1e-11, atol=1e-12)
        if dataset_size is None:
            # The SDE law lacks the drift, which is not small here.
            law = ETA * noether_flow_rate(noise, ETA, batch_size)
            torch.testing.assert_close(measured - law, ETA**2 * noise.gradient)
            assert abs(law - measured) > 0.05 * abs(measured)


def test_flow_rate_against_many_noise_draws_at_a_minimum():
    """Where ∇L = 0 the SDE law alone holds; the plain, unweighted Γ misses by far more."""
    x_std, noise_std = torch.linspace(0.4, 1.6, 5), torch.linspace(1.5, 0.5, 5)
    sigma_x, sigma_noise = x_std.double().square().diag(), noise_std.double().square().diag()
    w = normal(0, 6, 5)
    teacher = torch.linalg.qr(normal(1, 5, 5)).Q
    u = teacher @ torch.linalg.pinv(w)
    draws, batch_size = 40_000, 4
    x = normal(2, draws, batch_size, 5) * x_std
    y = x @ teacher.T + normal(3, draws, batch_size, 5) * noise_std
    residual = x @ (u @ w).T - y
    gradient_u = 2 / batch_size * residual.mT @ (x @ w.T)
    gradient_w = 2 / batch_size * (residual @ u).mT @ x
    stepped_u, stepped_w = u - ETA * gradient_u, w - ETA * gradient_w
    change = (
        stepped_u.square().sum((1, 2))
        - stepped_w.square().sum((1, 2))
        - (u.square().sum() - w.square().sum())
    )
    second = gaussian_gammas(u, w, teacher, sigma_x, sigma_noise)
    gradient = population_gradient(u, w, teacher, sigma_x)
    noise = two_layer_noise_trace(u, w, *second, gradient)
    predicted = ETA * noether_flow_rate(noise, ETA, batch_size)
    error = change.std() / draws**0.5
    assert error < 0.01 * abs(predicted)
    assert abs(change.mean() - predicted) < 4 * error
    plain = [g.trace() / 5 * torch.eye(5, dtype=torch.float64) for g in second]
    unweighted = ETA * noether_flow_rate(
        two_layer_noise_trace(u, w, *plain, gradient), ETA, batch_size
    )
    assert abs(change.mean() - unweighted) > 10 * error


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_two_layer_closed_form_is_the_trace_from_gradients(seed):
    params, data = setting(samples=7, seed=seed % 10_000)
    a = symmetric(seed, 3)
    second = gammas(params["u"], params["w"], *data)
    mean = grad(lambda p: vmap(loss, (None, 0, 0))(p, *data).mean())(params)
    closed = two_layer_noise_trace(params["u"], params["w"], *second, (mean["u"], mean["w"]), a)
    dense = noise_trace(loss, params, matrix_symmetry("u", "w", a), *data)
    size = 1 + rows(params, data).square().sum(1).mean().item()
    for left, right in zip(closed, dense, strict=True):
        assert abs(left - right) <= 1e-12 * size
    simple = two_layer_noise_trace(params["u"], params["w"], *second, (mean["u"], mean["w"]))
    rescaled = noise_trace(loss, params, rescaling("u", "w"), *data)
    assert abs(simple.covariance - rescaled.covariance) <= 1e-12 * size


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, low=st.floats(-1.5, 1.4), gap=st.floats(0.05, 1.5))
def test_trace_falls_along_the_orbit(seed, low, gap):
    """Tr[Σ(e^{λQ}θ) Q] decreases with λ, and Σ(e^{λQ}θ) = e^{−λQ} Σ(θ) e^{−λQ}."""
    params, data = setting(seed=seed % 10_000)
    q = matrix_symmetry("u", "w", symmetric(seed, 3) / 3)

    def at(strength):
        return noise_trace(loss, q.flow(params, strength), q, *data).covariance.item()

    assert at(low + gap) < at(low)
    sigma = gradient_covariance(loss, params, *data)
    moved = gradient_covariance(loss, q.flow(params, low), *data)
    basis = torch.eye(12, dtype=torch.float64)
    shrink = torch.stack(
        [flatten(q.flow({"u": e[:6].reshape(2, 3), "w": e[6:].reshape(3, 2)}, -low)) for e in basis]
    )
    expected = shrink @ sigma @ shrink
    assert (moved - expected).abs().max() <= 1e-11 * max(1.0, expected.abs().max().item())


def test_scale_invariance_only_grows():
    def normalised(params, x, y):
        return loss({name: value / value.norm() for name, value in params.items()}, x, y)

    params, data = setting()
    at_one = noise_trace(normalised, params, scale(["u"]), *data)
    doubled = {**params, "u": 2 * params["u"]}
    at_two = noise_trace(normalised, doubled, scale(["u"]), *data)
    assert noether_step(at_one, ETA, 2) > 0
    torch.testing.assert_close(at_two.covariance, at_one.covariance / 4)


def test_maps_over_runs():
    runs = [setting(seed=seed) for seed in (0, 10)]
    params = {name: torch.stack([run[0][name] for run in runs]) for name in ("u", "w")}
    data = [torch.stack([run[1][index] for run in runs]) for index in (0, 1)]
    q = rescaling("u", "w")
    found = vmap(lambda p, x, y: noise_trace(loss, p, q, x, y, chunk_size=2))(params, *data)
    expected = [noise_trace(loss, p, q, *d) for p, d in runs]
    torch.testing.assert_close(found.covariance, torch.stack([n.covariance for n in expected]))
    torch.testing.assert_close(found.gradient, torch.stack([n.gradient for n in expected]))


def test_any_module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).double()
    x, y = normal(0, 6, 3), normal(1, 6, 2)
    params = {name: value.detach() for name, value in model.named_parameters()}
    sigma = gradient_covariance(sample_loss(model, nn.functional.mse_loss), params, x, y)
    reference = []
    for one_x, one_y in zip(x, y, strict=True):
        value = nn.functional.mse_loss(model(one_x[None]), one_y[None])
        reference.append(flatten(dict(enumerate(torch.autograd.grad(value, model.parameters())))))
    torch.testing.assert_close(sigma, torch.cov(torch.stack(reference).T, correction=0))


def test_errors_name_the_argument():
    params, data = setting()
    noise = NoiseTrace(torch.ones(()), torch.ones(()))
    with pytest.raises(ValueError, match="batch_size must not exceed dataset_size; got 6 of 5"):
        noether_step(noise, ETA, 6, dataset_size=5)
    with pytest.raises(ValueError, match=r"batch_size is .* whole number"):
        noether_flow_rate(noise, ETA, 0)
    with pytest.raises(ValueError, match=r"learning_rate is .* a positive, finite number"):
        noether_step(noise, float("nan"), 1)
    with pytest.raises(ValueError, match="samples must be tensors"):
        gradient_covariance(loss, params, data[0], data[1][:4])
    with pytest.raises(ValueError, match="samples must be tensors"):
        noise_trace(loss, params, rescaling("u", "w"), data[0][:0], data[1][:0])
    with pytest.raises(ValueError, match="correction must be 0 or 1"):
        noise_trace(loss, params, rescaling("u", "w"), data[0][:1], data[1][:1], correction=1)
    with pytest.raises(ValueError, match="chunk_size"):
        noise_trace(loss, params, rescaling("u", "w"), *data, chunk_size=0)
    with pytest.raises(ValueError, match="use noise_trace"):
        gradient_covariance(loss, {"u": torch.zeros(20_001)}, *data)
    with pytest.raises(ValueError, match=r"batch normalisation.*whole batches"):
        sample_loss(nn.Sequential(nn.BatchNorm1d(3)), nn.functional.mse_loss)
    eye = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="covariance must be positive semi-definite"):
        dense_noise_trace(-eye, eye[0], eye)
    with pytest.raises(ValueError, match="covariance must be symmetric"):
        dense_noise_trace(eye + eye.flip(1).triu(), eye[0], eye)
    with pytest.raises(ValueError, match="gradient must have shape"):
        dense_noise_trace(eye, torch.zeros(3), eye)
