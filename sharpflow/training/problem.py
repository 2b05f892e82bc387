"""One shard as a mathematical object: its data, network, loss and update rule."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.gaussian import Population
from sharpflow.errors import ConfigError
from sharpflow.models import LOSSES, Parameters, build
from sharpflow.models.input_product import InputProduct
from sharpflow.training.batches import Batches, OnlineSamples, RunSamples, SharedSamples, Streams
from sharpflow.training.streams import generator

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
        dataset: tensors of the shard's dataset: samples, or a Gaussian population.

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
        self.frozen = _frozen_names(self.model.layers, self.training["frozen"])
        self._dataset = dataset
        self.population: Population | None = None
        if "teacher" in dataset:
            like = torch.empty(0, dtype=self.dtype, device=self.device)
            self.population = Population.of(dataset, like)
        self.batches = self._batches(dataset)

    def _batches(self, dataset: Mapping[str, Tensor]) -> Batches:
        size, streams = self.training["batch"], Streams(self.experiment, self.seeds)
        if self.population is None:
            inputs = self._place(self.model.data_inputs(dataset))
            batches = SharedSamples(streams, inputs, self._place(dataset["targets"]), size)
        elif count := int(dataset["samples"]):
            batches = RunSamples(streams, self.population, count, size)
        else:
            batches = OnlineSamples(streams, self.population, size)
        if size is not None and batches.samples is not None and size > batches.samples:
            raise ConfigError(
                f"training.batch = {size}: a batch cannot be larger than the dataset, which has "
                f"{batches.samples} samples."
            )
        if size is None and batches.samples is None and not self._closed_form:
            raise ConfigError(
                "training.batch = null with data.samples = null is gradient descent on the "
                "population's loss, and this network has none in closed form: give a number of "
                "samples."
            )
        return batches

    @property
    def _closed_form(self) -> bool:
        """Whether the loss over the population is known in closed form."""
        known = hasattr(self.model, "population_loss") and self.loss is LOSSES["mse"]
        return known and self.population is not None

    @property
    def samples(self) -> int | None:
        """Number of samples n; None where each batch is drawn anew from a population."""
        return self.batches.samples

    @property
    def inputs(self) -> Tensor:
        """All inputs, (n, ...) or (R, n, ...); held-out ones where batches are drawn anew."""
        return self.batches.inputs

    @property
    def targets(self) -> Tensor:
        """The targets of `inputs`."""
        return self.batches.targets

    @property
    def stability_threshold(self) -> float:
        """(2 + 2β)/η, the largest curvature at which GD with momentum β is stable."""
        return (2.0 + 2.0 * self.training["momentum"]) / self.nominal_learning_rate

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
        """Inputs and targets of a step: all samples, or S drawn for each run."""
        return self.batches.batch(step)

    def full_loss(self, parameters: Parameters) -> Tensor:
        """Loss of each run over all samples, or over the population, (R,)."""
        with torch.no_grad():
            if self.samples is None and self._closed_form:
                return self.model.population_loss(parameters, self.population)
            return self.loss(self.model(parameters, self.inputs), self.targets)

    def loss_and_gradient(
        self, parameters: Parameters, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Parameters]:
        """Loss of each run, (R,), and its gradient; parameters the loss does not use get zero."""
        written_out = getattr(self.model, "loss_and_gradient", None)
        if written_out is not None:
            whole = inputs is self._whole.matrix
            product = self._whole if whole else InputProduct(inputs)
            return written_out(parameters, product, targets, self.loss)
        return _differentiate(lambda p: self.loss(self.model(p, inputs), targets), parameters)

    @cached_property
    def _whole(self) -> InputProduct:
        """Products with all inputs, examined once."""
        return InputProduct(self.inputs)

    def _step_gradient(self, parameters: Parameters, step: int) -> tuple[Tensor, Parameters]:
        if self.training["batch"] is None and self.samples is None:
            return _differentiate(
                lambda p: self.model.population_loss(p, self.population), parameters
            )
        return self.loss_and_gradient(parameters, *self.batch(step))

    def step(self, state: Parameters, step: int) -> tuple[Parameters, Tensor]:
        """The state after one optimiser step, and the loss of each run on the step's batch.

        θ⁺ = θ − η (∇L + γ θ), or with heavy-ball momentum β: v⁺ = β v − η (∇L + γ θ), θ⁺ = θ + v⁺.
        Frozen layers do not move.
        """
        parameters = self.parameters(state)
        losses, gradients = self._step_gradient(parameters, step)
        rate, beta = self.learning_rate(step), self.training["momentum"]
        decay = self.training["weight_decay"]
        new: Parameters = {}
        for name, tensor in parameters.items():
            if name in self.frozen:
                new |= {k: state[k] for k in (name, f"velocity/{name}") if k in state}
                continue
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

    @property
    def _written_out(self) -> Callable[[Parameters, range], Parameters] | None:
        """Steps without automatic differentiation, if the network has them for this problem."""
        plain = self.loss is LOSSES["mse"] and not (self.training["momentum"] or self.frozen)
        on_population = self.training["batch"] is None and self.samples is None
        method = "descend_population" if on_population else "descend"
        descend = getattr(self.model, method, None)
        if self.population is None or not plain or descend is None:
            return None
        decay = self.training["weight_decay"]

        def take(state: Parameters, steps: range) -> Parameters:
            if on_population:
                return descend(state, self.population, map(self.learning_rate, steps), decay)
            batches = ((*self.batch(step), self.learning_rate(step)) for step in steps)
            return descend(state, batches, decay)

        return take

    def advance(self, state: Parameters, first: int, last: int) -> tuple[Parameters, Tensor | None]:
        """The state at step `last` > `first` from that at step `first`, which is left as it is.

        Also the loss of each run at step `first`, where the step computes that of all the data.
        """
        take = self._written_out
        if take is not None:
            return take(state, range(first, last)), None
        state, losses = self.step(state, first)
        for step in range(first + 1, last):
            state, _ = self.step(state, step)
        return state, losses if self.training["batch"] is None else None

    def layer_norms_squared(self, parameters: Parameters) -> Tensor:
        """Squared Frobenius norm of each layer's parameters, (R, layers)."""
        norms = [
            sum(parameters[name].flatten(1).square().sum(1) for name in layer)
            for layer in self.model.layers
        ]
        return torch.stack(norms, dim=1)


def _frozen_names(layers: list[list[str]], count: int) -> frozenset[str]:
    """Parameters of the last `count` layers."""
    if count >= len(layers):
        raise ConfigError(
            f"training.frozen = {count}: the network has {len(layers)} layers, and at least one "
            "must be trained."
        )
    return frozenset(name for layer in layers[len(layers) - count :] for name in layer)


def _differentiate(
    loss: Callable[[Parameters], Tensor], parameters: Parameters
) -> tuple[Tensor, Parameters]:
    leaves = {name: t.detach().requires_grad_() for name, t in parameters.items()}
    losses = loss(leaves)
    gradients = torch.autograd.grad(
        losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return losses.detach(), dict(zip(leaves, gradients, strict=True))
