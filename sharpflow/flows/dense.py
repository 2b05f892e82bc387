"""Losses of stacks of dense layers, with all derivatives in closed form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sharpflow.curvature.dense_curvature import DenseCurvature
from sharpflow.curvature.dense_inputs import DenseInputs
from sharpflow.curvature.dense_loss import DenseLoss
from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.flows.objective import Objective, Parameters, Point
from sharpflow.losses.base import Loss
from sharpflow.models.activations import ACTIVATIONS


@dataclass(frozen=True)
class TargetLoss:
    """scale · Σ ℓ(F_i, y_i) over rows of outputs (m, c).

    Attributes:
        loss: ℓ and its derivatives.
        targets: y, (m, c).
        scale: 1/m for a mean over rows.
    """

    loss: Loss
    targets: Tensor
    scale: float

    def value(self, outputs: Tensor) -> float:
        """The loss."""
        return self.scale * float(self.loss.rows(outputs, self.targets).double().sum())

    def slope(self, outputs: Tensor) -> Tensor:
        """Its first derivative, (m, c)."""
        return self.scale * self.loss.slope(outputs, self.targets)

    def curvature(self, outputs: Tensor) -> Tensor:
        """Its second derivative: a number for the squared error, else as `Loss.curvature`."""
        if self.loss.squared_error:
            return torch.tensor(2.0 * self.scale, dtype=outputs.dtype, device=outputs.device)
        return self.scale * self.loss.curvature(outputs, self.targets)

    def third(self, outputs: Tensor) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Its third derivative along two directions; None where it is zero."""
        if self.loss.squared_error:
            return None
        return lambda a, b: self.scale * self.loss.third(outputs, self.targets, a, b)


class DenseObjective(Objective):
    """The loss of H ← φ(H W + b), linear in the last layer, over all samples.

    Flat vectors hold W_1, b_1, W_2, b_2, …, each row-major, (in, out).

    Args:
        weights: where it starts, L tensors (in, out).
        biases: L tensors (out,), or None.
        activation: a key of `ACTIVATIONS`, or one a hidden layer.
        inputs: of all samples.
        loss: of the outputs.
        names: maps the tensors W_1, b_1, W_2, b_2, … to parameters by name.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor] | None,
        activation: str | Sequence[str],
        inputs: DenseInputs,
        loss: TargetLoss,
        names: Callable[[list[Tensor]], Parameters],
    ) -> None:
        self.activation, self.inputs, self.loss = activation, inputs, loss
        self._names = names
        tensors = _joined(weights, biases)
        self._biased = biases is not None
        self._shapes = [tensor.shape for tensor in tensors]
        self._start = torch.cat([t.detach().reshape(-1).double() for t in tensors])
        self.size = len(self._start)
        self.dtype, self.device = inputs.matrix.dtype, inputs.matrix.device
        used = [activation] if isinstance(activation, str) else activation
        kinked = [name for name in used if not ACTIVATIONS[name].smooth]
        if kinked and len(weights) > 1:
            self.kinks = kinked[0]
        self.spread = "elu" in used

    @property
    def start(self) -> Tensor:
        """The parameters that it was made with, (p,), float64."""
        return self._start

    def tensors(self, weights: Tensor) -> list[Tensor]:
        """W_1, b_1, W_2, b_2, … of flat parameters."""
        parts = weights.split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def named(self, weights: Tensor) -> Parameters:
        """Flat parameters by name, each of its own shape."""
        return self._names(self.tensors(weights))

    def at(self, weights: Tensor) -> "DensePoint":
        """The loss at parameters (p,), which are cast to `dtype`."""
        tensors = self.tensors(weights.to(self.dtype))
        step = 2 if self._biased else 1
        biases = tensors[1::2] if self._biased else None
        net = DenseCurvature(tensors[::step], self.activation, self.inputs, biases)
        return DensePoint(net, self.loss)


class DensePoint(Point):
    """A loss of a dense network at one vector of parameters."""

    def __init__(self, net: DenseCurvature, loss: TargetLoss) -> None:
        self._net, self._loss = net, loss

    @cached_property
    def _derivatives(self) -> DenseLoss:
        shape, rows = self._net.outputs.shape, self._net.last
        slope = self._loss.slope(rows).reshape(shape)
        curvature = self._loss.curvature(rows)
        return self._net.loss(slope, curvature.reshape(shape) if curvature.ndim == 2 else curvature)

    @cached_property
    def loss(self) -> float:
        """L(w)."""
        return self._loss.value(self._net.last)

    @cached_property
    def gradient(self) -> Tensor:
        """∇L(w), (p,)."""
        gradient = self._derivatives.gradient()
        check_finite(gradient, "the gradient of the loss")
        return gradient

    def hessian(self) -> LinearOperator:
        """H = ∇²L(w), (p, p)."""
        return self._derivatives.hessian(keep=True)

    def third_derivatives(self, directions: Tensor) -> Tensor:
        """T_ij = ∇(uᵢᵀ H uⱼ), written out; see `Point`."""
        found = self._derivatives.third_derivatives(directions, self._loss.third(self._net.last))
        check_finite(found, "the third derivative of the loss")
        return found

    @property
    def outputs(self) -> Tensor:
        """The network's outputs f(w), (n, c)."""
        return self._net.last

    def second_outputs(self, directions: Tensor) -> Tensor:
        """f''[uᵢ, uⱼ], written out; see `Point`."""
        return self._derivatives.second_outputs(directions)


def _joined(weights: Sequence[Tensor], biases: Sequence[Tensor] | None) -> list[Tensor]:
    if biases is None:
        return list(weights)
    return [each for pair in zip(weights, biases, strict=True) for each in pair]
