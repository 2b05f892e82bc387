"""Is a measured curvature that of the loss? Checks that a wrong second derivative fails."""

import warnings
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from sharpflow.curvature.graphs import length_of
from sharpflow.curvature.linear_operator import ASYMMETRY
from sharpflow.curvature.model_loss import LossOfModel, moved
from sharpflow.errors import first_line

DIFFERENCE = 0.25
"""Largest relative difference from gradients; kinks of the loss, as ReLU has, may take a tenth."""
NOISE = 0.05
"""Largest error of products by differences, over ‖H‖."""
_WRONG_SECOND = 'a wrong second derivative, or none; products="differences" needs first ones only.'
_KINKS = (
    "the loss has kinks (ReLU, max pooling) between the gradients whose differences they are, or "
    "something that it calls has a wrong gradient; dtype=torch.float64 takes them closer together."
)
_DISTANCES = {torch.float32: (1.5e-5, 1e-3, 1e-4, 1e-2), torch.float64: (1e-5, 1e-7, 1e-3)}
"""Over the norm of the parameters. At the first smooth losses agree to 1e-3; then wider ones."""
_CLOSE = (1e-7, 1e-8, 1e-9)
"""The same in a float64 copy, between kinks that lie close."""


def verify(
    loss: LossOfModel,
    asymmetry: float | None,
    value: float,
    vector: Tensor,
    seen: float | None = None,
) -> dict[str, float]:
    """Check an eigenpair against gradients of the loss, and products for symmetry.

    The curvature along the eigenvector has to be that of a central difference of gradients, which
    are made by one backward pass each through the model as it is called: a kernel without a second
    derivative, or a closed form of another function, differs. At a cost of two gradients. Where
    kinks keep those apart by 5 to 25 %, the same is asked of few samples in a float64 copy, whose
    gradients are taken between kinks; of all samples, where that does not settle it.

    A loss whose products are such differences already is held against the second difference of its
    values, which knows no derivative, and against a difference of gradients at twice the distance.

    Args:
        loss: of the model.
        asymmetry: of the products by autograd, or differences, that found the pair
            (`EigenResult.asymmetry`); None where it was found in another way.
        value: λ, an eigenvalue.
        vector: (P,), of unit length, in the order of the trainable parameters.
        seen: relative difference from gradients of the loss, where they were compared already.

    Returns:
        The relative differences found: `finite_difference`, `few_samples` (that of few in float64,
        where they settled it) and (where it was given) `symmetry`. In place of the first two,
        products by differences have `another_distance` and `loss_values`; that is left out where
        rounding of the loss hides its curvature.

    Warns (RuntimeWarning) where gradients that are compared close together, in a float64 copy,
    still differ by more than 5 %, which kinks seldom explain.

    Raises:
        ValueError: a difference is larger than rounding and kinks explain.
    """
    if loss.products == "differences":
        if loss.noise > NOISE:
            raise ValueError(
                f"differences of gradients at two distances differ by {100 * loss.noise:.2g} % of "
                f"the largest curvature: {_KINKS}"
            )
        found = _from_values(loss, value, vector)
        found["another_distance"] = _from_twice_the_distance(loss, value, vector)
    else:
        if seen is None or seen > DIFFERENCE / 5:
            found = _from_gradients(loss, value, vector, asymmetry is not None)
        else:
            found = {"finite_difference": seen}
    if asymmetry is not None:
        if asymmetry > min(ASYMMETRY + 4 * loss.noise, DIFFERENCE):
            why = _KINKS if loss.noise else f"something that the loss calls has {_WRONG_SECOND}"
            raise ValueError(
                f"products with the Hessian are not symmetric (by {100 * asymmetry:.2g} %): {why}"
            )
        found["symmetry"] = asymmetry
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
    assert loss.distance is not None
    along, _ = _between_gradients(loss, loss.present(), vector, 2 * loss.distance.length)
    error = abs(along - value) / max(abs(value), abs(along), 1e-30)
    if not error <= DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} is {along:.4g} where gradients are taken twice as far "
            f"apart: {_KINKS}"
        )
    return error


def _between_gradients(
    loss: LossOfModel, params: dict[str, Tensor], vector: Tensor, step: float
) -> tuple[float, float]:
    """Central difference of the slope along a vector, and the norm of a gradient; one is held."""
    ends, size = [], 0.0
    for sign in (1, -1):
        slope = loss.gradient(moved(params, vector, sign * step))
        ends.append(sum(float(a @ b.double()) for a, b in _stripes(slope, vector)))
        size = float(slope.norm())
        del slope  # before the next is made
    return (ends[0] - ends[1]) / (2 * step), size


def _stripes(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Two vectors part by part: a copy of one in another precision is as large as a model."""
    return zip(first.split(2**20), second.split(2**20), strict=True)


def _from_gradients(
    loss: LossOfModel, value: float, vector: Tensor, of_products: bool
) -> dict[str, float]:
    """Relative differences; few samples tell of products by autograd, not of a closed form."""
    nearest, *others = _DISTANCES[vector.dtype]
    best, seen = _compare(loss, value, vector, (nearest,))
    closely, failure = False, ""
    apart = _apart(value, seen)  # with what rounding may hide
    if of_products and DIFFERENCE / 5 < apart <= DIFFERENCE:
        of_few = _from_few(loss, vector)
        if of_few <= DIFFERENCE / 5:
            return {"finite_difference": apart, "few_samples": of_few}
    if apart > DIFFERENCE / 5:  # kinks lie apart: float64 takes gradients closer together
        try:
            close = _compare(loss.in_double(), value, vector, _CLOSE)
            best, seen = min((apart, seen), close)
            closely = True
        except (RuntimeError, TypeError, ValueError) as error:  # a loss may hold float32 numbers
            best = float("inf")  # rounding at the nearest is no reason to believe
            failure = (
                " Or it has kinks (ReLU, max pooling), and the float64 copy that would tell fails "
                f"({first_line(error)}): numbers that a loss holds have to follow the precision of "
                "the outputs, as those of a loss of torch.nn do."
            )
    if best > DIFFERENCE / 5:
        wider = _compare(loss, value, vector, tuple(others))
        if closely:  # then float32's rounding is no excuse
            wider = _apart(value, wider[1]), wider[1]
        best, seen = min((best, seen), wider)
    if best > DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} does not agree with gradients of the loss, whose "
            f"difference along the eigenvector gives {seen:.4g}: something that the loss calls has "
            f"{_WRONG_SECOND}{failure}"
        )
    if closely and best > DIFFERENCE / 5:
        warnings.warn(
            f"the curvature {value:.4g} differs by {100 * best:.2g} % from gradients of the loss, "
            "also where they are taken too close together in float64 for kinks as a rule: if the "
            "loss has no kinks (ReLU, max pooling), something that it calls has a second "
            "derivative that is wrong by as much.",
            RuntimeWarning,
            stacklevel=4,
        )
    return {"finite_difference": best}


def _from_few(loss: LossOfModel, vector: Tensor) -> float:
    """Relative difference for few samples in float64; infinite where there are no fewer.

    It holds a product by autograd against gradients of the same function, whichever that is.
    """
    few = loss.thinned()
    if few is None:
        return float("inf")
    with suppress(RuntimeError, TypeError, ValueError):  # a loss may know how many samples it has
        few, along = few.in_double(), vector.double()
        value = float(along @ few.hessian().matvec(along))
        best, _ = _compare(few, value, along, _CLOSE)
        return best
    return float("inf")


def _apart(first: float, second: float) -> float:
    """Relative difference of two numbers."""
    return abs(first - second) / max(abs(first), abs(second), 1e-30)


def _compare(
    loss: LossOfModel, value: float, vector: Tensor, distances: tuple[float, ...]
) -> tuple[float, float]:
    """Relative difference from a difference of gradients, and that, at the best of distances."""
    params = loss.present()
    length = length_of(params.values())
    unit = torch.finfo(next(iter(params.values())).dtype).eps
    best, seen = float("inf"), float("nan")
    for distance in distances:
        step = distance * max(length, 1e-3)
        along, size = _between_gradients(loss, params, vector, step)
        rounding = 100 * unit * size / step
        error = max(abs(along - value) - rounding, 0.0) / max(abs(value), abs(along), 1e-30)
        if error < best:
            best, seen = error, along
        if best <= DIFFERENCE / 5:
            break
    return best, seen
