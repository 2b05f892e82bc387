"""Both ends of the spectrum, the largest magnitudes and effective ranks against dense spectra."""

import math

import numpy as np
import pytest
import torch
from spectra import SIZE, SPECTRA, generator, with_eigenvalues

from sharpflow.curvature import LinearOperator, bottom_eigenpairs, top_eigenpairs
from sharpflow.curvature.effective_rank import (
    effective_dimension,
    participation_ratio,
    stable_rank,
)
from sharpflow.curvature.spectrum_ends import (
    both_ends,
    largest_magnitude_eigenpairs,
    spectral_norm,
)


def by_magnitude(values):
    return sorted(np.asarray(values, dtype=float), key=abs, reverse=True)


def mixed():
    """Outliers of both signs, of which the largest is negative, and a bulk."""
    return np.concatenate([np.random.default_rng(2).normal(0, 0.05, SIZE - 5), [-9, 7, -4, 3, 2]])


def semidefinite():
    """Eigenvalues that decay as those of a Gauss-Newton matrix, many of them zero."""
    return np.concatenate([10.0 * 0.9 ** np.arange(150), np.zeros(SIZE - 150)])


@pytest.mark.parametrize("values", [*SPECTRA.values(), mixed(), -SPECTRA["hessian"]])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_largest_magnitudes_are_those_of_the_spectrum(values, k):
    operator = with_eigenvalues(values)
    found = largest_magnitude_eigenpairs(operator, k, tol=1e-6)
    assert found.converged
    assert found.values.tolist() == pytest.approx(by_magnitude(values)[:k], rel=1e-6)
    assert found.ends == tuple("bottom" if v < 0 else "top" for v in found.values)
    assert found.matvecs == operator.products
    residuals = operator.matvec(found.vectors) - found.vectors * found.values
    assert torch.allclose(residuals.norm(dim=0), found.residuals, atol=1e-8)
    gram = found.vectors.T @ found.vectors
    assert torch.allclose(gram, torch.eye(k, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize(
    "values", [np.zeros(SIZE), np.full(SIZE, -2.0), np.eye(1, SIZE)[0], -np.eye(1, SIZE)[0]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_eigenvalues_are_counted_once_each(values, dtype):
    found = largest_magnitude_eigenpairs(with_eigenvalues(values, dtype), 3)
    assert found.converged
    assert found.values.tolist() == pytest.approx(by_magnitude(values)[:3], abs=1e-5)
    gram = found.vectors.T @ found.vectors
    assert torch.allclose(gram, torch.eye(3, dtype=dtype), atol=1e-3)


@pytest.mark.parametrize("values", [[-3.0], [2.0, -3.0], [1.0, -2.0, 0.0, 4.0]])
def test_all_pairs_of_a_small_operator(values):
    found = largest_magnitude_eigenpairs(with_eigenvalues(values), len(values))
    assert found.values.tolist() == pytest.approx(by_magnitude(values), abs=1e-12)
    assert float(found.residuals.max()) < 1e-12
    assert spectral_norm(with_eigenvalues(values)).value == pytest.approx(max(map(abs, values)))


@pytest.mark.parametrize("values", [SPECTRA["hessian"], mixed()])
def test_both_ends(values):
    operator = with_eigenvalues(values)
    found = both_ends(operator, 3, 2, tol=1e-5)
    ordered = np.sort(values)
    scale = np.abs(values).max()
    assert found.top.values.tolist() == pytest.approx(ordered[::-1][:3].tolist(), abs=1e-5 * scale)
    assert found.bottom.values.tolist() == pytest.approx(ordered[:2].tolist(), abs=1e-5 * scale)
    assert found.converged
    assert found.matvecs == operator.products
    for pairs in (found.top, found.bottom):
        residuals = operator.matvec(pairs.vectors) - pairs.vectors * pairs.values
        assert torch.allclose(residuals.norm(dim=0), pairs.residuals, atol=1e-9)
        assert float(pairs.residuals.max()) <= 1e-5 * scale


def test_an_end_that_is_small_beside_the_other_costs_few_products():
    """The accuracy is relative to ‖H‖: the bulk's edge is not resolved further than that."""
    operator = with_eigenvalues(np.concatenate([SPECTRA["hessian"], [1000.0]]))
    apart = top_eigenpairs(operator).matvecs + bottom_eigenpairs(operator).matvecs
    assert both_ends(operator).matvecs < apart
    norm = spectral_norm(operator)
    assert norm.value == pytest.approx(1000, rel=1e-5)
    assert (norm.end, norm.converged) == ("top", True)


def test_too_few_products_are_said():
    operator = with_eigenvalues(SPECTRA["indefinite"])
    found = largest_magnitude_eigenpairs(operator, 1, tol=1e-8, max_products=5)
    assert not found.converged
    assert not both_ends(operator, tol=1e-8, max_products=5).converged


@pytest.mark.parametrize("solve", [both_ends, largest_magnitude_eigenpairs])
def test_refusals_of_the_ends(solve):
    operator = with_eigenvalues(SPECTRA["flat"])
    for k in (0, SIZE + 1):
        with pytest.raises(ValueError, match=f"k(_top)? is {k}"):
            solve(operator, k)
    with pytest.raises(ValueError, match="tol is 0"):
        solve(operator, 1, tol=0)


def definitions(values, ridge):
    """Stable rank, participation ratio and effective dimension as they are defined."""
    squares = np.sum(values**2)
    return (
        squares / np.max(np.abs(values)) ** 2,
        np.sum(values) ** 2 / squares,
        np.sum(values / (values + ridge)),
    )


RANKS = (
    stable_rank,
    participation_ratio,
    lambda operator, **options: effective_dimension(operator, 0.5, **options),
)


@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_of_small_operators_are_exact(size, dtype):
    values = np.linspace(0.5, 4, size)
    for rank, truth in zip(RANKS, definitions(values, 0.5), strict=True):
        found = rank(with_eigenvalues(values, dtype))
        assert found.value == pytest.approx(truth, rel=1e-5)
        assert (found.standard_error, found.matvecs, found.exact) == (0.0, size, True)


@pytest.mark.parametrize("values", [SPECTRA["flat"], semidefinite()])
@pytest.mark.parametrize("index", range(3))
def test_errors_of_ranks_scatter_as_they_say(values, index):
    operator = with_eigenvalues(values)
    truth = definitions(values, 0.5)[index]
    options = {} if index == 2 else {"basis_size": 2}
    found = [
        RANKS[index](operator, exact_size=1, generator=generator(seed), **options)
        for seed in range(40)
    ]
    errors = np.array([result.value - truth for result in found])
    deviations = np.array([result.standard_error for result in found])
    ratio = math.sqrt(np.mean(errors**2) / np.mean(deviations**2))
    assert 0.65 < ratio < 1.4
    assert np.mean(np.abs(errors) < 2 * deviations) > 0.8
    assert not any(result.exact for result in found)
    assert abs(errors.mean()) < 0.5 * errors.std()


def test_stable_rank_where_the_largest_eigenvalue_is_negative():
    found = stable_rank(with_eigenvalues(mixed()), exact_size=1)
    truth = definitions(mixed(), 0)[0]
    assert abs(found.value - truth) < 4 * found.standard_error
    assert found.standard_error < 0.01 * truth


def test_rank_one_and_identity_have_ranks_one_and_p():
    one, all_ = np.eye(1, SIZE)[0] * 3, np.full(SIZE, 2.0)
    for rank in (stable_rank, participation_ratio):
        assert rank(with_eigenvalues(one), exact_size=1).value == pytest.approx(1, abs=1e-4)
        assert rank(with_eigenvalues(all_), exact_size=1).value == pytest.approx(SIZE, rel=1e-4)


@pytest.mark.parametrize("reorthogonalise", [True, False])
@pytest.mark.parametrize("steps", [20, 40])
def test_the_ridge_that_the_steps_resolve(reorthogonalise, steps):
    """Draws aside, a ridge of ‖H‖/steps² is resolved: as many draws with all steps agree."""
    operator = with_eigenvalues(semidefinite())
    ridge = 10 / steps**2
    few, all_ = (
        effective_dimension(
            operator, ridge, 8, count, 1, generator(0), reorthogonalise=reorthogonalise
        )
        for count in (steps, SIZE)
    )
    assert few.value == pytest.approx(all_.value, rel=0.02)
    assert abs(few.value - all_.value) < 0.5 * few.standard_error


def test_refusals_of_the_ranks():
    zero = LinearOperator.from_dense(torch.zeros(SIZE, SIZE))
    for rank in (stable_rank, participation_ratio):
        for size in (1, 512):
            with pytest.raises(ValueError, match="the operator is zero"):
                rank(zero, exact_size=size)
        with pytest.raises(ValueError, match="products is 2"):
            rank(zero, products=2)
    operator = with_eigenvalues(SPECTRA["indefinite"])
    for size in (1, 512):
        with pytest.raises(ValueError, match="has a negative eigenvalue"):
            effective_dimension(operator, 1.0, exact_size=size)
    with pytest.raises(ValueError, match="ridge is 0"):
        effective_dimension(operator, 0.0)
    with pytest.raises(ValueError, match="has not converged to tol=1e-30"):
        stable_rank(operator, exact_size=1, tol=1e-30)
    assert effective_dimension(zero, 1.0).value == 0.0


def test_what_is_known_of_an_end_is_in_units_of_the_operator():
    spectrum = torch.linspace(-3, 1, 400, dtype=torch.float64)
    spectrum[-2:] = torch.tensor([20.0, 40.0])
    spectrum[0] = -10.0
    operator = LinearOperator(400, lambda v: spectrum * v, torch.float64, "cpu")
    ends = both_ends(operator)
    for pairs in (ends.top, ends.bottom):
        ordered = spectrum.sort(descending=pairs is ends.top).values
        assert float(pairs.values[0]) == pytest.approx(float(ordered[0]), rel=1e-2)
        off = abs(float(pairs.values[0] - ordered[0])) / abs(float(ordered[0]))
        assert off <= float(pairs.errors[0]) <= 0.05
        assert abs(pairs.next_value) <= abs(float(ordered[1])) + 1e-9
        assert pairs.next_value * float(ordered[1]) > 0


def test_the_bottom_knows_its_next_value_with_its_sign():
    spectrum = torch.linspace(0, 1, 50, dtype=torch.float64)
    spectrum[:2] = torch.tensor([-10.0, -4.0])
    found = bottom_eigenpairs(LinearOperator.from_dense(torch.diag(spectrum)), tol=1e-8)
    assert found.next_value == pytest.approx(-4.0, rel=1e-2)


@pytest.mark.parametrize("k", [1, 2])
def test_the_zero_matrix_is_accurate(k):
    found = top_eigenpairs(LinearOperator.from_dense(torch.zeros(30, 30)), k, accuracy=0.01)
    assert found.converged
    assert found.errors.tolist() == pytest.approx([0.0] * k, abs=0.01)
