"""Sharpness of a user's module, from the shell."""

import traceback
from pathlib import Path
from typing import Any, NamedTuple

from sharpflow.curvature import SharpnessTracker
from sharpflow.errors import PartError
from sharpflow.parts.loading import described, explained
from sharpflow.parts.registry import LIBRARY
from sharpflow.parts.user_code import user_function

FORMS = "(model, loss, batches) or (model, loss, inputs, targets)"


class Measured(NamedTuple):
    """Top eigenvalues of a Hessian, and how sure they are.

    Attributes:
        values: largest first.
        residuals: ‖Hv − λv‖ of each.
        converged: whether all are within the tolerance.
        products: Hessian-vector products that it took.
        parameters: of the model that vary.
    """

    values: list[float]
    residuals: list[float]
    converged: bool
    products: int
    parameters: int


def built(target: str) -> tuple[Any, ...]:
    """What a function of a user's file returns, `FILE:BUILD`.

    Raises:
        PartError: there is no such file or function, it fails, or it returns something else.
    """
    file, colon, name = target.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise PartError(
            f"{target!r}: write FILE:BUILD, such as net.py:build, with a function that returns "
            f"{FORMS}."
        )
    function = user_function(file, name, {}, {}, target)
    with explained(target):
        found = function()
    if not isinstance(found, tuple) or len(found) not in (3, 4):
        size = f" of {len(found)}" if isinstance(found, tuple) else ""
        raise PartError(f"{target} returns {type(found).__name__}{size}, and must return {FORMS}.")
    return found


def measure(target: str, k: int = 1, tol: float = 1e-3, only: str | None = None) -> Measured:
    """The top eigenvalues of the Hessian of what a function of a user's file returns.

    Args:
        target: `FILE:BUILD`.
        k: how many.
        tol: relative residual.
        only: shell-style pattern of the parameters that vary.

    Raises:
        PartError: as for `built`, or what it returns cannot be measured.
    """
    model, loss, *data = built(target)
    try:
        found = SharpnessTracker(model, loss, *data, k=k, tol=tol, only=only).measure()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        own = Path(last).is_relative_to(LIBRARY)  # a sentence of the library's
        raise PartError(f"{target}: {error if own else described(error)}") from error
    return Measured(
        found.values.tolist(),
        found.residuals.tolist(),
        found.converged,
        found.matvecs,
        found.vectors.shape[0],
    )
