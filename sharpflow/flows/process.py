"""What runs beside the training of one run: the steps of its states, and what it predicts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import State
from sharpflow.training import Problem

OWN = "flow/"
"""What the names of a state's tensors begin with that are the process's own and not training's."""
Predicted = Mapping[str, float | Sequence[float] | Tensor]


@dataclass(frozen=True)
class Window:
    """Three iterates of training: those before and after a step, and that of the step.

    Attributes:
        step: the step of `now`.
        before, now, after: states; `before` the first iterate is itself.
    """

    step: int
    before: State
    now: State
    after: State

    @property
    def midpoint(self) -> State:
        """(w₋ + 2w + w₊)/4, in which an oscillation of period two has no part."""
        return {name: self._middle(name) for name in self.now}

    def _middle(self, name: str) -> Tensor:
        before, now, after = (state[name] for state in (self.before, self.now, self.after))
        return now if not now.is_floating_point() else (before + 2 * now + after) / 4

    def of_run(self, run: int) -> "Window":
        """The window of one run (no run dimension), of one on the ensemble."""
        states = (
            {name: tensor[run] for name, tensor in state.items()}
            for state in (self.before, self.now, self.after)
        )
        return Window(self.step, *states)

    def following(self, after: State) -> "Window":
        """The window one step later."""
        return Window(self.step + 1, self.now, self.after, after)


class Advance(NamedTuple):
    """What one step's length of a process gives.

    Attributes:
        state: after it.
        predicted: at the state before it, numbers or one-dimensional arrays by quantity; the same
            quantities, of the same sizes, at every step.
    """

    state: State
    predicted: Predicted


class Process(ABC):
    """A process beside one run of a shard. Its part has `build(options, problem, run) -> Process`.

    It keeps nothing between calls but in the state, so that it goes on from any of them: its own
    tensors stand there under `flow/<name>`, the parameters and the optimiser's tensors under the
    names that they have in training, without the run dimension.

    Args:
        problem: the shard.
        run: index of the run on the ensemble's run dimension.
    """

    def __init__(self, problem: Problem, run: int):
        self.problem = problem
        self.run = run

    def begin(self, window: Window) -> State:
        """The state at step 0: that of training, by default.

        Args:
            window: of training, at step 0.
        """
        return window.now

    @abstractmethod
    def advance(self, state: State, here: Window, there: Window) -> Advance:
        """The state one step later.

        Args:
            state: at the step of `here`.
            here: of training, at this step.
            there: of training, at the next step.
        """

    def loss_of(self, state: State, step: int) -> Callable[[Parameters], Tensor]:
        """The loss over all samples as a function of the trained parameters (no run dimension)."""
        problem = self.problem
        whole = {name: tensor.unsqueeze(0) for name, tensor in state.items()}
        network = problem.model.network(problem.moment(whole, step), self.run)
        inputs, targets = problem.batches.of_run(self.run)
        rows, fixed = problem.rows(targets), parameters_of(state)

        def loss(parameters: Parameters) -> Tensor:
            return problem.loss(network(fixed | parameters, inputs), rows)

        return loss

    def trained(self, state: State) -> Parameters:
        """The trained parameters of a state."""
        frozen = self.problem.frozen
        return {name: t for name, t in parameters_of(state).items() if name not in frozen}


def parameters_of(state: State) -> Parameters:
    """The parameters of a state."""
    return {name: tensor for name, tensor in state.items() if "/" not in name}


def own_of(state: State, prefix: str = OWN) -> State:
    """The process's own tensors of a state, by the names that it gave them."""
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def joined(like: State, parameters: Parameters, own: State) -> State:
    """A state with other parameters, each of its precision there, and with a process's tensors."""
    found = without_own(like) | {n: t.detach().to(like[n]) for n, t in parameters.items()}
    # as it is read from a checkpoint: BLAS rounds otherwise for another layout
    return found | {f"{OWN}{name}": tensor.contiguous() for name, tensor in own.items()}


def without_own(state: State) -> State:
    """A state without the process's own tensors, as measurements see it."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(OWN)}


def distance(one: State, other: State) -> float:
    """Euclidean distance of the parameters of two states."""
    names = parameters_of(one)
    gaps = [(one[n].double() - other[n].double()).square().sum() for n in names]
    return float(torch.stack(gaps).sum().sqrt())
