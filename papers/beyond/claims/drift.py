"""Drifts of charges without decay: of weights before norms, and with momentum."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.charges import change, mean_gradient_only, sum_of_rates
from sharpflow.results.runs import Run
from sharpflow.results.units import through_origin
from sharpflow.statistics.verdicts import Undefined


def growth(run: Run) -> float:
    """Growth of all units together over what was predicted for them."""
    grown = change(run, "symmetry_charge").sum()
    return float(grown / change(run, "symmetry_charge_predicted").sum())


def single_samples(run: Run) -> float:
    """Growth over what steps of single samples would give."""
    noise = sum_of_rates(run, "symmetry_noise_outer") + sum_of_rates(run, "symmetry_gradient_outer")
    return float(change(run, "symmetry_charge").sum() / (run.learning_rate**2 * noise.sum()))


def evaluation_mode(run: Run) -> float:
    """Growth over what single samples in evaluation mode predict."""
    grown = change(run, "symmetry_charge").sum()
    return float(grown / sum_of_rates(run, "evaluated_growth").sum())


@claim(
    statement=(
        "Weights before group norms grow under SGD as the noise of their gradients says: growth "
        "over prediction is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="derived: exact in the mean for every step; what is left is chance and the stride",
    method=(
        "growth of ‖w‖² of all groups after the first tenth of the run, over the sum of "
        "η²(Tr Σ/S + ‖∇L‖²) interpolated between measured states"
    ),
    reads=["symmetry_charge", "symmetry_charge_predicted", "symmetry_noise_outer"],
    estimand="mean",
    cases=["group_norm*"],
    support=(0.0, INF),
    foils={"the noise of single samples": single_samples},
)
def growth_as_predicted(run: Run) -> float:
    """Measured over predicted growth."""
    return growth(run)


@claim(
    statement=(
        "Weights before batch norms grow as the gradients of whole batches say: growth over "
        "prediction is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="derived: exact in the mean for every step; what is left is chance and the stride",
    method="as for group norms, with the noise of the gradients of drawn batches",
    reads=["symmetry_charge", "symmetry_charge_predicted", "evaluated_growth"],
    estimand="mean",
    cases=["batch_norm*"],
    support=(0.0, INF),
    foils={"gradients of single samples in evaluation mode": evaluation_mode},
)
def batch_growth_as_predicted(run: Run) -> float:
    """Measured over predicted growth."""
    return growth(run)


def plain_drift(run: Run) -> np.ndarray:
    """What plain SGD would add to each charge at the run's learning rate, (units,)."""
    noise, steady = (
        sum_of_rates(run, f"symmetry_{name}_outer") - sum_of_rates(run, f"symmetry_{name}_inner")
        for name in ("noise", "gradient")
    )
    assert run.batch, "drifts by noise are those of SGD"
    return run.learning_rate**2 * (noise / run.batch + steady)


def times_plain(run: Run) -> float:
    """Slope, over units, of the change of charges on what plain SGD would add; NaN if none."""
    found = through_origin(change(run, "symmetry_charge"), plain_drift(run))
    return found if np.isfinite(found) else Undefined("no charge drifts")


def momentum(run: Run) -> float:
    """β; 0 without momentum."""
    return float(run.setup["optimiser"].get("momentum", 0.0))


def by_the_root(run: Run) -> float:
    """The slope times 1 − β, as if momentum only made steps longer."""
    return times_plain(run) * (1 - momentum(run))


@claim(
    statement=(
        "Momentum β makes charges drift 1/(1 − β)² times as fast: the slope of their change on the "
        "drift of plain SGD, times (1 − β)², is 1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="derived: exact for the noise; mean gradient and stride leave a few per cent",
    method=(
        "(1 − β)² times the least-squares slope through 0, over units, of the change of charge "
        "after the first tenth of the run on the sum of η²((P_out − P_in)/S + mean gradient's part)"
    ),
    reads=["symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer"],
    estimand="mean",
    cases=["momentum*"],
    foils={"1/(1 − β)": by_the_root, "no factor": times_plain},
)
def momentum_factor(run: Run) -> float:
    """(1 − β)² times the slope."""
    return times_plain(run) * (1 - momentum(run)) ** 2


@claim(
    statement=(
        "Without momentum the charges drift as noise and mean gradient say: the slope of change on "
        "prediction is 1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="derived: exact in the mean for every step; what is left is chance and the stride",
    method="the same slope, without a factor",
    reads=["symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer"],
    estimand="mean",
    cases=["no_momentum*"],
    foils={"the mean gradient alone": mean_gradient_only},
)
def drift_without_momentum(run: Run) -> float:
    """The slope."""
    return times_plain(run)
