"""The eigensolver against dense spectra, on easy, random and adversarial matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import eigsh

from sharpflow.curvature import LinearOperator, eigenpairs_above, top_eigenpairs

CPU = torch.device("cpu")


def rotation(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator)).Q


def with_spectrum(values, seed=0, dtype=torch.float64):
    values = torch.as_tensor(values, dtype=torch.float64)
    q = rotation(len(values), seed)
    matrix = (q * values) @ q.T
    return ((matrix + matrix.T) / 2).to(dtype), q


def true_residuals(matrix, result):
    matrix, vectors = matrix.double(), result.vectors.double()
    return (matrix @ vectors - vectors * result.values).norm(dim=0)


def check(matrix, result, expected, tol):
    """Residuals as stated and within ``tol``, unit orthogonal vectors, values as expected."""
    assert result.converged
    expected = torch.as_tensor(expected, dtype=torch.float64)
    unit = torch.finfo(matrix.dtype).eps
    norm = float(torch.linalg.matrix_norm(matrix.double(), 2))
    rounding = 50 * unit * norm
    bounds = tol * result.values.abs().clamp(min=math.sqrt(unit) * norm) + rounding
    assert (true_residuals(matrix, result) <= bounds).all()
    overlap = result.vectors.double().T @ result.vectors.double()
    torch.testing.assert_close(overlap, torch.eye(len(expected)).double(), rtol=0, atol=50 * unit)
    assert ((result.values - expected).abs() <= bounds).all()


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 40),
    k=st.integers(1, 4),
    sign=st.sampled_from(["mixed", "positive", "negative"]),
    seed=st.integers(0, 10_000),
)
def test_random_symmetric_matrices(size, k, sign, seed):
    k = min(k, size)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, dtype=torch.float64, generator=generator)
    values = {"mixed": values, "positive": values.abs(), "negative": -values.abs()}[sign]
    matrix, _ = with_spectrum(values, seed)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), k, tol=1e-8)
    check(matrix, result, values.sort(descending=True).values[:k], 1e-8)
    assert result.norm <= float(values.abs().max()) * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(gap=st.sampled_from([0.0, 1e-6, 1e-3]), k=st.integers(1, 3), seed=st.integers(0, 1000))
def test_close_and_repeated_top_eigenvalues(gap, k, seed):
    bulk = torch.linspace(-3, 0.9, 300, dtype=torch.float64)
    values = torch.cat([torch.tensor([1.0, 1 - gap]).double(), bulk])
    matrix, _ = with_spectrum(values, seed)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), k, tol=1e-7, max_products=5000)
    check(matrix, result, [1.0, 1 - gap, 0.9][:k], 1e-7)


def test_a_gap_of_one_millionth_is_resolved():
    values = [1.0, 1 - 1e-6, *torch.linspace(-1, 0.5, 198).tolist()]
    matrix, q = with_spectrum(values)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 2, tol=1e-10)
    check(matrix, result, values[:2], 1e-10)
    for index in range(2):
        assert abs(float(result.vectors[:, index] @ q[:, index])) > 1 - 1e-6


def test_a_triple_eigenvalue_needs_no_luck():
    values = [2.0, 2.0, 2.0, *torch.linspace(-1, 1.5, 497).tolist()]
    matrix, _ = with_spectrum(values)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 3, tol=1e-6)
    check(matrix, result, values[:3], 1e-6)


def test_a_repeated_eigenvalue_is_whole_above_a_bound():
    """The second block of start vectors has to see what the first one could not."""
    values = [2.0] * 3 + [1.0] * 3 + [0.5] * 12
    matrix, _ = with_spectrum(values)
    operator = LinearOperator.from_dense(matrix)
    check(matrix, eigenpairs_above(operator, 1.5, 1e-6), values[:3], 1e-6)
    two = top_eigenpairs(operator, 2, tol=1e-6)
    check(matrix, top_eigenpairs(operator, 4, 1e-6, two.vectors), values[:4], 1e-6)


@pytest.mark.parametrize("most", [1, 2, 5, 30])
def test_pairs_above_a_bound_take_no_more_products_than_they_may(most):
    values = [3.0 - 0.1 * i for i in range(12)] + [0.5] * 200
    operator = LinearOperator.from_dense(with_spectrum(values)[0])
    found = eigenpairs_above(operator, 1.5, 1e-6, max_products=most)
    assert operator.products == found.matvecs <= most
    assert not found.converged
    start = top_eigenpairs(operator, 5, 1e-6).vectors
    assert eigenpairs_above(operator, 1.5, initial=start, max_products=most).matvecs <= most
    with pytest.raises(ValueError, match="max_products is 0"):
        eigenpairs_above(operator, 1.5, max_products=0)


SCALES = [(torch.float32, e) for e in (-30, -22, 20, 30)] + [
    (torch.float64, e) for e in (-250, -160, 150, 250)
]


@pytest.mark.parametrize(("dtype", "exponent"), SCALES)
def test_the_scale_of_a_matrix_changes_nothing(dtype, exponent):
    """Squares of products of such a size vanish or overflow in their own precision."""
    values = [3.0, 2.5, *torch.linspace(-2, 2, 398).tolist()]
    matrix = with_spectrum(values, dtype=dtype)[0]
    plain = top_eigenpairs(LinearOperator.from_dense(matrix), 2, 1e-4)
    factor = 2.0 ** round(exponent * math.log2(10))
    found = top_eigenpairs(LinearOperator.from_dense(matrix * factor), 2, 1e-4)
    assert found.converged
    assert found.matvecs == plain.matvecs
    for name in ("values", "residuals", "norm", "next_value"):
        scaled, expected = (np.atleast_1d(getattr(r, name)).tolist() for r in (found, plain))
        assert np.divide(scaled, factor) == pytest.approx(np.array(expected), rel=1e-3, nan_ok=True)
    assert found.errors.tolist() == pytest.approx(plain.errors.tolist(), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dominant_negative_eigenvalue_is_not_returned(dtype):
    values = [-100.0, -50.0, *torch.linspace(-1, 1, 300).tolist(), 1.5]
    matrix, _ = with_spectrum(values, dtype=dtype)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 1, tol=1e-3)
    check(matrix, result, [1.5], 1e-3)
    assert result.norm == pytest.approx(100.0, rel=1e-3)


def test_negative_definite_matrix_gives_its_largest_algebraic_value():
    matrix, _ = with_spectrum(-torch.linspace(1, 50, 60))
    check(matrix, top_eigenpairs(LinearOperator.from_dense(matrix), 2, 1e-6), [-1, -1.8305], 1e-3)


def test_zero_operator_converges_to_zero():
    result = top_eigenpairs(LinearOperator.from_dense(torch.zeros(50, 50)), 2)
    assert result.converged
    assert torch.equal(result.values, torch.zeros(2).double())
    assert torch.equal(result.residuals, torch.zeros(2).double())
    assert result.matvecs == 2


def test_identity_and_rank_one():
    check(
        torch.eye(500), top_eigenpairs(LinearOperator.from_dense(torch.eye(500)), 3), [1] * 3, 0.1
    )
    spike = torch.zeros(500, 500)
    spike[7, 7] = 5.0
    result = top_eigenpairs(LinearOperator.from_dense(spike), 1)
    check(spike, result, [5.0], 1e-3)
    assert result.matvecs <= 3


def test_one_dimension():
    for value in (-3.0, 0.0, 2.5):
        result = top_eigenpairs(LinearOperator.from_dense(torch.tensor([[value]])))
        assert result.converged
        assert result.values.item() == pytest.approx(value)
        assert result.matvecs == 1


def test_cold_single_pair_needs_no_more_products_than_lanczos():
    values = [*torch.linspace(0, 1, 600).tolist(), 1.2, -2.0]
    matrix, _ = with_spectrum(values)
    array, calls = matrix.numpy(), []

    def product(x):
        calls.append(1)
        return array @ x

    size = len(values)
    operator = ScipyOperator((size, size), matvec=product, dtype=array.dtype)
    eigsh(operator, 1, which="LA", tol=1e-3)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 1, tol=1e-3)
    check(matrix, result, [1.2], 1e-3)
    assert result.matvecs <= len(calls)


def test_restarts_reach_the_same_pairs():
    matrix, _ = with_spectrum(torch.linspace(0, 1, 400) ** 2)
    operator = LinearOperator.from_dense(matrix)
    small = top_eigenpairs(operator, 2, tol=1e-6, basis_size=10, max_products=4000)
    check(matrix, small, [1.0, (398 / 399) ** 2], 1e-5)
    assert small.matvecs > 20


def test_warm_start_is_free_at_the_same_matrix_and_cheap_beside_it():
    matrix, _ = with_spectrum([3.0, 2.0, *torch.linspace(-1, 1, 398).tolist()])
    operator = LinearOperator.from_dense(matrix)
    cold = top_eigenpairs(operator, 2)
    again = top_eigenpairs(operator, 2, initial=cold.vectors)
    assert again.matvecs == 2
    torch.testing.assert_close(again.values, cold.values, rtol=1e-6, atol=0)
    turn = torch.randn(400, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    moved = matrix + 2e-3 * (turn + turn.T) / math.sqrt(2)
    warm = top_eigenpairs(LinearOperator.from_dense(moved), 2, initial=cold.vectors)
    check(moved, warm, torch.linalg.eigvalsh(moved).flip(0)[:2], 1e-3)
    assert warm.matvecs < cold.matvecs / 2


def test_guard_escapes_a_start_in_the_wrong_eigenvector():
    matrix, q = with_spectrum([3.0, 2.0, *torch.linspace(-1, 1, 398).tolist()])
    operator = LinearOperator.from_dense(matrix)
    locked = top_eigenpairs(operator, 1, initial=q[:, 1])
    assert locked.values.item() == pytest.approx(2.0)  # an eigenpair, and not the top one
    guarded = top_eigenpairs(operator, 1, initial=q[:, 1], guard=6)
    check(matrix, guarded, [3.0], 1e-3)


def test_start_vectors_that_are_dependent_or_zero():
    matrix, _ = with_spectrum(torch.linspace(-1, 1, 30))
    start = torch.zeros(30, 3, dtype=torch.float64)
    start[:, :2] = 1.0
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 3, tol=1e-6, initial=start)
    check(matrix, result, torch.linspace(-1, 1, 30).double().flip(0)[:3], 1e-5)


def test_exhausted_budget_is_not_called_converged():
    matrix, _ = with_spectrum(torch.linspace(0, 1, 500))
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 1, tol=1e-8, max_products=5)
    assert not result.converged
    assert result.matvecs == 5
    torch.testing.assert_close(true_residuals(matrix, result), result.residuals, rtol=1e-6, atol=0)


def test_a_tolerance_below_rounding_is_not_called_converged():
    matrix, _ = with_spectrum(torch.linspace(-1, 1, 400), dtype=torch.float32)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), 1, tol=1e-10)
    assert not result.converged
    assert result.matvecs < 400
    assert result.values.item() == pytest.approx(1.0, abs=1e-4)


def test_the_same_numbers_twice_and_other_numbers_with_another_generator():
    matrix, _ = with_spectrum(torch.linspace(-1, 1, 300))
    operator = LinearOperator.from_dense(matrix)
    first, second = top_eigenpairs(operator), top_eigenpairs(operator)
    assert torch.equal(first.vectors, second.vectors)
    other = top_eigenpairs(operator, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first.vectors, other.vectors)
    assert operator.products == first.matvecs + second.matvecs + other.matvecs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "k is 4"),
        ({"k": 0}, "k is 0"),
        ({"tol": 0.0}, "tol is 0"),
        ({"k": 2, "max_products": 1}, "max_products is 1"),
        ({"guard": -1}, "guard is -1"),
        ({"initial": torch.ones(4)}, r"initial has shape \(4,\)"),
        ({"initial": torch.full((3,), float("nan"))}, "initial holds NaN"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(LinearOperator.from_dense(torch.eye(3)), **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees_with_cpu():
    matrix, _ = with_spectrum(torch.linspace(-1, 1, 300))
    host = top_eigenpairs(LinearOperator.from_dense(matrix), 2, tol=1e-8)
    device = top_eigenpairs(LinearOperator.from_dense(matrix.cuda()), 2, tol=1e-8)
    torch.testing.assert_close(device.values, host.values)


def test_products_that_are_not_symmetric_are_not_iterated_below_their_asymmetry():
    stream = torch.Generator().manual_seed(0)
    values = torch.linspace(0.0, 0.9, 600, dtype=torch.float64)
    values[-1] = 1.0
    wrong = torch.randn(600, 600, dtype=torch.float64, generator=stream) * 0.02 / 600**0.5

    def found(error: torch.Tensor):
        operator = LinearOperator(600, lambda v: values * v + error @ v, torch.float64, CPU)
        return top_eigenpairs(operator, accuracy=1e-3, initial=torch.ones(600).double())

    even, skew = found(wrong + wrong.T), found(wrong - wrong.T)
    assert even.converged
    assert not skew.converged
    assert skew.matvecs < even.matvecs
    assert skew.asymmetry > 1e-3
