"""The Noether budget of a transformer's block: what noise did to every charge, and why."""

from typing import NamedTuple

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING
from sharpflow.results.runs import Run
from sharpflow.results.units import through_origin, unit_curves

BEGIN = 0.1
"""Share of the run that is left out: at first the loss falls within fewer steps than lie between
two records, and the integral is not resolved."""
GROUPS = {"norm": 0, "value and output": 1, "query and key": 2, "hidden units": 3}
"""Groups of the experiment's symmetries, in the order of the measurement's patterns."""
JUDGED = ("query and key", "value and output", "hidden units")
READS = (
    "symmetry_charge",
    "symmetry_group",
    "symmetry_noise_outer",
    "symmetry_noise_inner",
    "symmetry_gradient_outer",
    "symmetry_gradient_inner",
)
SIDES = READS[2:]


SINGLE = "with the noise of single samples"
SCATTER = "chosen: a seed's slope scatters by a tenth, for one step varies by as much as its mean"


class Budget(NamedTuple):
    """Changes of the charges of a group of symmetries over a run.

    Attributes:
        measured: from `BEGIN` of the run to its end, (charges,).
        noise: what the gradient noise makes of it, η²/S times the integral of G_O − G_I.
        gradient: what the mean gradient makes of it, η² times the integral of M_O − M_I.
    """

    measured: np.ndarray
    noise: np.ndarray
    gradient: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """What both make of it."""
        return self.noise + self.gradient

    @property
    def slope(self) -> float:
        """Of the measured change on the predicted one, through the origin."""
        return through_origin(self.measured, self.predicted)

    def correlation(self, predicted: np.ndarray | None = None) -> float:
        """Of the measured change with a predicted one, by default the whole."""
        whole = self.predicted if predicted is None else predicted
        return float(np.corrcoef(self.measured, whole)[0, 1])


def budgets(run: Run) -> dict[str, Budget]:
    """The budget of each group, by its name; empty for a run that was not measured.

    For an optimiser that is not SGD it is what SGD's law would say.
    """
    steps, charge = unit_curves(run, "symmetry_charge")
    if not steps.size:
        return {}
    late = steps >= BEGIN * steps[-1]
    sides = (unit_curves(run, name)[1][late] for name in SIDES)
    outer, inner, steady, still = (np.trapezoid(side, steps[late], axis=0) for side in sides)
    squared = run.learning_rate**2
    noise = squared * (outer - inner) / (run.batch or np.inf)
    whole = charge[-1] - charge[late][0], noise, squared * (steady - still)
    groups = unit_curves(run, "symmetry_group")[1][0]
    return {
        name: Budget(*(part[groups == group] for part in whole)) for name, group in GROUPS.items()
    }


def _slope(run: Run, name: str) -> float:
    found = budgets(run)
    return found[name].slope if found else MISSING


def _of_single_samples(run: Run, name: str) -> float:
    """The slope on what the noise of batches of one sample would do to a group."""
    found = budgets(run)
    if not found:
        return MISSING
    own = found[name]
    return through_origin(own.measured, (run.batch or 1) * own.noise + own.gradient)


def correlation_without_noise(run: Run) -> float:
    """Least correlation with what the mean gradient does alone."""
    found = budgets(run)
    if not found:
        return MISSING
    return min(found[name].correlation(found[name].gradient) for name in JUDGED)


@claim(
    statement=(
        "In a transformer's block the charges of queries and keys change under SGD as the Noether "
        "flow says: the slope of measured on predicted changes is 1 ± 0.15."
    ),
    band=(0.85, 1.15),
    origin=SCATTER,
    method="slope through 0, from a tenth of the run on, over entries of the heads' matrices",
    reads=READS,
    estimand="mean",
    cases=["sgd*"],
    foils={SINGLE: lambda run: _of_single_samples(run, "query and key")},
)
def budget_query_key(run: Run) -> float:
    """Slope of the measured change on the predicted one, queries and keys."""
    return _slope(run, "query and key")


@claim(
    statement=(
        "So do those of values and outputs: the slope of measured on predicted changes is 1 ± 0.15."
    ),
    band=(0.85, 1.15),
    origin=SCATTER,
    method="slope through 0, from a tenth of the run on, over entries of the heads' matrices",
    reads=READS,
    estimand="mean",
    cases=["sgd*"],
    foils={SINGLE: lambda run: _of_single_samples(run, "value and output")},
)
def budget_value_output(run: Run) -> float:
    """Slope of the measured change on the predicted one, values and outputs."""
    return _slope(run, "value and output")


@claim(
    statement=(
        "So do those of the hidden units: the slope of measured on predicted changes is 1 ± 0.15."
    ),
    band=(0.85, 1.15),
    origin=SCATTER,
    method="slope through 0, from a tenth of the run on, over hidden units",
    reads=READS,
    estimand="mean",
    cases=["sgd*"],
    foils={SINGLE: lambda run: _of_single_samples(run, "hidden units")},
)
def budget_hidden(run: Run) -> float:
    """Slope of the measured change on the predicted one, hidden units."""
    return _slope(run, "hidden units")


@claim(
    statement=(
        "The law holds charge by charge: in each of the three groups the correlation of measured "
        "with predicted changes is at least 0.9, and under Adam it is not."
    ),
    band=(0.9, INF),
    origin="chosen: with runs known, whose correlations are 0.98 or more; under Adam at most 0.5",
    method="least correlation over the three groups",
    reads=READS,
    cases=["sgd*"],
    controls=["adam"],
    foils={"with the mean gradient alone": correlation_without_noise},
)
def budget_correlation(run: Run) -> float:
    """Least correlation over the judged groups."""
    found = budgets(run)
    return min(found[name].correlation() for name in JUDGED) if found else MISSING
