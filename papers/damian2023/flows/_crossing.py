"""What the processes of one cycle share: descent until its sharpness comes to 2/η."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sharpflow.curvature import top_eigenpairs
from sharpflow.flows.objective import Point
from sharpflow.flows.objectives import problem_objective, problem_rule
from sharpflow.flows.process import Advance, Process, Window, joined, own_of
from sharpflow.optimisers.base import State
from sharpflow.training import Problem

_CLOSE, _SELDOM = 0.9, 5
"""Below this share of the threshold the sharpness is looked at every so many steps."""
_ACCURACY = 1e-4


class Progress(NamedTuple):
    """Progressive sharpening at a point where the sharpness S is near 2/η.

    Attributes:
        sharpness: S.
        direction: its eigenvector u, (p,).
        slope: ∇S without its part along u, (p,).
        rate: α = −∇L·∇S⊥, at which S rises by itself; what the loss slopes along u is the answer of
            a mean path to the oscillation, and no cause of sharpening.
        strength: β = ‖∇S⊥‖².
    """

    sharpness: float
    direction: Tensor
    slope: Tensor
    rate: float
    strength: float

    @property
    def square(self) -> float:
        """δ² = 2α/β, the squared displacement that would hold S; 0 where S falls by itself."""
        return max(2 * self.rate / self.strength, 0.0)


def progress(point: Point, start: Tensor | None = None) -> Progress:
    """The quantities of self-stabilisation at a point; `start` is near the eigenvector, (p, 1)."""
    found = top_eigenpairs(point.hessian(), 1, _ACCURACY, start)
    direction = found.vectors[:, 0].double()
    whole = point.third_derivatives(found.vectors[:, :1])[0].double()
    slope = whole - (whole @ direction) * direction
    rate = -float(point.gradient.double() @ slope)
    return Progress(float(found.values[0]), direction, slope, rate, float(slope @ slope))


class UntilCrossing(Process):
    """Gradient descent until its sharpness first is 2/η or more, then something else, then rest.

    What follows a crossing goes on for `follow` steps.

    Its own tensors: weights w, (p,) float64; crossed, the step of the crossing or −1; vector, the
    last eigenvector; and what the process after the crossing keeps.
    """

    def __init__(self, problem: Problem, run: int, follow: int):
        super().__init__(problem, run)
        self.follow = follow
        self.objective = problem_objective(problem, run)
        self.learning_rate = problem_rule(problem, run).learning_rate
        self.threshold = 2 / self.learning_rate

    def begin(self, window: Window) -> State:
        """The state at step 0."""
        empty = torch.zeros(0, dtype=torch.float64)
        own = {"weights": self.objective.start.double(), "vector": empty, "crossed": -1.0}
        return self._state(window.now, own | dict.fromkeys(self.kept, empty))

    kept: tuple[str, ...] = ()
    """Names of the tensors that it keeps after the crossing."""

    def advance(self, state: State, here: Window, there: Window) -> Advance:
        """The state one step later, and what is predicted at this one."""
        own = own_of(state)
        crossed = float(own["crossed"])
        if crossed < 0 and self._near(own, here.step):
            own, crossed = self._looked(own, here.step)
        if crossed < 0:
            point = self.objective.at(own["weights"])
            moved = own["weights"] - self.learning_rate * point.gradient.double()
            predicted = {"since_crossing": math.nan} | dict.fromkeys(self.predicts, math.nan)
            return Advance(self._state(state, own | {"weights": moved}), predicted)
        since = here.step - crossed
        if since > self.follow:
            nothing = dict.fromkeys(self.predicts, math.nan)
            return Advance(state, {"since_crossing": since} | nothing)
        after, predicted = self.beyond(own)
        predicted = {"since_crossing": since} | predicted
        return Advance(self._state(state, own | after), predicted)

    predicts: tuple[str, ...] = ()
    """Quantities that it predicts after the crossing."""

    @abstractmethod
    def at_crossing(self, weights: Tensor, found: Progress) -> dict[str, Tensor]:
        """What it keeps from the crossing on; `weights` among it where they are changed."""

    @abstractmethod
    def beyond(self, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Its own tensors one step later, and what it predicts at this one."""

    def shown(self, own: Mapping[str, Tensor]) -> Tensor:
        """The weights that are measured, (p,)."""
        return own["weights"]

    def _near(self, own: dict[str, Tensor], step: int) -> bool:
        return step % _SELDOM == 0 or float(own.get("last", 0.0)) >= _CLOSE * self.threshold

    def _looked(self, own: dict[str, Tensor], step: int) -> tuple[dict[str, Tensor], float]:
        """The tensors with what the sharpness is, and the step if it has crossed."""
        point = self.objective.at(own["weights"])
        start = own["vector"].to(self.objective.dtype)[:, None] if own["vector"].numel() else None
        found = top_eigenpairs(point.hessian(), 1, _ACCURACY, start)
        vector = found.vectors[:, 0].double()
        own = own | {"vector": vector, "last": found.values[0].double()}
        if float(found.values[0]) < self.threshold:
            return own, -1.0
        kept = self.at_crossing(own["weights"], progress(point, found.vectors[:, :1]))
        return own | kept | {"crossed": torch.tensor(float(step))}, float(step)

    def _state(self, like: State, own: Mapping[str, Tensor | float]) -> State:
        tensors = {n: torch.as_tensor(t, dtype=torch.float64) for n, t in own.items()}
        names = self.objective.named(self.shown(tensors).to(self.objective.dtype))
        return joined(like, names, tensors)
