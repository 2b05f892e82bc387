"""Recognises plain stacks of dense layers, and maps their parameters to and from a closed form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpflow.curvature.dense_curvature import DenseCurvature
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.curvature.plain_modules import as_its_class_says, kind_of
from sharpflow.data import compression


class ClosedForm:
    """An `nn.Sequential` of Linear layers and activations under the mean squared error.

    `ClosedForm.recognise` returns one, or None where the closed form does not hold. With fewer
    samples than input dimensions the inputs are compressed exactly; vectors are mapped back by
    `to_parameters`.
    """

    def __init__(
        self,
        layers: list[nn.Linear],
        activations: list[str],
        inputs: Tensor,
        targets: Tensor,
        compress: bool = True,
    ) -> None:
        self.layers, self.activations, self.targets = layers, activations, targets
        self.mark = _mark_of(inputs)
        self.basis: Tensor | None = None
        if compress and inputs.shape[0] < inputs.shape[1]:
            inputs, self.basis = compression.compress(inputs)
        self.inputs = prepare_inputs(inputs)

    @classmethod
    def recognise(
        cls,
        model: nn.Module,
        loss_fn: Callable[..., Tensor],
        inputs: Any,
        targets: Tensor,
        compress: bool = True,
        earlier: "ClosedForm | None" = None,
    ) -> "ClosedForm | None":
        """The closed form of `model`, or None: then only the general operator is right.

        Args:
            model: any module.
            loss_fn: any loss.
            inputs: any data.
            targets: a tensor.
            compress: whether inputs are compressed where they can be.
            earlier: what was recognised before, which is given back where it still holds.
        """
        mse = kind_of(loss_fn) in (F.mse_loss, nn.MSELoss)
        mean = getattr(loss_fn, "reduction", "mean") == "mean"
        if not (mse and mean) or type(model) is not nn.Sequential or not isinstance(inputs, Tensor):
            return None
        modules = list(model)
        if modules and type(modules[0]) is nn.Flatten and modules[0].start_dim == 1:
            if modules[0].end_dim != -1 or inputs.ndim < 2:
                return None
            inputs, modules = inputs.flatten(1), modules[1:]
        if not all(as_its_class_says(m) for m in model.modules()) or inputs.ndim != 2:
            return None
        layers: list[nn.Linear] = []
        activations: list[str] = []
        for module in modules:
            if type(module) is nn.Linear:
                if len(activations) < len(layers):
                    activations.append("linear")
                layers.append(module)
            elif type(module) is nn.Identity:
                continue
            else:
                name = _activation_name(module)
                if name is None or len(activations) != len(layers) - 1:
                    return None
                activations.append(name)
        if not layers or len(activations) != len(layers) - 1:
            return None
        params = list(model.parameters())
        biased = {layer.bias is not None for layer in layers}
        own = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
        plain = list(map(id, params)) == list(map(id, own))  # nothing is shared, or added
        kinds = {(t.dtype, t.device) for t in (*params, inputs, targets)}
        shape = (inputs.shape[0], layers[-1].out_features)
        if len(biased) > 1 or not plain or len(kinds) > 1 or tuple(targets.shape) != shape:
            return None
        if not all(p.requires_grad for p in params) or inputs.dtype not in (
            torch.float32,
            torch.float64,
        ):
            return None
        if earlier is not None and earlier._is_of(layers, activations, inputs, compress):
            return earlier
        return cls(layers, activations, inputs, targets, compress)

    @property
    def structure(self) -> tuple[list[nn.Linear], list[str]]:
        """The layers, and the activations between them."""
        return self.layers, self.activations

    def _is_of(
        self, layers: list[nn.Linear], activations: list[str], inputs: Tensor, compress: bool
    ) -> bool:
        """Whether a closed form that is made of these would be this one."""
        compressed = compress and inputs.shape[0] < inputs.shape[1]
        return (
            self.structure == (layers, activations)
            and compressed == (self.basis is not None)
            and self.mark.shape == inputs.shape[:1]
            and torch.equal(self.mark, _mark_of(inputs))
        )

    def hessian(self) -> LinearOperator:
        """Hessian of the loss at the present parameters, in DenseCurvature's (compressed) order."""
        weights = [layer.weight.detach().T for layer in self.layers]
        if self.basis is not None:
            check_finite(weights[0], "the first layer's weights")
            weights[0] = self.basis.T @ weights[0]
        biased = self.layers[0].bias is not None
        biases = [layer.bias.detach() for layer in self.layers] if biased else None
        net = DenseCurvature(weights, self.activations, self.inputs, biases)
        scale = 2.0 / self.targets.numel()
        slope = scale * (net.outputs - self.targets.view_as(net.outputs))
        return net.hessian_operator(slope, scale)

    def to_parameters(self, vectors: Tensor) -> Tensor:
        """Vectors (P', k) in the closed form's order as (P, k) in that of model.parameters()."""
        rows, position, parts = vectors.T, 0, []
        count = rows.shape[0]
        for index, layer in enumerate(self.layers):
            basis = self.basis if index == 0 else None
            width = self.inputs.matrix.shape[1] if index == 0 else layer.in_features
            size = width * layer.out_features
            matrix = rows[:, position : position + size].reshape(count, width, layer.out_features)
            position += size
            if basis is not None:
                matrix = basis @ matrix
            parts.append(matrix.mT.reshape(count, layer.weight.numel()))
            if layer.bias is not None:
                parts.append(rows[:, position : position + layer.out_features])
                position += layer.out_features
        return torch.cat(parts, dim=1).T


def _mark_of(inputs: Tensor) -> Tensor:
    """A number of each sample that tells whether inputs (n, d) were changed in place."""
    ramp = torch.linspace(1, 2, inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
    return inputs.detach() @ ramp


def _activation_name(module: nn.Module) -> str | None:
    kind = type(module)
    if kind is nn.ELU:
        return "elu" if module.alpha == 1.0 else None
    if kind is nn.Softplus:
        return "softplus" if module.beta == 1 and module.threshold == 20 else None
    return {nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "swish"}.get(kind)
