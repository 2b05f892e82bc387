"""What gradient noise balances between layers: its power under SGD, its root under Adam.

Derived in docs/background/adam_equilibrium.md.
"""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING
from sharpflow.results.runs import Run
from sharpflow.results.units import late_means

POWER = ["symmetry_noise_outer", "symmetry_noise_inner"]
ROOT = ["symmetry_root_outer", "symmetry_root_inner"]
METRIC = ["adam_outer", "adam_inner", "symmetry_noise_outer", "symmetry_root_outer"]
BALANCED = 0.06
"""Imbalance below which two sides count as balanced; between two laws it is 0.3 to 0.6."""
WORDS = "of each unit, means over the last half of the run: Σ|outer − inner|/Σ(outer + inner)"
CHOSEN = "chosen: over the means' fluctuations, 0.02 to 0.04; under the other law it is 0.3 to 0.6"


def gap(run: Run, sides: list[str]) -> float:
    """Σ|outer − inner|/Σ(outer + inner) over units, of means over the last half of the run."""
    outer, inner = (late_means(run, side) for side in sides[:2])
    if not outer.size:
        return MISSING
    return float(np.abs(outer - inner).sum() / (outer + inner).sum())


def power_gap(run: Run) -> float:
    """The imbalance of ΣE[ĝ²], which SGD balances."""
    return gap(run, POWER)


def root_gap(run: Run) -> float:
    """The imbalance of Σ√E[ĝ²], which Adam balances."""
    return gap(run, ROOT)


@claim(
    statement=(
        "Adam balances the root of the noise: for each hidden unit Σ√E[ĝ²] over the weights that "
        "make it and over those that read it agree within 6 %, whatever η, batch size, β₁, start "
        "and shape."
    ),
    band=(-INF, BALANCED),
    origin=CHOSEN,
    method=f"Σ√E[ĝ²] {WORDS}",
    reads=ROOT,
    cases=["adam_*", "rmsprop"],
    controls=["sgd_*", "epsilon_large", "forgetful"],
    foils={"ΣE[ĝ²], which SGD balances": power_gap},
)
def adam_balances_roots(run: Run) -> float:
    """Imbalance of Σ√E[ĝ²] over the units."""
    return root_gap(run)


@claim(
    statement=(
        "SGD balances the power of the noise: for each hidden unit ΣE[ĝ²] over the weights that "
        "make it and over those that read it agree within 6 %; and so does Adam where ε is far "
        "above √v."
    ),
    band=(-INF, BALANCED),
    origin=CHOSEN,
    method=f"ΣE[ĝ²] {WORDS}",
    reads=POWER,
    cases=["sgd_*", "epsilon_large"],
    controls=["adam_*", "rmsprop"],
    foils={"Σ√E[ĝ²], which Adam balances": root_gap},
)
def sgd_balances_powers(run: Run) -> float:
    """Imbalance of ΣE[ĝ²] over the units."""
    return power_gap(run)


@claim(
    statement=(
        "Between the two, where ε is of the order of √v, Adam balances ΣE[ĝ²]/(√v + ε): it agrees "
        "within 6 %, and neither the power nor the root does."
    ),
    band=(-INF, BALANCED),
    origin=CHOSEN,
    method=f"Σv/(√v + ε) {WORDS}",
    reads=METRIC,
    cases=["between_*"],
    controls=["forgetful"],
    foils={
        "ΣE[ĝ²], which SGD balances": power_gap,
        "Σ√E[ĝ²], which Adam balances at small ε": root_gap,
    },
)
def epsilon_interpolates(run: Run) -> float:
    """Imbalance of Σv/(√v + ε) over the units."""
    return gap(run, METRIC)
