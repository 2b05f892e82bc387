"""One shard as a mathematical object: its data, network, loss and update rule."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.errors import ConfigError
from sharpflow.models import LOSSES, Parameters, build
from sharpflow.training.streams import BLOCK, generator

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = cuda, but PyTorch finds no CUDA device here; use auto or cpu.")
    return torch.device(name)


class Problem:
    """The ensemble of runs of one shard: initial state, batches, gradients and steps.

    Args:
        spec: plain configuration of the shard: experiment, seeds, width, learning_rate, model,
            loss, training, dtype, device.
        dataset: tensors of the shard's dataset.

    State is a dict of tensors with a leading run dimension: the parameters, and with momentum
    their velocities under `velocity/<name>`.
    """

    def __init__(self, spec: Mapping[str, Any], dataset: Mapping[str, Tensor]):
        self.experiment: str = spec["experiment"]
        self.seeds: list[int] = list(spec["seeds"])
        self.nominal_learning_rate = float(spec["learning_rate"])
        self.training: Mapping[str, Any] = spec["training"]
        self.dtype = _DTYPES[spec["dtype"]]
        self.device = resolve_device(spec["device"])
        self.model = build(spec["model"], spec["width"])
        self.loss = LOSSES[spec["loss"]]
        self.inputs = self._place(self.model.data_inputs(dataset))
        self.targets = self._place(dataset["targets"])
        self._dataset = dataset
        self._batch_block: tuple[int, Tensor] | None = None
        batch = self.training["batch"]
        if batch is not None and batch > self.samples:
            raise ConfigError(
                f"training.batch = {batch}: a batch cannot be larger than the dataset, which has "
                f"{self.samples} samples."
            )

    @property
    def samples(self) -> int:
        """Number of samples n."""
        return self.targets.shape[0]

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.training["steps"]

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)

    def initial_state(self) -> Parameters:
        """The state at step 0, each run drawn from its own stream."""
        runs = [
            self.model.initialise(self._dataset, generator(self.experiment, seed, "initialise"))
            for seed in self.seeds
        ]
        state = {name: self._place(torch.stack([run[name] for run in runs])) for name in runs[0]}
        if self.training["momentum"]:
            state |= {f"velocity/{name}": torch.zeros_like(t) for name, t in state.items()}
        return state

    def parameters(self, state: Parameters) -> Parameters:
        """The state without velocities."""
        return {name: t for name, t in state.items() if "/" not in name}

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step from `step` to `step` + 1."""
        warmup = self.training["warmup"]
        if warmup is not None and step < warmup["until"]:
            return warmup["learning_rate"]
        return self.nominal_learning_rate

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step: all samples, or S drawn with replacement for each run."""
        size = self.training["batch"]
        if size is None:
            return self.inputs, self.targets
        block, offset = divmod(step, BLOCK)
        if self._batch_block is None or self._batch_block[0] != block:
            draws = [
                torch.randint(
                    self.samples,
                    (BLOCK, size),
                    generator=generator(self.experiment, seed, "batches", block),
                )
                for seed in self.seeds
            ]
            self._batch_block = block, torch.stack(draws).to(self.device)
        rows = self._batch_block[1][:, offset]
        return self.inputs[rows], self.targets[rows]

    def full_loss(self, parameters: Parameters) -> Tensor:
        """Loss of each run over all samples, (R,)."""
        with torch.no_grad():
            return self.loss(self.model(parameters, self.inputs), self.targets)

    def loss_and_gradient(
        self, parameters: Parameters, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Parameters]:
        """Loss of each run, (R,), and its gradient; parameters the loss does not use get zero."""
        leaves = {name: t.detach().requires_grad_() for name, t in parameters.items()}
        losses = self.loss(self.model(leaves, inputs), targets)
        gradients = torch.autograd.grad(
            losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return losses.detach(), dict(zip(leaves, gradients, strict=True))

    def step(self, state: Parameters, step: int) -> tuple[Parameters, Tensor]:
        """The state after one optimiser step, and the loss of each run on the step's batch.

        θ⁺ = θ − η (∇L + γ θ), or with heavy-ball momentum β: v⁺ = β v − η (∇L + γ θ), θ⁺ = θ + v⁺.
        """
        parameters = self.parameters(state)
        losses, gradients = self.loss_and_gradient(parameters, *self.batch(step))
        rate, beta = self.learning_rate(step), self.training["momentum"]
        decay = self.training["weight_decay"]
        new: Parameters = {}
        for name, tensor in parameters.items():
            gradient = gradients[name]
            if decay:
                gradient = gradient.add(tensor, alpha=decay)
            if beta:
                velocity = beta * state[f"velocity/{name}"] - rate * gradient
                new[f"velocity/{name}"] = velocity
                new[name] = tensor + velocity
            else:
                new[name] = tensor.sub(gradient, alpha=rate)
        return new, losses

    def layer_norms_squared(self, parameters: Parameters) -> Tensor:
        """Squared Frobenius norm of each layer's parameters, (R, layers)."""
        norms = [
            sum(parameters[name].flatten(1).square().sum(1) for name in layer)
            for layer in self.model.layers
        ]
        return torch.stack(norms, dim=1)
