"""Flows that run beside training: gradient flow, and the central flow of an oscillating optimiser.

An `Objective` is a loss of flat parameters w, (p,), with three derivatives; a `Rule` an update rule
in continuous time. A flow is a pure function of its state, one step of the optimiser at a time::

    objective = model_objective(model, loss_fn, inputs, targets)   # or problem_objective(problem)
    flow = CentralFlow(objective, GradientDescent(learning_rate))   # or StableFlow(…)
    state = flow.start()                                            # or start(weights, average)
    for _ in range(steps):
        done = flow.step(state)
        done.observation.sharpness, done.observation.averaged_loss  # at the state before
        state = done.state                                          # state.tensors() is saved

`objective.named(state.weights)` gives the parameters by name.
"""

from sharpflow.flows.central_flow import CentralFlow
from sharpflow.flows.complementarity import Complement, complement
from sharpflow.flows.gradient_flow import StableFlow
from sharpflow.flows.objective import AutogradObjective, Objective, Point
from sharpflow.flows.objectives import model_objective, problem_objective, problem_rule
from sharpflow.flows.rules import GradientDescent, RMSprop, Rule
from sharpflow.flows.state import FlowState, FlowStep, Observation

__all__ = [
    "AutogradObjective",
    "CentralFlow",
    "Complement",
    "FlowState",
    "FlowStep",
    "GradientDescent",
    "Objective",
    "Observation",
    "Point",
    "RMSprop",
    "Rule",
    "StableFlow",
    "complement",
    "model_objective",
    "problem_objective",
    "problem_rule",
]
