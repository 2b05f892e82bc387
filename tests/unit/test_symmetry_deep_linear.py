"""The noise equilibrium of deep linear nets against its definition and sampled gradients."""

from itertools import pairwise

import pytest
import torch
from torch.linalg import matrix_norm, multi_dot

from sharpflow.symmetry import (
    Slots,
    Symmetry,
    deep_gaussian_gammas,
    deep_noise_equilibrium,
    gaussian_gammas,
    noise_equilibrium,
    noise_imbalance,
    per_sample_gradients,
    stationary_gammas,
    weighted_grams,
)

DEPTHS = (2, 3, 4, 7)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(size, seed):
    root = normal(size, size, seed=seed)
    return root @ root.mT / size + 0.1 * torch.eye(size)


def setting(outputs=5, inputs=4):
    return normal(outputs, inputs), covariance(inputs, 1), covariance(outputs, 2)


def product(weights):
    return multi_dot(list(weights[::-1]))


def sides(weights, sigma_x, sigma_noise):
    """The two sides of the equation, of each hidden layer, with the products written out."""
    signal, noise = [sigma_x], [sigma_noise]  # B_i Σx B_iᵀ from 0 on, A_iᵀ Σε A_i from L down
    for weight in weights[:-1]:
        signal.append(weight @ signal[-1] @ weight.mT)
    for weight in weights[:0:-1]:
        noise.append(weight.mT @ noise[-1] @ weight)
    noise.append(noise[-1])  # A_0, which no equation has
    noise.reverse()
    for i in range(1, len(weights)):
        yield signal[i - 1].trace() * noise[i], noise[i + 1].trace() * signal[i]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (4, 4)])
def test_the_noise_of_every_hidden_layer_balances(depth, shape):
    v, sigma_x, sigma_noise = setting(*shape)
    weights = deep_noise_equilibrium(v, sigma_x, sigma_noise, depth)
    assert len(weights) == depth
    assert matrix_norm(product(weights) - v) < 1e-12 * matrix_norm(v)
    for left, right in sides(weights, sigma_x, sigma_noise):
        assert matrix_norm(left - right) < 1e-12 * matrix_norm(left)


def test_two_layers_are_the_two_layer_net():
    v, sigma_x, sigma_noise = setting()
    w, u = deep_noise_equilibrium(v, sigma_x, sigma_noise, 2)
    same_u, same_w = noise_equilibrium(v, *stationary_gammas(sigma_x, sigma_noise))
    torch.testing.assert_close(u @ u.mT, same_u @ same_u.mT)
    torch.testing.assert_close(w.mT @ w, same_w.mT @ same_w)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_layer_lifts_the_signal_and_the_noise_by_one_factor(depth):
    v, sigma_x, sigma_noise = setting()
    weights = deep_noise_equilibrium(v, sigma_x, sigma_noise, depth)
    signal, noise = [sigma_x], [sigma_noise]
    for weight in weights[:-1]:
        signal.append(weight @ signal[-1] @ weight.mT)
    for weight in weights[:0:-1]:
        noise.append(weight.mT @ noise[-1] @ weight)
    rises = [(b.trace() / a.trace()).item() for each in (signal, noise) for a, b in pairwise(each)]
    assert rises == pytest.approx([rises[0]] * len(rises), rel=1e-10)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_rotated_hidden_layer_balances_too_and_a_scaled_one_does_not(depth):
    v, sigma_x, sigma_noise = setting(4, 4)
    weights = deep_noise_equilibrium(v, sigma_x, sigma_noise, depth)
    rotation = torch.linalg.qr(normal(4, 4, seed=3)).Q
    turned = (rotation @ weights[0], weights[1] @ rotation.mT, *weights[2:])
    scaled = (1.1 * weights[0], weights[1] / 1.1, *weights[2:])
    for changed, balanced in ((turned, True), (scaled, False)):
        torch.testing.assert_close(product(changed), v)
        gammas = deep_gaussian_gammas(changed, v, sigma_x, sigma_noise)
        found = [
            noise_imbalance(u, w, *each) < 1e-12
            for (w, u), each in zip(pairwise(changed), gammas, strict=True)
        ]
        assert all(found) == balanced


def test_of_two_layers_the_gammas_are_known():
    v, sigma_x, sigma_noise = setting()
    w, u = normal(3, 6, 4, seed=4), normal(3, 5, 6, seed=5)
    (found,) = deep_gaussian_gammas((w, u), v, sigma_x, sigma_noise)
    for left, right in zip(found, gaussian_gammas(u, w, v, sigma_x, sigma_noise), strict=True):
        torch.testing.assert_close(left, right)


def loss(params, x, y):
    return (product(list(params.values())) @ x - y).square().sum()


def sampled_grams(weights, v, sigma_x, sigma_noise, count):
    """Noise Grams of the sides of every hidden layer, from gradients at samples."""
    x = normal(count, len(sigma_x), seed=6) @ torch.linalg.cholesky(sigma_x).mT
    noise = normal(count, len(sigma_noise), seed=7) @ torch.linalg.cholesky(sigma_noise).mT
    params = {f"w{i}": weight for i, weight in enumerate(weights)}
    gradients = per_sample_gradients(loss, params, x, x @ v.mT + noise)
    for layer in range(1, len(weights)):
        units = torch.arange(weights[layer].shape[1])[:, None]
        outer = Slots(f"w{layer}", 2, -1, units)
        inner = Slots(f"w{layer - 1}", 2, -2, units)
        yield tuple(g.mean(0) for g in Symmetry("rotation", (outer,), (inner,)).grams(gradients))


@pytest.mark.parametrize("at_minimum", [True, False])
def test_the_gammas_are_those_of_sampled_gradients(at_minimum):
    v, sigma_x, sigma_noise = setting(3, 3)
    weights = deep_noise_equilibrium(v, sigma_x, sigma_noise, 3)
    if not at_minimum:
        weights = [weight + 0.3 * normal(3, 3, seed=8 + i) for i, weight in enumerate(weights)]
    gammas = deep_gaussian_gammas(weights, v, sigma_x, sigma_noise)
    measured = sampled_grams(weights, v, sigma_x, sigma_noise, 60_000)
    for (w, u), pair, (outer, inner) in zip(pairwise(weights), gammas, measured, strict=True):
        for known, sampled in zip(weighted_grams(u, w, *pair), (inner, outer), strict=True):
            assert matrix_norm(sampled / 4 - known) < 0.06 * matrix_norm(known)
        apart = matrix_norm(outer - inner) / (matrix_norm(outer) + matrix_norm(inner))
        assert (apart < 0.03) == at_minimum


def test_a_rank_deficient_product_has_as_many_hidden_units():
    v, _, sigma_noise = setting(5, 2)
    v = v @ normal(2, 4, seed=9)
    weights = deep_noise_equilibrium(v, covariance(4, 1), sigma_noise, 4)
    assert [tuple(weight.shape) for weight in weights] == [(2, 4), (2, 2), (2, 2), (5, 2)]
    torch.testing.assert_close(product(weights), v)


def test_what_has_no_equilibrium_is_refused():
    v, sigma_x, sigma_noise = setting()
    with pytest.raises(ValueError, match="depth is 1; it must be a whole number of at least 2"):
        deep_noise_equilibrium(v, sigma_x, sigma_noise, 1)
    for nothing in range(3):
        v, sigma_x, sigma_noise = (
            torch.zeros_like(t) if i == nothing else t for i, t in enumerate(setting())
        )
        with pytest.raises(ValueError, match="without noise every point is at rest"):
            deep_noise_equilibrium(v, sigma_x, sigma_noise, 3)
    v, sigma_x, sigma_noise = setting()
    silent = torch.diag(torch.tensor([0.0, 1, 1, 1, 1], dtype=torch.float64))
    with pytest.raises(ValueError, match="sigma_noise must not be singular along a direction of v"):
        deep_noise_equilibrium(v[:4], sigma_x, silent[:4, :4], 3)
    corner = torch.zeros(5, 4, dtype=torch.float64)
    corner[0, 0] = 1
    with pytest.raises(ValueError, match="silent on all that v connects"):
        deep_noise_equilibrium(corner, silent[:4, :4], silent, 3)
    with pytest.raises(ValueError, match="sigma_x must have shape"):
        deep_noise_equilibrium(v, sigma_noise, sigma_noise, 3)


def test_weights_that_do_not_multiply_are_refused():
    v, sigma_x, sigma_noise = setting()
    with pytest.raises(ValueError, match="the number of weights"):
        deep_gaussian_gammas([v], v, sigma_x, sigma_noise)
    with pytest.raises(ValueError, match="each of weights after the first must have shape"):
        deep_gaussian_gammas([normal(3, 4), normal(5, 2)], v, sigma_x, sigma_noise)
    with pytest.raises(ValueError, match="teacher must have shape"):
        deep_gaussian_gammas([normal(3, 4), normal(4, 3)], v, sigma_x, sigma_noise)
