"""Is a measured curvature that of the loss? Checks that a wrong second derivative fails."""

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.model_loss import LossOfModel, moved

ASYMMETRY = 2e-3
"""Largest relative difference of aᵀHb and bᵀHa; that of H and Hᵀ enters it squared."""
DIFFERENCE = 0.25
"""Largest relative difference from gradients; kinks of the loss, as ReLU has, may take a tenth."""
_WRONG_SECOND = 'a wrong second derivative, or none; products="differences" needs first ones only.'
_KINKS = (
    "the loss has kinks (ReLU, max pooling) between the gradients whose differences they are, or "
    "something that it calls has a wrong gradient; dtype=torch.float64 takes them closer together."
)
_DISTANCES = {torch.float32: (1e-3, 1e-4, 1e-2), torch.float64: (1e-5, 1e-7, 1e-3)}
"""Over the norm of the parameters; tried in turn."""


def verify(
    loss: LossOfModel, operator: LinearOperator | None, value: float, vector: Tensor
) -> dict[str, float]:
    """Check an eigenpair against gradients of the loss, and an operator for symmetry.

    The curvature along the eigenvector has to be that of a central difference of gradients, which
    are made by one backward pass each through the model as it is called: a kernel without a second
    derivative, or a closed form of another function, differs. At a cost of two gradients, up to six
    where the loss has kinks, and of two products.

    A loss whose products are such differences already is held against the second difference of its
    values, which knows no derivative, and against a difference of gradients at twice the distance.

    Args:
        loss: of the model.
        operator: its Hessian in the order of the parameters; None leaves symmetry unchecked.
        value: λ, an eigenvalue.
        vector: (P,), of unit length, in the order of the trainable parameters.

    Returns:
        The relative differences found: `finite_difference` and (with an operator) `symmetry`. In
        place of the first, products by differences have `another_distance` and `loss_values`; that
        is left out where rounding of the loss hides its curvature.

    Raises:
        ValueError: a difference is larger than rounding and kinks explain.
    """
    if loss.products == "differences":
        found = _from_values(loss, value, vector)
        found["another_distance"] = _from_twice_the_distance(loss, value, vector)
    else:
        found = {"finite_difference": _from_gradients(loss, value, vector)}
    if operator is not None:
        found["symmetry"] = _asymmetry(operator, loss.noise, abs(value))
    return found


def _from_values(loss: LossOfModel, value: float, vector: Tensor) -> dict[str, float]:
    """The relative difference from the second difference of the loss, where there is one."""
    params = loss.present()
    assert loss.distance is not None
    middle = loss.total(params)
    best, seen = float("inf"), float("nan")
    for factor in (4, 1, 16, 64):
        step = factor * loss.distance.length
        ends = [loss.total(moved(params, vector, sign * step)) for sign in (1, -1)]
        along = (ends[0] - 2 * middle + ends[1]) / step**2
        rounding = 16 * torch.finfo(vector.dtype).eps * max(map(abs, (middle, *ends))) / step**2
        if not rounding <= DIFFERENCE * max(abs(value), abs(along)):  # true for NaN
            continue
        error = max(abs(along - value) - rounding, 0.0) / max(abs(value), abs(along), 1e-30)
        if error < best:
            best, seen = error, along
        if best <= DIFFERENCE / 5:
            break
    if best == float("inf"):
        return {}
    if best > DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} does not agree with values of the loss, whose second "
            f"difference along the eigenvector gives {seen:.4g}: {_KINKS}"
        )
    return {"loss_values": best}


def _from_twice_the_distance(loss: LossOfModel, value: float, vector: Tensor) -> float:
    params = loss.present()
    assert loss.distance is not None
    step = 2 * loss.distance.length
    ends = [loss.gradient(moved(params, vector, sign * step)) for sign in (1, -1)]
    along = float(torch.dot(ends[0] - ends[1], vector.double())) / (2 * step)
    error = abs(along - value) / max(abs(value), abs(along), 1e-30)
    if not error <= DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} is {along:.4g} where gradients are taken twice as far "
            f"apart: {_KINKS}"
        )
    return error


def _from_gradients(loss: LossOfModel, value: float, vector: Tensor) -> float:
    params = loss.present()
    length = float(torch.stack([p.double().norm() for p in params.values()]).norm())
    best, seen = float("inf"), float("nan")
    for distance in _DISTANCES[vector.dtype]:
        step = distance * max(length, 1e-3)
        ends = [loss.gradient(moved(params, vector, sign * step)) for sign in (1, -1)]
        along = float(torch.dot(ends[0] - ends[1], vector.double())) / (2 * step)
        rounding = 100 * torch.finfo(vector.dtype).eps * float(ends[0].norm()) / step
        error = max(abs(along - value) - rounding, 0.0) / max(abs(value), abs(along), 1e-30)
        if error < best:
            best, seen = error, along
        if best <= DIFFERENCE / 5:
            return best
    if best > DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} does not agree with gradients of the loss, whose "
            f"difference along the eigenvector gives {seen:.4g}: something that the loss calls has "
            f"{_WRONG_SECOND}"
        )
    return best


def _asymmetry(operator: LinearOperator, noise: float, norm: float) -> float:
    """|aᵀHb − bᵀHa| over |bᵀHa| for a random a and b along Ha, where it is largest.

    Args:
        operator: H.
        noise: error of a product with a unit vector over ‖H‖, as far as it is known.
        norm: ‖H‖, or a number below it.

    Raises:
        ValueError: it is larger than rounding and noise explain.
    """
    stream = torch.Generator().manual_seed(0)
    first = torch.randn(operator.shape[0], generator=stream, dtype=torch.float64)
    first = first.to(operator.device, operator.dtype)
    image = operator.matvec(first / first.norm()).double()
    size = float(image.norm())
    if size == 0:
        return 0.0
    back = operator.matvec((image / size).to(operator.dtype)).double()
    relative = abs(float(torch.dot((first / first.norm()).double(), back)) - size) / size
    if relative > min(ASYMMETRY + 4 * noise * max(norm / size, 1.0), DIFFERENCE):
        why = _KINKS if noise else f"something that the loss calls has {_WRONG_SECOND}"
        raise ValueError(
            f"products with the Hessian are not symmetric (by {100 * relative:.2g} %): {why}"
        )
    return relative
