"""Gradient flow, and the flow of a preconditioned rule as it would be without oscillation."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.integrate import RK23
from torch import Tensor

from sharpflow.arguments import as_number
from sharpflow.errors import FlowError
from sharpflow.flows.objective import Objective
from sharpflow.flows.rules import Rule, check_positive
from sharpflow.flows.state import FlowState, FlowStep, Observation

_MOST = 10_000
_RELATIVE = 1e-13
_LOOSE = 2.0
"""Times that the bound of the error may be above what the step turns out to ask for."""
_AVERAGE = 0.01
"""Share of ν that counts as a move of it: its error enters the weights' by its root."""
_LATEST = 1e12
"""Largest time, in steps: beside a larger one a substep is rounding."""


class StableFlow:
    """dw/dt = −P(ν)⁻¹ ∇L(w), dν/dt = c (∇L² − ν): gradient flow where the rule is gradient descent.

    Time is in steps of the optimiser. Each step is integrated by itself, by the Runge-Kutta pair of
    Bogacki and Shampine (`scipy.integrate.RK23`), whose step size keeps the local error of each
    substep below 2 `tol` times how far the weights move in the step: so the result is the same
    whether a run was interrupted or not. How far that is is known once it is done: where the first
    rate is larger, as along a direction of large curvature, the step is taken again.

    Args:
        objective: what is descended.
        rule: of the steps.
        tol: as said.

    Raises:
        FlowError: tol is not positive.
    """

    def __init__(self, objective: Objective, rule: Rule, tol: float = 1e-2) -> None:
        check_kinds(objective, rule)
        check_positive("flow: tol", tol)
        self.objective, self.rule, self.tol = objective, rule, tol

    def start(
        self, weights: Tensor | None = None, average: Tensor | None = None, time: float = 0.0
    ) -> FlowState:
        """The state from which the flow goes.

        Args:
            weights: w, (p,); by default where the objective was made.
            average: ν of the rule; by default what it is after the first gradient.
            time: in steps.

        Raises:
            FlowError: a number is not finite, or a shape is another.
        """
        return begin(self.objective, self.rule, weights, average, time)

    def step(self, state: FlowState) -> FlowStep:
        """One step of the optimiser's time.

        Raises:
            FlowError: the step needs more than 10,000 gradients, or leaves the finite numbers.
        """
        objective, rule = self.objective, self.rule
        size = objective.size
        seen: dict[str, float] = {}

        def rates(time: float, values: np.ndarray) -> np.ndarray:
            if seen.get("calls", 0) >= _MOST:
                raise FlowError(
                    f"gradient flow: the step from time {state.time:g} needs more than {_MOST:,} "
                    f"gradients at tol = {self.tol:g}; the sharpness has grown too large to follow."
                )
            whole = torch.from_numpy(values).to(state.weights.device)
            weights, average = whole[:size], whole[size:]
            point = objective.at(weights)
            gradient = point.gradient.double()
            seen.setdefault("loss", point.loss)
            seen["calls"] = seen.get("calls", 0) + 1
            pace = rule.pace(time)
            moved = torch.cat(
                [
                    -gradient / rule.metric(average),
                    pace * (rule.square(gradient, gradient) - average),
                ]
            )
            return moved.cpu().numpy()

        whole = torch.cat([state.weights, state.average]).cpu().numpy()
        first = rates(state.time, whole)

        def known(time: float, values: np.ndarray) -> np.ndarray:
            return first if time == state.time else rates(time, values)

        reach = _rms(first[:size])
        change = max(_rms(first[size:]), _AVERAGE * _rms(whole[size:]))
        while True:
            bound = np.full(len(whole), self.tol * change)
            bound[:size] = self.tol * reach
            solver, count = self._integrated(known, state, whole, np.maximum(bound, 1e-300))
            moved = _rms(solver.y[:size] - whole[:size])
            if reach <= _LOOSE * moved or reach == 0:
                break
            reach = moved
        after = torch.from_numpy(solver.y).to(state.weights.device)
        observation = Observation.stable(state.time, seen["loss"], rule.learning_rate, size, count)
        length = min(1.0, float(solver.step_size or 1.0)) if count > 1 else 1.0
        there = replace(
            state,
            weights=after[:size].clone(),
            average=after[size:].clone(),
            time=state.time + 1.0,
            substep=length,
        )
        return FlowStep(there, observation)

    def _integrated(
        self,
        rates: Callable[[float, np.ndarray], np.ndarray],
        state: FlowState,
        whole: np.ndarray,
        bound: np.ndarray,
    ) -> tuple[RK23, int]:
        """A solver at the end of a step whose substeps have errors below a bound; and their number.

        Raises:
            FlowError: it leaves the finite numbers.
        """
        count = 0
        try:
            solver = RK23(
                rates, state.time, whole, state.time + 1.0, rtol=_RELATIVE, atol=bound,  # pyright: ignore[reportArgumentType]
                first_step=min(state.substep, 1.0),
            )  # fmt: skip
            while solver.status == "running":
                solver.step()
                count += 1
        except ValueError as error:
            raise FlowError(f"gradient flow: at time {state.time:g}: {error}") from error
        if solver.status == "failed" or not np.isfinite(solver.y).all():
            raise FlowError(f"gradient flow: it left the finite numbers after time {state.time:g}.")
        return solver, count


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def check_kinds(objective: object, rule: object) -> None:
    """Raise FlowError unless these are an objective and a rule."""
    for what, given, kind in (("objective", objective, Objective), ("rule", rule, Rule)):
        if not isinstance(given, kind):
            raise FlowError(
                f"flow: the {what} is a {type(given).__name__}; it must be of the class "
                f"{kind.__name__}, as "
                f"{'model_objective gives' if kind is Objective else 'GradientDescent(0.1)'}."
            )


def begin(
    objective: Objective,
    rule: Rule,
    weights: Tensor | None,
    average: Tensor | None,
    time: float,
) -> FlowState:
    """The state at the start of a flow; see `StableFlow.start`."""
    for what, given in (("weights", weights), ("rule's average", average)):
        if given is not None and not isinstance(given, Tensor):
            raise FlowError(f"flow: the {what} are a {type(given).__name__}; give a tensor.")
    where = objective.start if weights is None else weights.detach().double()
    if where.shape != (objective.size,):
        raise FlowError(
            f"flow: the weights have shape {tuple(where.shape)}; they must be ({objective.size},)."
        )
    where = where.to(objective.device).clone()
    point = objective.at(where)
    if not 0 <= as_number(time) <= _LATEST:
        raise FlowError(
            f"flow: the time is {time!r}; it must be a number of steps from 0 to {_LATEST:g}."
        )
    if not math.isfinite(point.loss):
        raise FlowError("flow: the loss is NaN or infinite where the flow starts.")
    wanted = rule.begin(point.gradient)
    if average is None:
        average = wanted
    average = average.detach().double().reshape(-1).to(objective.device).clone()
    if average.shape != wanted.shape:
        raise FlowError(
            f"flow: the rule's average has shape {tuple(average.shape)}; it must be "
            f"{tuple(wanted.shape)}."
        )
    if bool((average < 0).any()):
        raise FlowError("flow: the rule's average of squared gradients is negative somewhere.")
    empty = torch.zeros(objective.size, 0, dtype=objective.dtype, device=objective.device)
    gram = torch.zeros(0, 0, dtype=torch.float64)
    return FlowState(where, average, float(time), 0.5, 1.0, empty, (), gram)
