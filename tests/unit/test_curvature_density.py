"""Stochastic Lanczos quadrature against dense spectra."""

import numpy as np
import pytest
import torch

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


def test_a_small_operator_has_no_more_steps_than_dimensions():
    found = spectral_density(LinearOperator.from_dense(torch.eye(3).double()), draws=2, steps=10)
    assert found.nodes.shape == (2, 3)
    assert found.moment(1)[0] == pytest.approx(1)


def test_refusals():
    matrix = LinearOperator.from_dense(torch.eye(3).double())
    with pytest.raises(ValueError, match="draws is 1"):
        spectral_density(matrix, draws=1)
    with pytest.raises(ValueError, match="width is 0"):
        spectral_density(matrix).smoothed([0.0], 0)
