"""The central flow beside training at the edge of stability.

Source: Cohen, Damian, Talwalkar, Kolter and Lee 2024, "Understanding Optimization in Deep Learning
with Central Flows".
"""

from collections.abc import Mapping
from typing import Any

from sharpflow.flows.central_flow import CentralFlow
from sharpflow.flows.descent import Central
from sharpflow.flows.objectives import problem_objective, problem_rule
from sharpflow.training import Problem


def build(options: Mapping[str, Any], problem: Problem, run: int) -> Central:
    """The process of `{every, start, tol, limit, kinks}`."""
    objective = problem_objective(problem, run)
    flow = CentralFlow(
        objective,
        problem_rule(problem, run),
        tol=options["tol"],
        limit=options["limit"],
        kinks=options["kinks"],
    )
    return Central(problem, run, objective, flow, options["start"])
