"""The trace against sums of diagonals."""

import pytest
import torch

from sharpflow.curvature import LinearOperator, hessian_operator, trace


def symmetric(size, seed=0):
    matrix = torch.randn(
        size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("size", [1, 64, 130])
def test_small_operators_are_exact(size):
    matrix = symmetric(size)
    result = trace(LinearOperator.from_dense(matrix))
    assert result.value == pytest.approx(float(matrix.trace()), rel=1e-12)
    assert (result.standard_error, result.matvecs, result.exact) == (0.0, size, True)


def test_trace_of_a_loss():
    x = torch.arange(12.0).view(4, 3)
    operator = hessian_operator(lambda p: (x @ p["w"]).square().mean(), {"w": torch.ones(3)})
    assert trace(operator).value == pytest.approx(float(x.square().sum() * 2 / 4))


def test_estimates_scatter_as_their_standard_error_says():
    matrix = symmetric(300)
    operator, truth = LinearOperator.from_dense(matrix), float(matrix.trace())
    scores, spread = [], []
    for seed in range(80):
        generator = torch.Generator().manual_seed(seed)
        result = trace(operator, products=60, exact_size=10, generator=generator)
        assert not result.exact
        assert result.matvecs == 60
        scores.append((result.value - truth) / result.standard_error)
        spread.append(result.standard_error)
    scores = torch.tensor(scores)
    assert 0.8 < float(scores.std()) < 1.3
    assert abs(float(scores.mean())) < 0.4
    assert min(spread) > 0


def test_low_rank_is_found_exactly_and_its_products_are_few():
    factor = torch.randn(600, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = factor @ factor.T
    result = trace(LinearOperator.from_dense(matrix), products=30)
    assert not result.exact
    assert result.value == pytest.approx(float(matrix.trace()), rel=1e-8)
    assert result.standard_error < 1e-6 * result.value


def test_zero_operator_and_bad_budget():
    operator = LinearOperator.from_dense(torch.zeros(600, 600))
    assert trace(operator).value == 0.0
    with pytest.raises(ValueError, match="products is 5"):
        trace(operator, products=5)
