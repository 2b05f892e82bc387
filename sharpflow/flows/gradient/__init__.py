"""Gradient flow beside gradient descent: what training would be without oscillation."""

from collections.abc import Mapping
from typing import Any

from sharpflow.flows.descent import Descent
from sharpflow.flows.gradient_flow import StableFlow
from sharpflow.flows.objectives import problem_objective, problem_rule
from sharpflow.training import Problem


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Descent:
    """The process of `{every, start, tol}`."""
    objective = problem_objective(problem, run)
    flow = StableFlow(objective, problem_rule(problem, run), options["tol"])
    return Descent(problem, run, objective, flow, options["start"])
