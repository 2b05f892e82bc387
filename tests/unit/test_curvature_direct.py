"""Eigenpairs of small matrices by LAPACK, beside those that the iteration finds."""

import pytest
import torch

from sharpflow.curvature import LinearOperator, top_eigenpairs
from sharpflow.curvature.direct import LARGEST, direct_eigenpairs, is_direct


def matrix(size, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size + 5, dtype=torch.float64, generator=generator)
    return (factor @ factor.T / size - torch.eye(size)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_pairs_are_those_of_the_whole_decomposition(k, dtype):
    found = direct_eigenpairs(LinearOperator.from_dense(matrix(30, dtype)), k)
    values, vectors = torch.linalg.eigh(matrix(30))
    precision = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.values, values.flip(0)[:k], atol=precision, rtol=precision)
    overlap = (found.vectors.double() * vectors.flip(1)[:, :k]).sum(0).abs()
    torch.testing.assert_close(overlap, torch.ones(k).double(), atol=10 * precision, rtol=0)
    assert found.vectors.dtype == dtype
    assert found.converged
    assert found.pair_converged.all()


def test_pairs_are_those_of_the_iteration_also_where_one_is_repeated():
    m = torch.diag(torch.tensor([3.0, 5.0, 5.0, -9.0, 1.0], dtype=torch.float64))
    operator = LinearOperator.from_dense(m)
    direct, iterated = direct_eigenpairs(operator, 3), top_eigenpairs(operator, 3, tol=1e-10)
    torch.testing.assert_close(direct.values, torch.tensor([5.0, 5.0, 3.0]).double())
    torch.testing.assert_close(direct.values, iterated.values)
    assert direct.norm == 5.0


def test_a_tolerance_below_rounding_is_not_met():
    found = direct_eigenpairs(LinearOperator.from_dense(matrix(60, torch.float32)), 2, tol=1e-12)
    assert not found.converged
    assert (found.residuals > 0).all()


def test_only_small_matrices_at_hand_are_decomposed():
    small = LinearOperator.from_dense(matrix(20))
    assert is_direct(small)
    assert not is_direct(2.0 * small)
    assert not is_direct(LinearOperator.from_dense(torch.eye(LARGEST + 1)))
    with pytest.raises(ValueError, match="top_eigenpairs"):
        direct_eigenpairs(2.0 * small)
    with pytest.raises(ValueError, match="k is 21"):
        direct_eigenpairs(small, 21)
