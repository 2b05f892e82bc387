"""Is a measured curvature that of the loss? Checks that a wrong second derivative fails."""

import torch
from torch import Tensor

from sharpflow.curvature.model_loss import LossOfModel

ASYMMETRY = 2e-3
"""Largest difference of aᵀHb and bᵀHa over ‖H‖; that of H and Hᵀ enters it squared."""
DIFFERENCE = 0.25
"""Largest relative difference from gradients; kinks of the loss, as ReLU has, may take a tenth."""
_DISTANCES = {torch.float32: (1e-3, 1e-4, 1e-2), torch.float64: (1e-5, 1e-7, 1e-3)}
"""Over the norm of the parameters; tried in turn."""


def verify(
    loss: LossOfModel, asymmetry: float | None, value: float, vector: Tensor
) -> dict[str, float]:
    """Check an eigenpair against gradients of the loss, and products for symmetry.

    The curvature along the eigenvector has to be that of a central difference of gradients, which
    are made by one backward pass each through the model as it is called: a kernel without a second
    derivative, or a closed form of another function, differs. At a cost of two gradients, up to six
    where the loss has kinks.

    Args:
        loss: of the model.
        asymmetry: of the products that found the pair (`EigenResult.asymmetry`), or None.
        value: λ, an eigenvalue.
        vector: (P,), of unit length, in the order of the trainable parameters.

    Returns:
        The relative differences found, `finite_difference` and (where it was given) `symmetry`.

    Raises:
        ValueError: a difference is larger than rounding and kinks explain.
    """
    found = {"finite_difference": _from_gradients(loss, value, vector)}
    if asymmetry is not None:
        if asymmetry > ASYMMETRY:
            raise ValueError(
                f"products with the Hessian are not symmetric (by {100 * asymmetry:.2g} %): "
                "something that the loss calls has a wrong second derivative."
            )
        found["symmetry"] = asymmetry
    return found


def _from_gradients(loss: LossOfModel, value: float, vector: Tensor) -> float:
    params = {name: p.detach() for name, p in loss.parameters().items()}
    sizes = [p.numel() for p in params.values()]
    parts = vector.detach().to(next(iter(params.values()))).split(sizes)
    pairs = list(zip(params.items(), parts, strict=True))
    length = float(torch.stack([p.double().norm() for p in params.values()]).norm())
    best, seen = float("inf"), float("nan")
    for distance in _DISTANCES[vector.dtype]:
        step = distance * max(length, 1e-3)
        ends = []
        for sign in (1, -1):
            there = {n: p.add(d.view(p.shape), alpha=sign * step) for (n, p), d in pairs}
            ends.append(loss.gradient(there))
        along = float(torch.dot((ends[0] - ends[1]).double(), vector.double())) / (2 * step)
        rounding = 100 * torch.finfo(vector.dtype).eps * float(ends[0].double().norm()) / step
        error = max(abs(along - value) - rounding, 0.0) / max(abs(value), abs(along), 1e-30)
        if error < best:
            best, seen = error, along
        if best <= DIFFERENCE / 5:
            return best
    if best > DIFFERENCE:
        raise ValueError(
            f"the curvature {value:.4g} does not agree with gradients of the loss, whose "
            f"difference along the eigenvector gives {seen:.4g}: something that the loss calls has "
            "no second derivative, or a wrong one."
        )
    return best
