"""What a measurement sees and what it gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from sharpflow.curvature.conv_curvature import ConvCurvature
from sharpflow.curvature.dense_curvature import DenseCurvature
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import State
from sharpflow.training import Problem

Values = dict[str, "float | Sequence[float] | np.ndarray"]
Options = Mapping[str, Any]
T = TypeVar("T")


class Snapshot:
    """One run at one step. What several measurements need is computed once.

    Args:
        problem: the shard.
        run: index of the run on the ensemble's run dimension.
        state: the ensemble's state: parameters, the optimiser's tensors, buffers.
        shared: a store that lives as long as the evaluation, for what never changes.
        step: the step.
    """

    def __init__(
        self, problem: Problem, run: int, state: State, shared: dict[str, Any], step: int = 0
    ):
        self.problem = problem
        self.run = run
        self.step = step
        self.state = state
        self.parameters = {name: t[run] for name, t in problem.parameters(state).items()}
        self._shared = shared

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What never changes during an evaluation: made when it is first asked for."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    @property
    def last(self) -> bool:
        """Whether this is the end of training."""
        return self.step == self.problem.steps

    @property
    def inputs(self) -> Tensor:
        """The run's samples, (n, ...)."""
        return self.problem.batches.of_run(self.run)[0]

    @property
    def targets(self) -> Tensor:
        """Their targets, a row a sample, or a position of a sequence: (m, k)."""
        return self.problem.rows(self.problem.batches.of_run(self.run)[1])

    @cached_property
    def after(self) -> Parameters:
        """The parameters of this run after the next step, which is taken once for all runs."""
        held = self._shared.get("after")
        if held is None or held[0] is not self.state:
            held = self.state, self.problem.step(self.state, self.step).state
            self._shared["after"] = held
        return {name: t[self.run] for name, t in self.problem.parameters(held[1]).items()}

    @cached_property
    def optimiser_state(self) -> State:
        """The optimiser's tensors of this run, by `<slot>/<parameter>`."""
        whole = self.problem.optimiser_state(self.state)
        return {name: t[self.run] for name, t in whole.items()}

    @cached_property
    def preconditioner(self) -> Parameters | None:
        """What the optimiser's `preconditioner` gives at this state, without a run dimension."""
        return self.problem.optimiser.preconditioner(self.optimiser_state, self.step)

    @cached_property
    def dense_curvature(self) -> DenseCurvature | None:
        """The closed form of the network, if it is a stack of dense layers."""
        if "dense stack" not in self.problem.model.capabilities:
            return None
        held = "dense_inputs" if self.problem.batches.shared else f"dense_inputs/{self.run}"
        prepared = self.once(held, lambda: prepare_inputs(self.inputs, gram=True))
        model: Any = self.problem.model
        weights, biases = model.dense_stack(self.parameters)
        taken = self.problem.dense_pass(self.state)
        if taken is not None:
            taken = taken.of_run(self.run)
        return DenseCurvature(weights, model.activation, prepared, biases, taken=taken)

    @cached_property
    def conv_curvature(self) -> ConvCurvature | None:
        """The Jacobian of the network, if it is a stack of convolutions with one output."""
        if "convolution stack" not in self.problem.model.capabilities or self.targets.shape[1] > 1:
            return None
        model: Any = self.problem.model
        weights, biases = model.convolution_stack(self.parameters)
        return ConvCurvature(weights, biases, model.activation, self.inputs)

    @cached_property
    def outputs(self) -> Tensor:
        """F, (m, k)."""
        net = self.dense_curvature or self.conv_curvature
        if net is not None:
            return net.outputs.reshape(len(self.targets), -1)
        return self.network(self.parameters).detach()

    def network(self, parameters: Parameters, inputs: Tensor | None = None) -> Tensor:
        """Outputs (m, k) as a function of parameters of this run (no run dimension).

        Args:
            parameters: those that are not given stay at this run's.
            inputs: (n, ...); the run's samples by default.
        """
        samples = self.inputs if inputs is None else inputs
        return self._function(self.parameters | parameters, samples)

    @cached_property
    def _function(self) -> Any:
        moment = self.problem.moment(self.state, self.step)
        return self.problem.model.network(moment, self.run)

    def loss(self, parameters: Parameters) -> Tensor:
        """The full-batch loss as a function of this run's parameters (no run dimension)."""
        return self.problem.loss(self.network(parameters), self.targets)

    @property
    def loss_slope(self) -> Tensor:
        """∂L/∂Fᵢ, (m, k)."""
        return self.problem.loss.slope(self.outputs, self.targets) / len(self.targets)

    @property
    def loss_curvature(self) -> Tensor:
        """∂²L/∂Fᵢ²: its diagonal (m, k), or (m, k, k) where it is not diagonal."""
        return self.problem.loss.curvature(self.outputs, self.targets) / len(self.targets)


class Measurement(ABC):
    """A measurement of one run. Its part has `build(options) -> Measurement`.

    One object serves one run, so it may keep what it found at the last step as a warm start.

    A value that comes from an iteration that may not have converged stands with a quantity
    `<its name>_converged`, 1 or 0, under the same indices: whoever reads the table leaves out the
    values that have not.
    """

    def restart(self) -> None:  # noqa: B027
        """Forget the last step: evaluation is at a stored state."""

    def memory(self) -> dict[str, Tensor]:
        """What a checkpoint has to keep, for a measurement that runs on through stored states."""
        return {}

    def recall(self, memory: dict[str, Tensor]) -> None:  # noqa: B027
        """Go on from what `memory` gave."""

    @abstractmethod
    def measure(self, snapshot: Snapshot) -> Values:
        """Scalars, or one-dimensional arrays whose position is the table's index."""
