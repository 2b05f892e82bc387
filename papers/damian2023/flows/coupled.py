"""The predicted cycle about a moving centre: displacement and sharpness along the central flow."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.flows.central_flow import CentralFlow
from sharpflow.flows.objectives import problem_rule
from sharpflow.flows.process import own_of
from sharpflow.flows.state import FlowState
from sharpflow.training import Problem

from ._crossing import Progress, UntilCrossing, progress
from ._options import CycleOptions

PREFIX = "centre_"


class Options(CycleOptions):
    """Displacement x along the unstable direction and v across it, about the central flow.

    x⁺ = −(1 + ηy) x, v⁺ = P⊥[(I − ηH) v − (η/2) ∇S⊥ (x² − δ²)], y = ∇S⊥·v, with H, ∇S and δ² = 2α/β
    at the central flow that starts where the sharpness crosses 2/η.
    """

    def passes(self) -> int:
        """As measured: those of the central flow, and of third derivatives of its own."""
        return 40


class Coupled(UntilCrossing):
    """Descent, and the coupled equations about the central flow from the crossing on."""

    kept = ("across", "along")
    predicts = ("predicted_sharpness",)

    def __init__(self, problem: Problem, run: int, kick: float, follow: int):
        super().__init__(problem, run, follow)
        self.kick = kick
        self.flow = CentralFlow(self.objective, problem_rule(problem, run))

    def at_crossing(self, weights: Tensor, found: Progress) -> dict[str, Tensor]:
        """X and v, and the state of the central flow."""
        excess = (found.sharpness - self.threshold) / found.strength
        centre = self.flow.start(weights - excess * found.slope)
        return {
            "across": excess * found.slope,
            "along": torch.tensor(self.kick * found.square**0.5, dtype=torch.float64),
            **{f"{PREFIX}{name}": tensor for name, tensor in centre.tensors().items()},
        }

    def beyond(self, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A step of the coupled equations, and one of the central flow."""
        kind = self.objective.dtype
        kept = own_of(own, PREFIX)
        # eigenvectors are of the network's precision, and what is kept is of double precision
        centre = FlowState.of(kept | {n: kept[n].to(kind) for n in ("vectors", "changes")})
        point = self.objective.at(centre.weights)
        found = progress(point, own["vector"].to(kind)[:, None])
        x, v, eta = float(own["along"]), own["across"], self.learning_rate
        y = float(found.slope @ v)
        product = point.hessian().matvec(v.to(kind)).double()
        push = 0.5 * (x * x - found.square) * found.slope
        after = v - eta * (product + push)
        done = self.flow.step(centre).state
        return {
            "across": after - (after @ found.direction) * found.direction,
            "along": torch.tensor(-(1 + eta * y) * x, dtype=torch.float64),
            "vector": found.direction,
            "weights": done.weights,
            **{f"{PREFIX}{name}": tensor for name, tensor in done.tensors().items()},
        }, {"predicted_sharpness": found.sharpness + y}


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Coupled:
    """The process of `{every, kick, follow}`."""
    return Coupled(problem, run, options["kick"], options["follow"])
