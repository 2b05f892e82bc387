"""One shard as a mathematical object: its data, network, loss and update rule."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial, reduce
from itertools import cycle
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpflow import devices
from sharpflow.data.population import Population
from sharpflow.errors import ConfigError, DataError, PartError
from sharpflow.losses.base import Loss
from sharpflow.models.base import (
    BUFFERS,
    Batch,
    Gradient,
    Parameters,
    Pass,
    Setting,
    build,
    differentiate,
)
from sharpflow.models.dense_pass import DensePass
from sharpflow.models.input_product import InputProduct
from sharpflow.optimisers import base as optimisers
from sharpflow.optimisers.base import State
from sharpflow.parts.loading import guarded, load_part
from sharpflow.schedules.base import Course, OfStart, Start
from sharpflow.training.batches import Batches, OnlineSamples, RunSamples, SharedSamples, Streams
from sharpflow.training.streams import generator, number

_CHECKED = 2
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Advance(NamedTuple):
    """What some steps give.

    Attributes:
        state: after them.
        losses: of each run at the first of them, (R,), where it is that of all the data without
            random numbers.
        threshold: the stability threshold at the first of them, a number or (R,).
    """

    state: State
    losses: Tensor | None
    threshold: float | Tensor


class Problem:
    """The ensemble of runs of one shard: initial state, batches, gradients and steps.

    Args:
        spec: plain configuration of the shard: stream, seeds, width, learning_rate, model,
            loss, optimiser, schedule, training, dtype, device.
        datasets: tensors of the shard's dataset (samples, or a Gaussian population), which all
            runs share, or of as many datasets as there are runs, alike but for their samples.

    State is a dict of tensors with a leading run dimension: the parameters, the optimiser's tensors
    under `<slot>/<parameter>`, and the network's buffers under `buffers/<name>`.
    """

    def __init__(self, spec: Mapping[str, Any], *datasets: Mapping[str, Tensor]):
        self.stream: str = spec["stream"]
        """Name of the random numbers' stream, which the seed completes."""
        self.seeds: list[int] = list(spec["seeds"])
        self.nominal_learning_rate = float(spec["learning_rate"])
        self.training: Mapping[str, Any] = spec["training"]
        self.dtype = _DTYPES[spec["dtype"]]
        self.device = devices.resolve(spec["device"])
        self.optimiser = optimisers.build(
            spec["optimiser"], self.training["weight_decay"], self.training["clip_norm"]
        )
        self.schedule = spec["schedule"]
        self._course: Course = load_part("schedules", self.schedule).build(
            self.schedule, self.nominal_learning_rate, self.training["steps"]
        )
        self.loss: Loss = load_part("losses", spec["loss"]).build(spec["loss"])
        self._datasets = _alike(datasets, len(self.seeds))
        dataset = datasets[0]
        self.population: Population | None = None
        if "teacher" in dataset:
            like = torch.empty(0, dtype=self.dtype, device=self.device)
            self.population = Population.of(dataset, like)
        self._called = f"model.kind = {spec['model']['kind']!r}"
        self._guarded = partial(guarded, "model", spec["model"])
        with self._guarded():
            self.model = build(spec["model"], self._setting(spec["width"]))
        self.frozen = _frozen_names(self.model.layers, self.training["frozen"])
        self.batches = self._batches()

    def _setting(self, width: int) -> Setting:
        dataset = self._datasets[0]
        compressed = self.optimiser.rotation_invariant and "coordinates" in dataset
        if self.population is not None:
            outputs, inputs = self.population.teacher.shape
            return Setting(width, (inputs,), outputs, compressed)
        vocabulary = int(dataset["vocabulary"]) if "vocabulary" in dataset else None
        outputs = dataset["targets"].shape[-1] if "targets" in dataset else int(dataset["classes"])
        shape = tuple(dataset["inputs"].shape[1:])
        return Setting(width, shape, outputs, compressed, vocabulary)

    def _batches(self) -> Batches:
        size, streams = self.training["batch"], Streams(self.stream, self.seeds)
        epochs = self.training["sampling"] == "epochs"
        if self.population is None:
            inputs = [self._place(self.model.data_inputs(each)) for each in self._datasets]
            targets = [self._place(_targets(each)) for each in self._datasets]
            if len(inputs) == 1:
                batches = SharedSamples(streams, inputs[0], targets[0], size, epochs)
            else:
                stacked = torch.stack(inputs), torch.stack(targets)
                batches = RunSamples(streams, *stacked, size, epochs)
        elif count := int(self._datasets[0]["samples"]):
            drawn = streams.normals("samples", (count, self.population.size))
            batches = RunSamples(streams, *self.population.sample(drawn), size, epochs)
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

    @cached_property
    def learning_rate(self) -> Callable[[int], float | Tensor]:
        """Learning rate of the step from `step` to `step` + 1: a number, or one a run, (R,)."""
        if not isinstance(self._course, OfStart):
            return self._course
        state = self.initial_state()
        return self._course.rates([self._start(state, run) for run in range(len(self.seeds))])

    def _start(self, state: State, run: int) -> Start:
        own = {name: t[run] for name, t in self.parameters(state).items()}
        outputs = self.model.network(self.moment(state, 0), run)
        inputs, targets = self.batches.of_run(run)

        def loss(trained: Parameters) -> Tensor:
            return self.loss(outputs(own | trained, inputs), self.rows(targets))

        trained = {name: t for name, t in own.items() if name not in self.frozen}
        return Start(self.seeds[run], loss, trained)

    @property
    def _closed_form(self) -> bool:
        """Whether the loss over the population is known in closed form."""
        known = "population loss" in self.model.capabilities and self.loss.squared_error
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
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.training["steps"]

    def _place(self, tensor: Tensor) -> Tensor:
        kind = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(device=self.device, dtype=kind)

    def initial_state(self) -> State:
        """The state at step 0, each run drawn from its own stream.

        Raises:
            PartError: the runs of one network start with different parameters' names or shapes.
        """
        runs, buffers = [], []
        owners = cycle(self._datasets)
        for seed, dataset in zip(self.seeds, owners, strict=False):
            source = generator(self.stream, seed, "initialise")
            runs.append(self.model.initialise(dataset, source))
            buffers.append(self.model.buffers())
        parameters = {name: self._stacked(runs, name) for name in runs[0]}
        if self.model.stateless:
            self._check_outputs(parameters)
        trained = {n: t for n, t in parameters.items() if n not in self.frozen}
        kept = {f"{BUFFERS}{name}": self._stacked(buffers, name) for name in buffers[0]}
        return parameters | self.optimiser.initial(trained) | kept

    def _check_outputs(self, parameters: Parameters) -> None:
        """Refuse a network whose outputs for the first samples are not what the loss needs."""
        shared = self.batches.shared
        first = slice(0, _CHECKED) if shared else (slice(None), slice(0, _CHECKED))
        targets = self.rows(self.targets[first])
        with torch.no_grad(), self._guarded():
            outputs = self.model(parameters, self.inputs[first])
        wanted = (len(self.seeds), *targets.shape[-2:])
        if not isinstance(outputs, Tensor) or outputs.shape != wanted:
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise PartError(
                f"{self._called}: for {len(self.seeds)} runs of {_CHECKED} samples the network "
                f"gave {found}, and the targets ask for {wanted}."
            )
        if not bool(torch.isfinite(outputs).all()):
            raise PartError(f"{self._called}: its outputs are NaN or infinite at its start.")

    def _stacked(self, runs: list[Parameters], name: str) -> Tensor:
        try:
            return self._place(torch.stack([run[name] for run in runs]))
        except (KeyError, RuntimeError) as error:
            raise PartError(
                f"model: the parameter or buffer {name!r} is missing, or of another shape, in some "
                "of the runs; a network must have the same ones for every seed."
            ) from error

    def parameters(self, state: State) -> Parameters:
        """The state's parameters alone."""
        return {name: t for name, t in state.items() if "/" not in name}

    def optimiser_state(self, state: State) -> State:
        """The state's tensors that belong to the optimiser."""
        return {n: t for n, t in state.items() if "/" in n and not n.startswith(BUFFERS)}

    def moment(self, state: State, step: int) -> Pass:
        """What a pass through the network needs at a step."""
        if self.model.stateless:
            return Pass()
        buffers = {n.removeprefix(BUFFERS): t for n, t in state.items() if n.startswith(BUFFERS)}
        seeds = (number(self.stream, seed, "forward", step) for seed in self.seeds)
        return Pass(buffers, tuple(seeds))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step: all samples, or S drawn for each run."""
        return self.batches.batch(step)

    def full_loss(self, state: State, step: int) -> Tensor:
        """Loss of each run over all samples, or over the population, (R,)."""
        parameters = self.parameters(state)
        with torch.no_grad():
            if self.samples is None and self._closed_form:
                assert self.population is not None
                return self.model.population_loss(parameters, self.population)
            if self.model.stateless:
                return self.loss(self.model(parameters, self.inputs), self.rows(self.targets))
            moment, losses = self.moment(state, step), []
            for run in range(len(self.seeds)):
                inputs, targets = self.batches.of_run(run)
                own = {name: t[run] for name, t in parameters.items()}
                outputs = self.model.network(moment, run)(own, inputs)
                losses.append(self.loss(outputs, self.rows(targets)))
            return torch.stack(losses)

    def rows(self, targets: Tensor) -> Tensor:
        """Targets (..., n, k) as the loss takes them: positions of sequences are rows."""
        return targets.flatten(-3, -2) if self._sequences else targets

    @cached_property
    def _sequences(self) -> bool:
        labels = self._datasets[0].get("labels")
        return labels is not None and labels.ndim == 2

    def loss_and_gradient(
        self, parameters: Parameters, inputs: Tensor, targets: Tensor, moment: Pass | None = None
    ) -> Gradient:
        """Loss of each run on samples, (R,), and its gradient; zero for what the loss does not use.

        Args:
            parameters: by name, each with a leading dimension of R runs.
            inputs: (n, ...) that all runs share, or (R, n, ...).
            targets: of the same samples, likewise.
            moment: buffers and seeds of the pass; by default there are none.
        """
        product = self._whole if inputs is self._whole.matrix else InputProduct(inputs)
        return self.model.loss_and_gradient(
            parameters, product, self.rows(targets), self.loss, moment or Pass()
        )

    def dense_pass(self, state: State) -> DensePass | None:
        """The forward pass of all runs over all samples, which the next step takes over.

        None where the network does not keep one, or steps are on batches of the samples.
        """
        if "kept pass" not in self.model.capabilities or self.training["batch"] is not None:
            return None
        model: Any = self.model
        return model.keep_pass(self.parameters(state), self._whole)

    @cached_property
    def _whole(self) -> InputProduct:
        """Products with all inputs, examined once."""
        return InputProduct(self.inputs)

    def gradient(self, state: State, step: int) -> Callable[[Parameters], Gradient]:
        """The pass of a step as a function of the trained parameters: frozen ones stay."""
        fixed = {n: t for n, t in self.parameters(state).items() if n in self.frozen}
        moment = self.moment(state, step)

        def found(trained: Parameters) -> Gradient:
            parameters, population = trained | fixed, self.population
            if population is not None and self.training["batch"] is None and self.samples is None:
                whole = Gradient(
                    *differentiate(lambda p: self.model.population_loss(p, population), parameters)
                )
            else:
                whole = self.loss_and_gradient(parameters, *self.batch(step), moment)
            kept = {name: whole.gradients[name] for name in trained}
            return Gradient(whole.losses, kept, whole.buffers)

        return found

    def step(self, state: State, step: int) -> Advance:
        """The state after one optimiser step, and the loss of each run on the step's batch.

        Frozen layers do not move.
        """
        parameters = self.parameters(state)
        trained = {n: t for n, t in parameters.items() if n not in self.frozen}
        taken = self.optimiser.step(
            trained,
            self.optimiser_state(state),
            self.gradient(state, step),
            self.learning_rate(step),
            step,
        )
        moved = parameters | taken.parameters | taken.state
        moved |= {f"{BUFFERS}{name}": t for name, t in taken.pass_.buffers.items()}
        kept = {n: t for n, t in state.items() if n.startswith(BUFFERS) and n not in moved}
        return Advance(moved | kept, taken.pass_.losses, taken.threshold)

    def threshold(self, state: State, step: int) -> float | Tensor:
        """The stability threshold at a state, a number or (R,)."""
        rate = self.learning_rate(step)
        if not self.optimiser.threshold_moves:
            return self.optimiser.threshold(rate, None)
        trained = {n: t for n, t in self.parameters(state).items() if n not in self.frozen}
        return self.optimiser.threshold(rate, self.gradient(state, step)(trained).gradients)

    @property
    def _written_out(self) -> Callable[[Parameters, range], Parameters] | None:
        """Steps without automatic differentiation, if the network has them for this problem."""
        optimiser = self.optimiser
        plain = optimiser.plain and optimiser.clip_norm is None and not self.frozen
        rate_of = self._course
        able = "written-out steps" in self.model.capabilities and self.loss.squared_error
        on_population = self.training["batch"] is None and self.samples is None
        if not (plain and able) or isinstance(rate_of, OfStart):
            return None
        decay = optimiser.weight_decay
        population = self.population
        shared = self.training["batch"] is None and self.batches.shared

        def take(state: Parameters, steps: range) -> Parameters:
            if on_population:
                assert population is not None, "only a population has no number of samples"
                rates = map(rate_of, steps)
                return self.model.descend_population(state, population, rates, decay)
            return self.model.descend(state, map(batch, steps), decay)

        def batch(step: int) -> Batch:
            inputs, targets = self.batch(step)
            if shared:
                inputs, targets = inputs[None], targets[None]
            return inputs, targets, rate_of(step)

        return take

    def advance(self, state: State, first: int, last: int) -> Advance:
        """The state at step `last` > `first` from that at step `first`, which is left as it is."""
        take = self._written_out
        if take is not None:
            moved = take(state, range(first, last))
            return Advance(moved, None, self.threshold(state, first))
        begun = self.step(state, first)
        state = begun.state
        for step in range(first + 1, last):
            state = self.step(state, step).state
        whole = self.training["batch"] is None and not self.model.draws
        return Advance(state, begun.losses if whole else None, begun.threshold)

    def layer_norms_squared(self, parameters: Parameters) -> Tensor:
        """Squared Frobenius norm of each layer's parameters, (R, layers)."""
        runs = len(self.seeds)
        norms = [
            reduce(add, (parameters[n].square().reshape(runs, -1).sum(1) for n in layer))
            for layer in self.model.layers
        ]
        return torch.stack(norms, dim=1)


def _alike(datasets: Sequence[Mapping[str, Tensor]], runs: int) -> Sequence[Mapping[str, Tensor]]:
    """The datasets, if there is one or one a run, and all have the same tensors and shapes."""
    shapes = [{name: tensor.shape for name, tensor in each.items()} for each in datasets]
    if len(datasets) not in (1, runs) or any(each != shapes[0] for each in shapes):
        raise DataError(
            f"{len(datasets)} datasets for {runs} runs, of the shapes {shapes[:2]}: there must be "
            "one, or one a run, all alike."
        )
    return datasets


def _targets(dataset: Mapping[str, Tensor]) -> Tensor:
    """Targets (n, k), or (n, T, k) for sequences; one-hot where the dataset has labels."""
    if "targets" in dataset:
        return dataset["targets"]
    return torch.nn.functional.one_hot(dataset["labels"].long(), int(dataset["classes"])).float()


def _frozen_names(layers: list[list[str]], count: int) -> frozenset[str]:
    """Parameters of the last `count` layers."""
    if count >= len(layers):
        raise ConfigError(
            f"training.frozen = {count}: the network has {len(layers)} layers, and at least one "
            "must be trained."
        )
    return frozenset(name for layer in layers[len(layers) - count :] for name in layer)
