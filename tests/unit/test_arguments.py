"""Numbers that a caller gives: what is none is told by its name, before anything is computed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sharpflow.arguments import as_number, check_not_negative, check_positive
from sharpflow.curvature import (
    LinearOperator,
    ModelCurvature,
    SharpnessMonitor,
    SharpnessTracker,
    both_ends,
    bottom_eigenpairs,
    diagonal,
    effective_dimension,
    eigenpairs_above,
    frobenius_norm,
    largest_magnitude_eigenpairs,
    participation_ratio,
    sharpness,
    spectral_density,
    spectral_norm,
    stable_rank,
    top_eigenpairs,
    trace,
)

MATRIX = torch.diag(torch.arange(1.0, 13.0, dtype=torch.float64))


def operator() -> LinearOperator:
    return LinearOperator(12, lambda v: MATRIX @ v, torch.float64, "cpu")


def model() -> tuple[Any, ...]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    data = torch.randn(10, 4, dtype=torch.float64)
    return net, nn.MSELoss(), data[:, :3], data[:, 3:]


def tracked(**given: Any) -> Any:
    return SharpnessTracker(*model(), **given)


COUNTS: dict[str, tuple[Callable[..., Any], dict[str, int]]] = {
    "operator": (lambda size: LinearOperator(size, torch.clone, torch.float64, "cpu"), {"size": 1}),
    "top": (
        lambda **given: top_eigenpairs(operator(), **given),
        {"k": 1, "max_products": 1, "guard": 0, "basis_size": 1, "more": 0},
    ),
    "bottom": (lambda **given: bottom_eigenpairs(operator(), **given), {"k": 1}),
    "ends": (lambda **given: both_ends(operator(), **given), {"k_top": 1, "k_bottom": 1}),
    "magnitude": (lambda **given: largest_magnitude_eigenpairs(operator(), **given), {"k": 1}),
    "norm": (lambda **given: spectral_norm(operator(), **given), {"max_products": 1}),
    "above": (
        lambda **given: eigenpairs_above(operator(), 5.0, **given),
        {"most": 1, "max_products": 1},
    ),
    "trace": (
        lambda **given: trace(operator(), **given),
        {"products": 4, "exact_size": 0, "basis_size": 0},
    ),
    "diagonal": (
        lambda **given: diagonal(operator(), **given),
        {"products": 4, "exact_size": 0, "basis_size": 0},
    ),
    "frobenius": (lambda **given: frobenius_norm(operator(), **given), {"products": 4}),
    "participation": (lambda **given: participation_ratio(operator(), **given), {"products": 4}),
    "stable rank": (lambda **given: stable_rank(operator(), **given), {"exact_size": 0}),
    "dimension": (
        lambda **given: effective_dimension(operator(), 0.1, **given),
        {"exact_size": 0},
    ),
    "density": (lambda **given: spectral_density(operator(), **given), {"draws": 2, "steps": 1}),
    "tracker": (
        tracked,
        {
            "k": 1,
            "max_products": 1,
            "basis_size": 1,
            "check_every": 1,
            "micro_batch": 1,
            "history": 1,
        },
    ),
    "sharpness": (lambda **given: sharpness(*model(), **given), {"micro_batch": 1}),
    "fisher": (lambda draws: ModelCurvature(*model()).monte_carlo_fisher(draws), {"draws": 1}),
    "monitor": (lambda every: SharpnessMonitor(tracked(), every=every), {"every": 1}),
}
EACH = [(call, name, least) for call, names in COUNTS.values() for name, least in names.items()]
IDS = [f"{what}-{name}" for what, (_, names) in COUNTS.items() for name in names]


@pytest.mark.parametrize(("call", "name", "least"), EACH, ids=IDS)
def test_a_count_is_a_whole_number_that_is_large_enough(call, name, least):
    for wrong in (least - 1, least + 0.5, True, "2", math.nan):
        with pytest.raises(ValueError, match=f"^{name} is {wrong!r}; .*whole number"):
            call(**{name: wrong})
    call(**{name: np.int64(least)})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda tol: top_eigenpairs(operator(), tol=tol), "tol"),
        (lambda accuracy: top_eigenpairs(operator(), accuracy=accuracy), "accuracy"),
        (lambda tol: both_ends(operator(), tol=tol), "tol"),
        (lambda tol: largest_magnitude_eigenpairs(operator(), tol=tol), "tol"),
        (lambda ridge: effective_dimension(operator(), ridge), "ridge"),
        (lambda tol: tracked(tol=tol), "tol"),
        (lambda accuracy: sharpness(*model(), accuracy=accuracy), "accuracy"),
    ],
)
def test_a_bound_is_positive_and_finite(call, name):
    for wrong in (0, -1.0, math.nan, math.inf, "0.1", True):
        with pytest.raises(ValueError, match=f"^{name} is {wrong!r}; .* positive, finite"):
            call(**{name: wrong})
    call(**{name: np.float32(0.1)})


def test_a_bound_that_is_no_number_has_nothing_above_it_and_is_refused():
    for wrong in (math.nan, "1", None):
        with pytest.raises(ValueError, match=r"^bound is .* must be a number"):
            eigenpairs_above(operator(), wrong)
    assert len(eigenpairs_above(operator(), 10.5).values) == 2


def test_a_number_may_be_a_tensor_of_one():
    assert as_number(torch.tensor([2.0])) == 2.0
    assert math.isnan(as_number(torch.ones(2)))
    check_positive("rate", torch.tensor(0.1))
    check_not_negative("decay", 0)
    with pytest.raises(ValueError, match="decay is -1"):
        check_not_negative("decay", -1)
