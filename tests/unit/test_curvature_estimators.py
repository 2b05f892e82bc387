"""Trace, diagonal and Frobenius norm against dense matrices; their errors against their scatter."""

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from spectra import SIZE, SPECTRA, generator, with_eigenvalues
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sharpflow.curvature import (
    LinearOperator,
    ModelCurvature,
    hessian_operator,
    spectral_density,
    top_eigenpairs,
    trace,
)
from sharpflow.curvature.diagonal import diagonal
from sharpflow.curvature.estimators import frobenius_norm
from sharpflow.curvature.sketch import Sketch, TestVectors

ESTIMATORS = (trace, diagonal, frobenius_norm)


def dense(operator):
    return operator.to_dense().double()


def exact(estimator, matrix):
    if estimator is diagonal:
        return matrix.diagonal()
    return matrix.trace() if estimator is trace else torch.linalg.matrix_norm(matrix)


def value(result):
    """Value, or values, and standard errors as float64 tensors."""
    if hasattr(result, "values"):
        return result.values.double(), result.standard_errors.double()
    return torch.tensor([result.value, result.standard_error], dtype=torch.float64).unbind()


def scores(estimator, operator, truth, seeds=60, **options):
    """(estimate − truth) and standard errors over many seeds, stacked."""
    found = [
        value(estimator(operator, exact_size=1, generator=generator(seed), **options))
        for seed in range(seeds)
    ]
    errors = torch.stack([estimate - truth for estimate, _ in found])
    return errors, torch.stack([deviation for _, deviation in found])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", [1, 64, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_operators_are_exact(estimator, size, dtype):
    operator = with_eigenvalues(np.linspace(-1, 4, size), dtype)
    result = estimator(operator)
    found, error = value(result)
    close = 1e-12 if dtype == torch.float64 else 1e-5
    assert torch.allclose(found, exact(estimator, dense(operator)), rtol=close, atol=close)
    assert (float(error.max()), result.matvecs, result.exact) == (0.0, size, True)


def test_products_that_are_not_symmetric_are_refused():
    """The fused double backward of `weight_norm` is wrong: its trace, 4.6, was called exact."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(12, 5).double(), torch.randn(12, 3).double()
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
    model = nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 3)).double()
    operator = ModelCurvature(model, nn.functional.mse_loss, inputs, targets).hessian()
    for measure in (trace, diagonal, frobenius_norm, LinearOperator.to_dense):
        with pytest.raises(
            ValueError, match=r"not those of a symmetric matrix .* second derivative"
        ):
            measure(operator)
    assert not top_eigenpairs(operator, 1, 1e-4).converged


def test_trace_and_diagonal_of_a_loss():
    x = torch.arange(12.0).view(4, 3)
    operator = hessian_operator(lambda p: (x @ p["w"]).square().mean(), {"w": torch.ones(3)})
    assert trace(operator).value == pytest.approx(float(x.square().sum() * 2 / 4))
    assert torch.allclose(diagonal(operator).values, x.square().sum(0) * 2 / 4)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(
    ("estimator", "products", "basis_size"),
    [
        *((estimator, 32, size) for estimator in (trace, diagonal) for size in (None, 4, 0)),
        *((frobenius_norm, 32, size) for size in (None, 0)),
    ],
)
def test_errors_scatter_as_the_standard_errors_say(name, estimator, products, basis_size):
    """Root mean squares over 60 seeds agree, two standard errors hold, and there is no bias."""
    operator = with_eigenvalues(SPECTRA[name])
    truth = exact(estimator, dense(operator))
    errors, deviations = scores(
        estimator, operator, truth, products=products, basis_size=basis_size
    )
    ratio = float((errors.square().mean() / deviations.square().mean()).sqrt())
    assert 0.7 < ratio < (1.6 if basis_size is None else 1.3)  # XTrace's samples are dependent
    assert float((errors.abs() < 2 * deviations).double().mean()) > 0.75
    bias = errors.mean(0).square().mean().sqrt()
    assert bias < 0.4 * errors.square().mean().sqrt()
    assert float(deviations.max()) > 0


@pytest.mark.parametrize("products", [8, 20, 33])
def test_fast_leave_one_out_is_the_slow_one(products):
    """XTrace and XDiag as they are defined: a basis made anew without each test vector."""
    matrix = dense(with_eigenvalues(SPECTRA["hessian"]))
    operator, count = LinearOperator.from_dense(matrix), products // 2
    for estimator, signs in ((trace, False), (diagonal, True)):
        w = TestVectors(operator, count, generator(3), signs).columns(0, count)
        samples = []
        for left in range(count):
            others = [column for column in range(count) if column != left]
            q = torch.linalg.qr(matrix @ w[:, others]).Q
            rest = torch.eye(SIZE, dtype=torch.float64) - q @ q.T
            own = rest @ w[:, left]
            if signs:
                sample = (q @ q.T @ matrix).diagonal() + w[:, left] * (rest @ matrix @ w[:, left])
            else:
                length = (SIZE - count + 1) / own.square().sum()
                sample = (q.T @ matrix @ q).trace() + length * (own @ matrix @ own)
            samples.append(sample)
        stacked = torch.stack(samples)
        found, error = value(estimator(operator, products, 1, generator(3)))
        assert torch.allclose(found, stacked.mean(0), rtol=1e-9, atol=1e-9)
        assert torch.allclose(error, stacked.std(0) / count**0.5, rtol=1e-7, atol=1e-9)


def test_smaller_basis_is_hutchpp_as_it_is_defined():
    matrix, products, count = dense(with_eigenvalues(SPECTRA["hessian"])), 20, 5
    operator = LinearOperator.from_dense(matrix)
    w = TestVectors(operator, products - count, generator(3)).columns(0, products - count)
    q = torch.linalg.qr(matrix @ w[:, :count]).Q
    rest = w[:, count:] - q @ (q.T @ w[:, count:])
    rest *= ((SIZE - count) / rest.square().sum(0)).sqrt()
    first = (q.T @ matrix @ q).trace() + (rest * (matrix @ rest)).sum(0)
    second = (matrix @ q).square().sum() + (matrix @ rest).square().sum(0)
    found = trace(operator, products, 1, generator(3), basis_size=count)
    assert found.value == pytest.approx(float(first.mean()), rel=1e-10)
    assert found.standard_error == pytest.approx(float(first.std()) / 10**0.5, rel=1e-8)
    norm = frobenius_norm(operator, products, 1, generator(3), basis_size=count)
    assert norm.value == pytest.approx(float(second.mean()) ** 0.5, rel=1e-10)


def test_xtrace_beats_hutchpp_and_that_hutchinson_where_eigenvalues_decay():
    operator = with_eigenvalues(SPECTRA["decaying"])
    truth = exact(trace, dense(operator))
    xtrace, hutchpp, hutchinson = (
        float(scores(trace, operator, truth, 30, products=48, basis_size=size)[0].square().mean())
        ** 0.5
        for size in (None, 16, 0)
    )
    assert 3 * xtrace < hutchpp < hutchinson / 5


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("basis_size", [None, 12])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_low_rank_is_found_exactly(estimator, basis_size, dtype, close, rank):
    values = np.zeros(SIZE)
    values[:rank] = np.linspace(-1, 2, rank) if rank > 1 else 3.0
    operator = with_eigenvalues(values, dtype)
    result = estimator(operator, 30, 1, basis_size=basis_size)
    found, error = value(result)
    assert not result.exact
    assert result.matvecs == 30
    assert torch.allclose(found, exact(estimator, dense(operator)), rtol=close, atol=close)
    assert float(error.max()) < close


@pytest.mark.parametrize("basis_size", [None, 0, 5])
def test_identity_has_an_exact_trace_and_norm(basis_size):
    operator = with_eigenvalues(np.full(SIZE, 2.0))
    for estimator, truth in ((trace, 2.0 * SIZE), (frobenius_norm, 2.0 * SIZE**0.5)):
        result = estimator(operator, 24, 1, basis_size=basis_size)
        assert result.value == pytest.approx(truth, rel=1e-12)
        assert result.standard_error < 1e-10 * truth


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("basis_size", [None, 4])
def test_a_product_that_returns_its_argument_is_not_written_over(estimator, basis_size):
    itself = LinearOperator(SIZE, lambda v: v, torch.float64, "cpu")
    copied = LinearOperator(SIZE, lambda v: v.clone(), torch.float64, "cpu")
    found, expected = (
        value(estimator(operator, 16, 1, basis_size=basis_size)) for operator in (itself, copied)
    )
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("basis_size", [None, 0, 6])
def test_diagonal_matrices_have_an_exact_diagonal(basis_size):
    values = torch.as_tensor(SPECTRA["hessian"])
    result = diagonal(LinearOperator.from_dense(values.diag()), 24, 1, basis_size=basis_size)
    if basis_size == 0:
        assert torch.allclose(result.values, values)
    assert float((result.values - values).square().sum()) < 0.05 * float(values.square().sum())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_draws_depend_on_the_generator_alone_and_the_global_state_is_left(estimator):
    operator = with_eigenvalues(SPECTRA["flat"])
    state = torch.get_rng_state()
    first = value(estimator(operator, 12, 1, generator(5)))[0]
    assert torch.equal(first, value(estimator(operator, 12, 1, generator(5)))[0])
    assert not torch.equal(first, value(estimator(operator, 12, 1, generator(6)))[0])
    default = value(estimator(operator, 12, 1))[0]
    assert torch.equal(default, value(estimator(operator, 12, 1))[0])
    source = generator(5)
    draws = [value(estimator(operator, 12, 1, source))[0] for _ in range(2)]
    assert not torch.equal(*draws)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("basis_size", [None, 0, 3])
def test_blocks_of_vectors_change_nothing(estimator, basis_size, monkeypatch):
    operator = with_eigenvalues(SPECTRA["hessian"])
    whole = value(estimator(operator, 14, 1, generator(2), basis_size=basis_size))
    monkeypatch.setattr("sharpflow.curvature.sketch._BLOCK_NUMBERS", 2 * SIZE)
    pieces = value(estimator(operator, 14, 1, generator(2), basis_size=basis_size))
    for one, other in zip(whole, pieces, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


def test_the_basis_is_orthonormal_where_products_depend_on_each_other():
    values = np.zeros(SIZE)
    values[:3] = [1e-6, 1.0, 1e3]
    for dtype, close in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        operator = with_eigenvalues(values, dtype)
        vectors = TestVectors(operator, 8, generator(0))
        sketch = Sketch(operator, vectors, 8)
        gram = sketch.rows @ sketch.rows.T
        assert torch.allclose(gram, torch.eye(8, dtype=dtype), atol=close)
        products = sketch.rows.T.double() @ sketch.triangle
        assert torch.allclose(
            products, operator.matvec(vectors.columns(0, 8)).double(), atol=1e3 * 20 * close
        )


class Held(TorchDispatchMode):
    """The most bytes that tensors made under it hold at a time."""

    def __init__(self):
        super().__init__()
        self.owners, self.live, self.most = Counter(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in [result] if isinstance(result, torch.Tensor) else []:
            storage = tensor.untyped_storage()
            self._hold(storage.data_ptr(), storage.nbytes(), 1)
            weakref.finalize(tensor, self._hold, storage.data_ptr(), storage.nbytes(), -1)
        return result

    def _hold(self, place, size, change):
        self.owners[place] += change
        if self.owners[place] == (change > 0):
            self.live += change * size
            self.most = max(self.most, self.live)


@pytest.mark.parametrize(
    ("measure", "vectors"),
    [
        (lambda operator: trace(operator, 16), 8 + 2),
        (lambda operator: trace(operator, 32, basis_size=4), 4 + 2),
        (lambda operator: frobenius_norm(operator, 32, basis_size=6), 6 + 2),
        (lambda operator: diagonal(operator, 8), 2 * 4 + 5),
        (lambda operator: diagonal(operator, 32, basis_size=4), 4 + 6),
        (lambda operator: spectral_density(operator, 2, 12), 12 + 3),
        (lambda operator: spectral_density(operator, 2, 12, reorthogonalise=False), 5),
    ],
)
def test_memory_is_what_is_said(measure, vectors, monkeypatch):
    """Vectors held at a time, beside the one that a product returns."""
    size = 20_000
    monkeypatch.setattr("sharpflow.curvature.sketch._BLOCK_NUMBERS", 1)
    monkeypatch.setattr("sharpflow.curvature.sketch._PIECE", 100)
    factors = torch.linspace(0, 1, size)
    operator = LinearOperator(size, lambda v: factors * v, torch.float32, "cpu")
    with Held() as held:
        measure(operator)
    assert vectors - 1 < held.most / (4 * size) < vectors + 1.2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_refusals(estimator):
    operator = with_eigenvalues(SPECTRA["flat"])
    with pytest.raises(ValueError, match="products is 3"):
        estimator(operator, products=3)
    for size in (-1, 9):
        with pytest.raises(ValueError, match=f"basis_size is {size}"):
            estimator(operator, 16, 1, basis_size=size)
    assert operator.products == 0


def test_the_norm_keeps_two_products_for_its_error():
    with pytest.raises(ValueError, match="basis_size is 8; of 16 products it may have 7"):
        frobenius_norm(with_eigenvalues(SPECTRA["flat"]), 16, 1, basis_size=8)
