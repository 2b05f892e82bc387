"""Angular updates of scale-invariant weights under decay (Wan et al. 2021; Kosson et al. 2024)."""

from math import sqrt

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.runs import Run
from sharpflow.results.units import unit_curves
from sharpflow.statistics.verdicts import Undefined

LATE = 0.4
"""Share of the run's steps, at its end, over which angles are averaged."""


def predicted_angle(run: Run) -> float:
    """The angle of a step where noise and decay balance, in radians."""
    plain = 2 * run.learning_rate * run.setting("training.weight_decay")
    kind = run.setting("optimiser.kind")
    if kind == "heavy_ball":
        return sqrt(plain / (1 + run.setting("optimiser.momentum")))
    if kind == "adamw":
        beta = run.setting("optimiser.beta1")
        return sqrt(plain * (1 - beta) / (1 + beta))
    return sqrt(plain)


def angles(run: Run) -> np.ndarray:
    """Root mean square of each layer's angle over the end of the run, (layers,)."""
    steps, values = unit_curves(run, "angular_update")
    return np.sqrt(np.square(values[steps >= (1 - LATE) * steps[-1]]).mean(axis=0))


def ratio(run: Run, angle: float) -> float:
    """Root mean square over the layers of their angles over one; `Undefined` without any."""
    found = angles(run) if run.indices("angular_update") else np.empty(0)
    if not found.size:
        return Undefined("no angle was recorded")
    return float(np.sqrt(np.square(found).mean()) / angle)


def over_plain(run: Run) -> float:
    """Angles over √(2ηγ), that of plain SGD."""
    return ratio(run, sqrt(2 * run.learning_rate * run.setting("training.weight_decay")))


@claim(
    statement=(
        "Under weight decay a step turns the weights before a norm by √(2ηγ), with momentum β by "
        "√(2ηγ/(1 + β)), and under AdamW by √(2ηγ(1 − β₁)/(1 + β₁)): within 10 %."
    ),
    band=(0.9, 1.1),
    origin="chosen: a tenth tells the three angles from each other and from networks without norms",
    method=(
        "root mean square of the angle of a step over both hidden layers and the last two fifths "
        "of the run, over the predicted angle"
    ),
    reads=["angular_update"],
    estimand="mean",
    support=(0.0, INF),
    cases=["sgd*", "momentum*", "adamw*"],
    controls=["without_norm"],
)
def angular_update(run: Run) -> float:
    """Measured over predicted angle."""
    return ratio(run, predicted_angle(run))


@claim(
    statement=(
        "With momentum and under AdamW the angle of a step is not that of plain SGD at the same "
        "learning rate and decay: it is smaller by a fifth or more."
    ),
    band=(-INF, 0.8),
    origin="derived: 0.73 at β = 0.9 and 0.23 at β₁ = 0.9",
    method="root mean square of the angle as above, over √(2ηγ)",
    reads=["angular_update"],
    estimand="mean",
    cases=["momentum*", "adamw*"],
    controls=["sgd*"],
)
def angle_of_the_rule(run: Run) -> float:
    """Measured angle over that of plain SGD."""
    return over_plain(run)
