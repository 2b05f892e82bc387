"""Recognises plain stacks of dense layers, and maps their parameters to and from a closed form."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as everywhere

from sharpflow.curvature.dense_curvature import DenseCurvature
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.data import compression

_KINDS = (
    nn.Sequential, nn.Flatten, nn.Linear, nn.Identity,
    nn.ELU, nn.Softplus, nn.Tanh, nn.ReLU, nn.SiLU,
)  # fmt: skip
_FORWARDS: dict[type[nn.Module], Any] = {kind: kind.forward for kind in _KINDS}
"""What they computed when this module was imported."""


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
        self.basis: Tensor | None = None
        if compress and inputs.shape[0] < inputs.shape[1]:
            inputs, self.basis = compression.compress(inputs)
        self.inputs = prepare_inputs(inputs)

    @classmethod
    def recognise(
        cls, model: nn.Module, loss_fn, inputs, targets: Tensor, compress: bool = True
    ) -> "ClosedForm | None":
        """The closed form of `model`, or None: then only the general operator is right."""
        mse = loss_fn is F.mse_loss or (type(loss_fn) is nn.MSELoss and loss_fn.reduction == "mean")
        if not mse or type(model) is not nn.Sequential or not isinstance(inputs, Tensor):
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
        plain = len(params) == len(layers) * (2 if biased == {True} else 1)  # nothing shared
        kinds = {(t.dtype, t.device) for t in (*params, inputs, targets)}
        shape = (inputs.shape[0], layers[-1].out_features)
        if len(biased) > 1 or not plain or len(kinds) > 1 or tuple(targets.shape) != shape:
            return None
        if not all(p.requires_grad for p in params) or inputs.dtype not in (
            torch.float32,
            torch.float64,
        ):
            return None
        return cls(layers, activations, inputs, targets, compress)

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


def as_its_class_says(module: nn.Module) -> bool:
    """Whether calling a module of PyTorch runs its class's `forward` and nothing else."""
    own = "forward" not in vars(module) and type(module).__module__.startswith("torch.nn.modules.")
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        everywhere._global_forward_hooks,
        everywhere._global_forward_pre_hooks,
        everywhere._global_backward_hooks,
        everywhere._global_backward_pre_hooks,
    )
    return own and not any(hooks) and type(module).forward is _FORWARDS.get(type(module))


def _activation_name(module: nn.Module) -> str | None:
    kind = type(module)
    if kind is nn.ELU:
        return "elu" if module.alpha == 1.0 else None
    if kind is nn.Softplus:
        return "softplus" if module.beta == 1 and module.threshold == 20 else None
    return {nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "swish"}.get(kind)
