"""What runs beside training, in one line."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field

from sharpflow.flows.process import Advance, Process, Window
from sharpflow.optimisers.base import State
from sharpflow.parts.options import FlowOptions
from sharpflow.training import Problem


class Options(FlowOptions):
    """Steps of a fraction of the learning rate, from where training starts."""

    substeps: Annotated[int, Field(ge=1, le=1000)] = 10
    """Steps in the place of one of training's."""

    def gives(self) -> frozenset[str]:
        """Names of the quantities that its table will have of its own."""
        return frozenset({"gradient_norm"})

    def passes(self) -> int:
        """Passes through the network in the place of one of training's, for estimates."""
        return self.substeps


class SmallSteps(Process):
    """Beside one run; it keeps nothing but what is in the state."""

    def __init__(self, problem: Problem, run: int, substeps: int):
        super().__init__(problem, run)
        self.substeps = substeps

    def advance(self, state: State, here: Window, there: Window) -> Advance:
        """The state one step of training's later, and what is predicted at this one."""
        loss, norm = self.loss_of(state, here.step), 0.0
        for substep in range(self.substeps):
            leaves = {n: t.detach().requires_grad_() for n, t in self.trained(state).items()}
            gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
            if substep == 0:
                norm = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
            rate = self.problem.learning_rate(here.step) / self.substeps
            moved = (t.detach() - rate * g for t, g in zip(leaves.values(), gradients, strict=True))
            state = state | dict(zip(leaves, moved, strict=True))
        return Advance(state, {"gradient_norm": norm})


def build(options: Mapping[str, Any], problem: Problem, run: int) -> SmallSteps:
    """The process of its options beside the run with an index."""
    return SmallSteps(problem, run, options["substeps"])
