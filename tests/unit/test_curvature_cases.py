"""Operators and solvers on the table of cases, against references that are made without them."""

import random
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import curvature_cases as table
import numpy as np
import pytest
import torch
from curvature_cases import CASES, LOSSES, MODELS, REFUSED, Case, hessian_of, setup
from small_classifier import draw
from torch.func import functional_call

from sharpflow.curvature import (
    LinearOperator,
    SharpnessTracker,
    bottom_eigenpairs,
    eigenpairs_above,
    gauss_newton_operator,
    hessian_operator,
    sharpness,
    spectral_density,
    trace,
)
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.streamed_loss import StreamedLoss

each_case = pytest.mark.parametrize("case", CASES, ids=str)
WHOLE = [case for case in CASES if case.data == "whole"]
SOLVED = [case for case in CASES if case.data == "whole" or case.model in ("linear", "gelu")]
"""Solvers and precisions see products only: a few of those that are streamed stand for them all."""
PAIRS = sorted({(case.model, case.loss) for case in (*CASES, *REFUSED)})


def operator_of(case: Case) -> LinearOperator:
    """The Hessian that a tracker of the general kind measures."""
    made = setup(case)
    kind = ModelLoss if case.data in ("whole", "micro") else StreamedLoss
    return kind(*made.arguments, **made.options).hessian()


@cache
def spectrum_of(case: Case) -> torch.Tensor:
    """Eigenvalues of the reference, descending."""
    return torch.linalg.eigvalsh(hessian_of(case)).flip(0)


def assert_near(found, expected, tolerance: float, size: torch.Tensor | None = None) -> None:
    """The largest difference is within a tolerance of the largest number."""
    scale = float((expected if size is None else size).abs().max())
    found = torch.as_tensor(found, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def state_of(model: torch.nn.Module) -> list[Any]:
    """All that a measurement could change in a model, and in the random generators."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        [(name, id(p), p._version, p.requires_grad, p.tolist()) for name, p in pairs(model)],
        [(name, id(p.grad), p.grad.tolist()) for name, p in model.named_parameters()],
        [(name, id(b), b._version, b.tolist()) for name, b in model.named_buffers()],
        [(m.training, *(len(getattr(m, kind)) for kind in hooks)) for m in model.modules()],
        [sorted(vars(module)) for module in model.modules()],
        torch.random.get_rng_state().tolist(),
        repr(random.getstate()),
        repr(np.random.get_state()),  # noqa: NPY002 (what users draw from)
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    ]


def pairs(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return list(model.named_parameters(remove_duplicate=False))


@contextmanager
def unchanged(model: torch.nn.Module):
    """What is in the block leaves a model as it was, gradients too."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state_of(model)
    yield
    for now, then in zip(state_of(model), before, strict=True):
        assert now == then


@pytest.mark.parametrize(("model", "loss"), PAIRS)
def test_references_are_what_gradients_change_by(model, loss):
    found = table.flat(model, loss)
    direction = draw(len(found.start), seed=5)
    slope = partial(table.slope, found.loss)
    change = table.differences(model, slope, found.start, direction / direction.norm())
    assert_near(table.whole_hessian(model, loss) @ direction / direction.norm(), change, 1e-7)


def test_every_value_of_every_axis_is_in_the_table():
    rows = [*CASES, *REFUSED]
    assert len(set(rows)) == len(rows)
    assert {case.model for case in rows} == set(MODELS)
    assert {case.loss for case in rows} == set(LOSSES)
    for data in ("whole", "micro", "tuples", "loader", "dicts"):
        met = {case.subset for case in CASES if case.data == data}
        assert met == {"all", "only", "frozen"}, data


@each_case
def test_the_operator_is_the_hessian(case):
    operator, expected = operator_of(case), hessian_of(case)
    assert_near(operator.to_dense(), expected, 1e-9)
    block = draw(len(expected), 2, seed=3)
    assert_near(operator @ block, expected @ block, 1e-9)
    assert_near(operator @ block[:, 0], expected @ block[:, 0], 1e-9)


@each_case
def test_the_tracker_and_sharpness_find_the_top_and_change_nothing(case):
    made, expected = setup(case), spectrum_of(case)
    with unchanged(made.model):
        tracker = SharpnessTracker(*made.arguments, k=3, tol=1e-7, **made.options)
        found = tracker.measure()
        value = sharpness(*made.arguments, tol=1e-7, **made.options)
    assert found.converged
    assert_near(found.values, expected[:3], 1e-7, expected)
    assert value == pytest.approx(float(expected[0]), rel=1e-6)
    images = hessian_of(case) @ found.vectors
    assert_near(images, found.vectors * found.values, 1e-6, expected)
    assert_near(found.vectors.T @ found.vectors, torch.eye(3, dtype=torch.float64), 1e-9)
    assert tracker.verified["finite_difference"] < 0.05


@pytest.mark.parametrize("case", SOLVED, ids=str)
def test_float32_gives_the_top_to_a_thousandth(case):
    made, expected = setup(case, torch.float32), spectrum_of(case)
    found = SharpnessTracker(*made.arguments, k=3, tol=1e-4, **made.options).measure()
    assert_near(found.values, expected[:3], 1e-3, expected)


@pytest.mark.parametrize("case", SOLVED, ids=str)
def test_solvers_find_the_rest_of_the_spectrum(case):
    operator, expected = operator_of(case), spectrum_of(case)
    bottom = bottom_eigenpairs(operator, 2, tol=1e-7)
    assert_near(bottom.values, expected.flip(0)[:2], 1e-7, expected)
    gap = int((expected[:6] - expected[1:7]).argmax())
    bound = float(expected[gap] + expected[gap + 1]) / 2
    above = eigenpairs_above(operator, bound, tol=1e-7)
    assert above.converged
    assert_near(above.values, expected[: gap + 1], 1e-7, expected)
    total = trace(operator)
    assert total.exact
    assert total.value == pytest.approx(float(expected.sum()), rel=1e-9, abs=1e-10)
    dense = LinearOperator.from_dense(hessian_of(case))
    found, same = (spectral_density(each, draws=2, steps=4) for each in (operator, dense))
    assert found.moment(2)[0] == pytest.approx(same.moment(2)[0], rel=1e-9)


@pytest.mark.parametrize("case", [c for c in WHOLE if not LOSSES[c.loss].penalty], ids=str)
def test_functions_of_a_dict_of_parameters(case):
    """The public operators, on a loss and a network that are written with `functional_call`."""
    made = setup(case)

    def outputs(given):
        return functional_call(made.model, given, made.inputs)

    if True:
        hessian = hessian_operator(lambda p: made.loss_fn(outputs(p), made.targets), made.params)
        newton = gauss_newton_operator(
            outputs, made.params, lambda f: made.loss_fn(f, made.targets)
        )
        assert_near(hessian.to_dense(), hessian_of(case), 1e-9)
        assert_near(newton.to_dense(), table.gauss_newton_of(case), 1e-9)
    if case.model == "linear":
        assert_near(newton.to_dense(), hessian_of(case), 1e-9)
    else:
        difference = (newton.to_dense() - hessian_of(case)).norm()
        assert difference > 1e-3 * hessian_of(case).norm()


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_would_be_another_number_is_refused(case):
    made = setup(case)
    with unchanged(made.model), pytest.raises(ValueError, match=case.refused) as caught:
        sharpness(*made.arguments, **made.options)
    assert "\n" not in str(caught.value)
