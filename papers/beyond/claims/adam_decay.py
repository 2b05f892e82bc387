"""Where weight decay holds the charges of Adam.

Derived in docs/background/adam_equilibrium.md.
"""

import numpy as np

from sharpflow.claims.base import claim
from sharpflow.results.runs import Run
from sharpflow.results.units import late_means, through_origin

POWER = "symmetry_noise_outer", "symmetry_noise_inner"
METRIC = "adam_outer", "adam_inner"
READS = [
    "adam_charge",
    "adam_plain_charge",
    "adam_outer",
    "adam_inner",
    "symmetry_charge",
    "symmetry_noise_outer",
    "symmetry_noise_inner",
]


def held_charge(run: Run, sides: tuple[str, str] = METRIC) -> np.ndarray:
    """η(outer − inner)/(2γ) of every unit, means over the last half of the run, (units,)."""
    outer, inner = (late_means(run, side) for side in sides)
    return run.learning_rate / (2 * run.setting("training.weight_decay")) * (outer - inner)


def of_sgd(run: Run) -> float:
    """Slope of the plain charge on SGD's law, the noise of a batch."""
    predicted = held_charge(run, POWER) / (run.batch or 1)
    return through_origin(late_means(run, "symmetry_charge"), predicted)


def of_gradient_decay(run: Run) -> float:
    """Slope of the plain charge on Adam's noise, as where the decay is in the gradient."""
    return through_origin(late_means(run, "adam_plain_charge"), held_charge(run))


def of_adamw(run: Run) -> float:
    """Slope of the charge in Adam's metric on Adam's noise."""
    return through_origin(late_means(run, "adam_charge"), held_charge(run))


@claim(
    statement=(
        "AdamW holds each unit's charge Σ√vθ² (outer less inner) at η/(2γ) times that of Σ√v: the "
        "slope over units is between 0.85 and 1.15."
    ),
    band=(0.85, 1.15),
    origin="chosen: three times what the slope differs by between settings on other seeds",
    method="slope through 0 over units, of means over the last half of the run",
    reads=READS,
    cases=["adamw*"],
    controls=["gradient_decay", "forgetful"],
    foils={"the plain charge on SGD's noise": of_sgd, "the plain charge": of_gradient_decay},
)
def adamw_charge(run: Run) -> float:
    """Slope of C_D on η(R_outer − R_inner)/(2γ)."""
    return of_adamw(run)


@claim(
    statement=(
        "Where the decay is added to Adam's gradient, it is the plain charge Σθ² that is held at "
        "η/(2γ) times the difference of Σ√v: the slope over units is between 0.85 and 1.15."
    ),
    band=(0.85, 1.15),
    origin="chosen: as for adamw_charge",
    method="slope through 0 over units, of means over the last half of the run",
    reads=READS,
    cases=["gradient_decay"],
    controls=["adamw*", "forgetful"],
    foils={"the plain charge on SGD's noise": of_sgd, "the charge in the metric": of_adamw},
)
def gradient_decay_charge(run: Run) -> float:
    """Slope of the plain charge on η(R_outer − R_inner)/(2γ)."""
    return of_gradient_decay(run)
