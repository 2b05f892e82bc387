"""Stochastic Lanczos quadrature against dense spectra."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from sharpflow.curvature import LinearOperator, spectral_density

P = 400


def operator(values: np.ndarray, dtype=torch.float64) -> LinearOperator:
    """An operator with these eigenvalues, in a random basis."""
    source = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(P, P, generator=source, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.as_tensor(values)) @ basis.T
    return LinearOperator.from_dense(((matrix + matrix.T) / 2).to(dtype))


def outlying() -> np.ndarray:
    """A bulk about 0, as a network's Hessian has, and three outliers."""
    bulk = np.random.default_rng(0).normal(0, 0.1, P - 3)
    return np.concatenate([bulk, [5.0, 8.0, 20.0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_and_moments_are_those_of_the_spectrum(dtype):
    values = outlying()
    found = spectral_density(operator(values, dtype), draws=30)
    assert found.matvecs == 30 * 40
    assert np.nansum(found.weights, axis=1) == pytest.approx(1)
    for low, high in ((-np.inf, -0.05), (-0.05, 0.05), (0.05, 3), (3, np.inf)):
        share, error = found.share(low, high)
        exact = np.mean((values >= low) & (values < high))
        assert abs(share - exact) < 4 * error + 0.02
    for power in (1, 2, 3):
        moment, error = found.moment(power)
        assert abs(moment - np.mean(values**power)) < 4 * error


def test_the_error_bars_cover():
    """Of the mean of λ² over many seeds: two standard errors hold 95 % of them, about."""
    values = outlying()
    matrix = operator(values)
    hits = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        moment, error = spectral_density(matrix, 12, 6, generator).moment(2)
        hits.append(abs(moment - np.mean(values**2)) < 2.2 * error)
    assert np.mean(hits) > 0.85


def test_the_smoothed_density_is_the_spectrum_seen_through_the_same_window():
    values = outlying()
    found = spectral_density(operator(values), draws=20, steps=60)
    grid = np.linspace(-0.4, 0.4, 81)
    density, error = found.smoothed(grid, 0.05)
    exact = np.exp(-(((grid[:, None] - values) / 0.05) ** 2) / 2).mean(1) / (
        0.05 * np.sqrt(2 * np.pi)
    )
    assert np.max(np.abs(density - exact) - 4 * error) < 0.03 * exact.max()
    wide = np.linspace(-3, 25, 4001)
    whole = found.smoothed(wide, 0.05)[0].sum() * (wide[1] - wide[0])
    assert whole == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("values", [np.zeros(P), np.full(P, 3.0), np.repeat([1.0, 4.0], P // 2)])
def test_few_distinct_eigenvalues_are_all_that_has_weight(values):
    found = spectral_density(operator(values), draws=4)
    assert found.moment(1)[0] == pytest.approx(values.mean(), abs=0.2)
    assert found.share(values.min() - 0.1, values.max() + 0.1)[0] == pytest.approx(1)
    spurious = np.abs(found.nodes[..., None] - values).min(axis=-1) > 1e-6
    assert np.nansum(found.weights[spurious]) < 1e-12


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e20),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_a_scale_of_the_operator_is_one_of_the_nodes_alone(dtype, scale):
    plain = spectral_density(operator(outlying(), dtype), draws=3)
    matvec = operator(outlying(), dtype).matvec
    scaled = spectral_density(LinearOperator(P, lambda v: scale * matvec(v), dtype, "cpu"), draws=3)
    assert scaled.share(low=0.0) == pytest.approx(plain.share(low=0.0), rel=1e-3)
    assert 0.3 < scaled.share(low=0.0)[0] < 0.7
    assert scaled.moment(1)[0] == pytest.approx(scale * plain.moment(1)[0], rel=1e-4)


@pytest.mark.parametrize("function", [lambda z: 1 / z, np.log])
def test_a_function_is_asked_at_nodes_alone(function):
    """Two distinct eigenvalues: the rules have two nodes and room for forty."""
    values = np.repeat([1.0, 4.0], P // 2)
    found = spectral_density(LinearOperator.from_dense(torch.as_tensor(values).diag()), draws=30)
    assert np.isnan(found.nodes).any()
    mean, error = found.mean(function)
    assert abs(mean - np.mean(function(values))) < 4 * error


THREE = {
    "outliers": outlying(),
    "decaying": 10 * 0.97 ** np.arange(P),
    "two bulks": np.concatenate([np.linspace(-3, -2, P // 2), np.linspace(1, 5, P // 2)]),
}


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize("steps", [5, 20, 80])
@pytest.mark.parametrize("values", THREE.values(), ids=THREE)
def test_each_rule_is_within_its_bound_of_the_spectrum_that_its_vector_sees(
    values, steps, reorthogonalise
):
    """Of a diagonal matrix a vector v sees λ_i with weight v_i²; Wasserstein distances."""
    matrix = LinearOperator.from_dense(torch.as_tensor(values).diag())
    found = spectral_density(
        matrix, 3, steps, torch.Generator().manual_seed(4), reorthogonalise=reorthogonalise
    )
    source = torch.Generator().manual_seed(4)
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        seen = torch.randn(P, generator=source, dtype=torch.float64).square().numpy()
        kept = weights > 0
        distance = wasserstein_distance(nodes[kept], values, weights[kept], seen)
        assert distance < np.pi * np.ptp(values) / (4 * steps)


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize("values", THREE.values(), ids=THREE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distance_to_the_dense_spectrum(values, reorthogonalise, dtype):
    """At the defaults, 8 draws of 40 steps: under 1.5 % of the range of the spectrum."""
    found = spectral_density(operator(values, dtype), reorthogonalise=reorthogonalise)
    kept = found.weights > 0
    distance = wasserstein_distance(found.nodes[kept], values, found.weights[kept])
    assert distance < 0.015 * np.ptp(values)


def test_without_reorthogonalisation_ghosts_share_the_weight_of_their_eigenvalue():
    values = outlying()
    whole, ghosts = (
        spectral_density(operator(values, torch.float32), 4, 100, reorthogonalise=kept)
        for kept in (True, False)
    )
    at_top = [int((np.abs(found.nodes[0] - 20) < 1e-3).sum()) for found in (whole, ghosts)]
    assert at_top[0] == 1 < at_top[1]
    for found in (whole, ghosts):
        assert np.nansum(found.weights, axis=1) == pytest.approx(1)
    assert ghosts.share(low=10)[0] == pytest.approx(whole.share(low=10)[0], rel=1e-3)
    for power in (1, 2, 3):
        assert ghosts.moment(power)[0] == pytest.approx(whole.moment(power)[0], rel=1e-3)
    grid = np.linspace(-0.4, 0.4, 41)
    densities = [found.smoothed(grid, 0.05)[0] for found in (whole, ghosts)]
    assert np.abs(densities[0] - densities[1]).max() < 0.02 * densities[0].max()


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize(
    ("read", "truth"),
    [
        (lambda found: found.moment(1), lambda values: np.mean(values)),
        (lambda found: found.share(low=0.5), lambda values: np.mean(values >= 0.5)),
        (lambda found: found.share(high=3.0), lambda values: np.mean(values < 3.0)),
        (lambda found: found.mean(np.exp), lambda values: np.mean(np.exp(values))),
    ],
)
def test_errors_scatter_as_they_say(read, truth, reorthogonalise):
    """Of what the nodes resolve: moments, smooth functions, and shares with ends in gaps."""
    values = np.concatenate([np.linspace(-0.5, 0, P - 30), np.linspace(1, 2, 20), [4.0] * 10])
    matrix, exact = operator(values), truth(values)
    found = [
        read(
            spectral_density(
                matrix, 8, 30, torch.Generator().manual_seed(seed), reorthogonalise=reorthogonalise
            )
        )
        for seed in range(40)
    ]
    errors, deviations = np.array([value - exact for value, _ in found]), np.array(found)[:, 1]
    assert 0.7 < np.sqrt(np.mean(errors**2) / np.mean(deviations**2)) < 1.35
    assert np.mean(np.abs(errors) < 2 * deviations) > 0.8


@pytest.mark.parametrize("reorthogonalise", [True, False])
def test_a_product_that_returns_its_argument_is_not_written_over(reorthogonalise):
    itself = LinearOperator(P, lambda v: v, torch.float64, "cpu")
    found = spectral_density(itself, 2, 5, reorthogonalise=reorthogonalise)
    assert np.nanmax(np.abs(found.nodes - 1)) < 1e-12
    assert found.matvecs == 2


def test_draws_depend_on_the_generator_alone_and_the_global_state_is_left():
    state, matrix = torch.get_rng_state(), operator(outlying())
    first, again, other = (
        spectral_density(matrix, 2, 5, torch.Generator().manual_seed(seed)).nodes
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_small_operator_has_no_more_steps_than_dimensions():
    found = spectral_density(LinearOperator.from_dense(torch.eye(3).double()), draws=2, steps=10)
    assert found.nodes.shape == (2, 3)
    assert found.moment(1)[0] == pytest.approx(1)


def test_refusals():
    matrix = LinearOperator.from_dense(torch.eye(3).double())
    with pytest.raises(ValueError, match="draws is 1"):
        spectral_density(matrix, draws=1)
    with pytest.raises(ValueError, match=r"draws is 2.5; it must be a whole number"):
        spectral_density(matrix, draws=2.5)
    with pytest.raises(ValueError, match="steps is True; it must be a whole number"):
        spectral_density(matrix, steps=True)
    with pytest.raises(ValueError, match="width is 0"):
        spectral_density(matrix).smoothed([0.0], 0)
