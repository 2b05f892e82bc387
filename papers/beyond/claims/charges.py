"""Charges of units under weight decay, against the noise of their two sides."""

import numpy as np

from sharpflow.claims.base import claim
from sharpflow.results.charges import of_another_unit, still
from sharpflow.results.noise import MISSING, last
from sharpflow.results.runs import Run
from sharpflow.results.units import late_means, through_origin, unit_curves


def correlation_with_another_unit(run: Run) -> float:
    """Correlation of charges with the prediction for the next unit."""
    return correlation(late_means(run, "symmetry_charge"), np.roll(still(run), 1))


def correlation(values: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's r; `MISSING` where one of them does not vary."""
    if values.size < 3 or not (np.ptp(values) and np.ptp(predicted)):
        return MISSING
    return float(np.corrcoef(values, predicted)[0, 1])


NEXT = "the prediction for the next unit"


@claim(
    statement=(
        "Under weight decay the charges of units are those at which noise and decay cancel: the "
        "slope of charge on prediction is 1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="derived: exact for a still distribution; drifts that still change leave a few per cent",
    method=(
        "least-squares slope through 0, over units, of the mean charge on "
        "η/(2γ)((P_out − P_in)/S + mean gradient's part), both over the last half"
    ),
    reads=["symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer"],
    estimand="mean",
    cases=["sgd*"],
    controls=["gd*"],
    foils={NEXT: of_another_unit},
)
def decayed_charges(run: Run) -> float:
    """Slope of the units' charges on their predictions."""
    return through_origin(late_means(run, "symmetry_charge"), still(run))


@claim(
    statement=(
        "Noise tells the units apart: the correlation of charge and prediction over the units of a "
        "network is at least 0.9."
    ),
    band=(0.9, 1.0),
    origin="chosen: over four fifths of the variance between units",
    method="Pearson's r over units of the two, as for the slope",
    reads=["symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer"],
    cases=["sgd*"],
    controls=["gd*"],
    foils={NEXT: correlation_with_another_unit},
)
def decayed_charges_correlate(run: Run) -> float:
    """Correlation of the units' charges with their predictions."""
    return correlation(late_means(run, "symmetry_charge"), still(run))


def without_noise(run: Run) -> float:
    """Share of the charges that decay alone leaves of the first ones: slope of these on those."""
    steps, charges = unit_curves(run, "symmetry_charge")
    decay = (1 - run.learning_rate * run.setting("training.weight_decay")) ** (2 * steps)
    left = decay[:, None] * charges[:1]
    late = steps >= steps[-1] / 2
    return through_origin(left[late].mean(0), charges[late].mean(0))


@claim(
    statement=(
        "On their way too the charges are where noise, mean gradient and decay lead: the slope of "
        "charge on prediction is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="derived: exact in the mean for every step; what is left is chance and the stride",
    method=(
        "least-squares slope through 0, over units, of the mean charge over the last half on that "
        "of the first charge moved by the measured drift and decay of all steps since"
    ),
    reads=["symmetry_charge", "symmetry_charge_predicted"],
    estimand="mean",
    cases=["sgd*"],
    foils={"decay alone": without_noise},
)
def charges_on_their_way(run: Run) -> float:
    """Slope of the units' charges on those that drift and decay add up to."""
    parts = (late_means(run, name) for name in ("symmetry_charge", "symmetry_charge_predicted"))
    return through_origin(*parts)


@claim(
    statement=(
        "Gradient descent with weight decay balances the layers: charges end at 2 % of the "
        "parameters or less."
    ),
    band=(0.0, 0.02),
    origin="chosen: a tenth or less of what SGD keeps",
    method="‖charges‖/(‖outer‖ + ‖inner‖), of squared norms of units, at the end",
    reads=["symmetry_charge_share"],
    cases=["gd*"],
    controls=["sgd*"],
)
def gd_balances(run: Run) -> float:
    """Size of the charges over that of the parameters at the last state."""
    return last(run, "symmetry_charge_share")
