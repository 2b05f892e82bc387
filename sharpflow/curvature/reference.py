"""Dense float64 curvature by automatic differentiation: the reference for tests and small nets."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from sharpflow.curvature.graphs import Parameters


def _flat_function(function: Callable[[dict[str, Tensor]], Tensor], params: Parameters):
    shapes = {name: p.shape for name, p in params.items()}
    sizes = [p.numel() for p in params.values()]
    start = torch.cat([p.detach().double().reshape(-1) for p in params.values()])

    def flat(vector: Tensor) -> Tensor:
        parts = vector.split(sizes)
        return function(
            {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        )

    return flat, start


def dense_hessian(loss: Callable[[dict[str, Tensor]], Tensor], params: Parameters) -> Tensor:
    """Hessian (P, P) of a scalar `loss` of a dict of tensors, in float64, row by row.

    The parameters are converted to float64, so the loss must accept them (data too). A tensor
    under two names counts twice here. Costs P backward passes and P² numbers.
    """
    flat, start = _flat_function(loss, params)
    return cast("Tensor", torch.autograd.functional.hessian(flat, start))


def dense_jacobian(outputs: Callable[[dict[str, Tensor]], Tensor], params: Parameters) -> Tensor:
    """Jacobian (N, P) of the flattened `outputs` of a dict of tensors, in float64."""
    flat, start = _flat_function(outputs, params)
    jacobian = torch.autograd.functional.jacobian(lambda v: flat(v).reshape(-1), start)
    return cast("Tensor", jacobian)
