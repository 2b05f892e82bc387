"""A flow of this package as a process beside a run."""

from torch import Tensor

from sharpflow.curvature.operators import flatten_parameters
from sharpflow.flows.central_flow import CentralFlow
from sharpflow.flows.gradient_flow import StableFlow
from sharpflow.flows.objective import Objective
from sharpflow.flows.process import Advance, Process, Window, joined, own_of
from sharpflow.flows.state import FlowState, Observation
from sharpflow.models.base import Parameters
from sharpflow.optimisers.base import State, slot
from sharpflow.training import Problem


class Descent(Process):
    """A flow of descent, from where training is at some step.

    Args:
        problem: the shard.
        run: index of the run.
        objective: of the run.
        flow: of the objective.
        start: the step; before it, the process is training itself.
    """

    def __init__(
        self,
        problem: Problem,
        run: int,
        objective: Objective,
        flow: CentralFlow | StableFlow,
        start: int = 0,
    ):
        super().__init__(problem, run)
        self.objective, self.flow, self.start = objective, flow, start

    def begin(self, window: Window) -> State:
        """The state at step 0."""
        return self._begun(window) if window.step == self.start else window.now

    def advance(self, state: State, here: Window, there: Window) -> Advance:
        """The state one step later, and what the flow predicts at this one."""
        if here.step < self.start:
            loss = self.objective.at(self._flat(self.trained(state))).loss
            seen = Observation.stable(
                here.step, loss, self.flow.rule.learning_rate, self.objective.size
            )
            after = self._begun(there) if there.step == self.start else there.now
            return Advance(after, self.predicted(seen))
        done = self.flow.step(FlowState.of(own_of(state)))
        return Advance(self._state(state, done.state), self.predicted(done.observation))

    def predicted(self, seen: Observation) -> dict[str, float]:
        """The loss and the variance about the flow that are predicted; without oscillation, 0."""
        return {"predicted_loss": seen.averaged_loss, "predicted_variance": seen.variance}

    def _begun(self, window: Window) -> State:
        """The state at the flow's first step, with the mean of squares that the step there uses."""
        weights = self._flat(self.trained(window.now))
        average = None
        if slots := self.problem.optimiser.slots:
            average = self._flat(slot(window.after, slots[0]))
        return self._state(window.now, self.flow.start(weights, average, float(window.step)))

    def _flat(self, named: Parameters) -> Tensor:
        """Tensors by name as the objective's flat parameters, (p,), float64."""
        order = self.objective.named(self.objective.start)
        return flatten_parameters({name: named[name] for name in order}).double()

    def _state(self, like: State, at: FlowState) -> State:
        """The state of training that the flow is at, and its own tensors."""
        names = self.objective.named(at.weights.to(self.objective.dtype))
        return joined(like, names | self._averages(at.average), at.tensors())

    def _averages(self, average: Tensor) -> State:
        """The running mean of squared gradients in the optimiser's slot, where it has one."""
        slots = self.problem.optimiser.slots
        if not slots:
            return {}
        names = self.objective.named(average.to(self.objective.dtype))
        return {f"{slots[0]}/{name}": tensor for name, tensor in names.items()}


class Central(Descent):
    """A central flow, with what it says of the oscillation."""

    def predicted(self, seen: Observation) -> dict[str, float]:
        """With how many eigenvalues are at the threshold, and the error of the step."""
        return super().predicted(seen) | {"unstable": seen.critical, "flow_error": seen.error}
