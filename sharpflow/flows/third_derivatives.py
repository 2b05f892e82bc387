"""Functions of PyTorch whose third derivative autograd has wrong, written so that it is right.

In PyTorch 2.13 the second derivatives of layer, batch and instance normalisation come out right and
the third ones do not, without a warning: their double backward is not differentiable as it stands.
The second derivative of ELU falls from 1 to 0 at 0, which autograd leaves out of the third one;
over many samples it is what counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sharpflow.models.activations import ACTIVATIONS


class RightThirdDerivatives(TorchFunctionMode):
    """Within, calls of these functions are written out; values are the same to rounding."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The call, or what stands in its place."""
        written = _WRITTEN.get(func)
        kwargs = kwargs or {}
        if written is not None:
            found = written(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _normalised(
    x: Tensor, over: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    centred = x - x.mean(tuple(over), keepdim=True)
    result = centred * (centred.square().mean(tuple(over), keepdim=True) + eps).rsqrt()
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    over = range(input.ndim - len(normalized_shape), input.ndim)
    return _normalised(input, over, weight, bias, eps)


def _by_channel(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.view(1, -1, *[1] * (x.ndim - 2))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not training:
        return None
    over = [0, *range(2, input.ndim)]
    return _normalised(input, over, _by_channel(weight, input), _by_channel(bias, input), eps)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not use_input_stats:
        return None
    over = range(2, input.ndim)
    return _normalised(input, over, _by_channel(weight, input), _by_channel(bias, input), eps)


def _elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor | None:
    return SpreadElu.apply(input, 0) if alpha == 1.0 else None


class SpreadElu(torch.autograd.Function):
    """ELU's derivative of an order, whose own derivative is that of the next order."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, order: int) -> Tensor:
        """The derivative of an order at z."""
        ctx.save_for_backward(z)
        ctx.order = order
        elu = ACTIVATIONS["elu"]
        return (elu.function, elu.derivative, elu.second_derivative, elu.third_derivative)[order](z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The derivative of the next order, for autograd."""
        (z,) = ctx.saved_tensors
        return grad * SpreadElu.apply(z, ctx.order + 1), None


SPREAD = f"{SpreadElu.__name__}Backward"
"""Name of its nodes in a graph."""
_WRITTEN: dict[Any, Callable[..., Tensor | None]] = {
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.elu: _elu,
    F.celu: _elu,
}
