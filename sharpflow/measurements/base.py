"""What a measurement sees and what it gives."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from sharpflow.curvature import ConvNet, DenseNet, prepare_inputs
from sharpflow.models import Parameters
from sharpflow.training import Problem

Values = dict[str, "float | np.ndarray"]


class Snapshot:
    """One run at one step. What several measurements need is computed once.

    Args:
        problem: the shard.
        run: index of the run on the ensemble's run dimension.
        parameters: the ensemble's parameters.
        shared: a store that lives as long as the evaluation, for what never changes.
        step: the step.
    """

    def __init__(
        self,
        problem: Problem,
        run: int,
        parameters: Parameters,
        shared: dict[str, Any],
        step: int = 0,
    ):
        self.problem = problem
        self.run = run
        self.step = step
        self.parameters = {name: t[run] for name, t in parameters.items()}
        self.ensemble = parameters
        self._shared = shared

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
        """Their targets, (n, k)."""
        return self.problem.batches.of_run(self.run)[1]

    @cached_property
    def dense_net(self) -> DenseNet | None:
        """The closed form of the network, if it is a stack of dense layers."""
        stack = getattr(self.problem.model, "dense_stack", None)
        if stack is None:
            return None
        if "dense_inputs" not in self._shared:
            self._shared["dense_inputs"] = prepare_inputs(self.inputs, gram=True)
        weights, biases = stack(self.parameters)
        return DenseNet(
            weights, self.problem.model.activation, self._shared["dense_inputs"], biases
        )

    @cached_property
    def conv_net(self) -> ConvNet | None:
        """The Jacobian of the network, if it is a stack of convolutions."""
        stack = getattr(self.problem.model, "convolution_stack", None)
        if stack is None:
            return None
        return ConvNet(*stack(self.parameters), self.problem.model.activation, self.inputs)

    @cached_property
    def outputs(self) -> Tensor:
        """F, (n, k)."""
        net = self.dense_net or self.conv_net
        if net is not None:
            return net.outputs.reshape(len(self.targets), -1)
        return self.network(self.parameters).detach()

    def network(self, parameters: Parameters) -> Tensor:
        """Outputs (n, k) as a function of parameters of this run (no run dimension).

        Parameters that are not given stay at this run's.
        """
        whole = {name: t.unsqueeze(0) for name, t in (self.parameters | parameters).items()}
        return self.problem.model(whole, self.inputs)[0]

    def loss(self, parameters: Parameters) -> Tensor:
        """The full-batch loss as a function of this run's parameters (no run dimension)."""
        return self.problem.loss(self.network(parameters), self.targets)

    @property
    def loss_slope(self) -> Tensor:
        """∂L/∂Fᵢ, (n, k)."""
        return self.problem.loss.slope(self.outputs, self.targets) / len(self.targets)

    @property
    def loss_curvature(self) -> Tensor:
        """∂²L/∂Fᵢ², (n, k)."""
        return self.problem.loss.curvature(self.outputs, self.targets) / len(self.targets)


class Measurement(Protocol):
    """A measurement of one run. A module of this package has `build(options) -> Measurement`.

    One object serves one run, so it may keep what it found at the last step as a warm start.
    """

    def restart(self) -> None:
        """Forget the last step: evaluation is at a stored state."""
        ...

    def measure(self, snapshot: Snapshot) -> Values:
        """Scalars, or one-dimensional arrays whose position is the table's index."""
        ...


Options = Mapping[str, Any]
