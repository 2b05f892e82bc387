"""SGD goes to the noise equilibrium, GD does not (Ziyin et al., theorem 4.3, figure 2)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import (
    IDLE,
    MISSING,
    NO_APPROACH,
    U,
    W,
    charge_decay,
    first,
    goodness_of_line,
    has_learnt,
    last,
    small_step_limit,
    tail_mean,
)
from sharpflow.results.rates import decay_window
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

UPPER, LOWER = 0.8, 0.1


@claim(
    statement=(
        "SGD reaches the noise equilibrium from every initialisation: the relative imbalance of "
        "UᵀΓ_U U and WΓ_W Wᵀ falls below 0.1."
    ),
    band=(-INF, 0.1),
    origin=(
        "chosen: twice the fluctuation at a learning rate of 0.01; two independent random matrices "
        "of these sizes are 0.5 to 0.9 apart"
    ),
    method="relative imbalance ‖A − B‖/(‖A‖ + ‖B‖), mean over the last fifth of the steps",
    reads=["noise_imbalance"],
    cases=["sgd_*"],
)
def equilibrium_reached(run: Run) -> float:
    """Tail average of ‖UᵀΓ_U U − WΓ_W Wᵀ‖/(‖UᵀΓ_U U‖ + ‖WΓ_W Wᵀ‖).

    The imbalance is that of the second moments Γ. On isotropic data it cannot tell the weighted
    from the plain balance; `equilibrium_closed_form` does, on anisotropic data.
    """
    return tail_mean(run, "noise_imbalance")


@claim(
    statement=(
        "On anisotropic data SGD settles at the closed form of the noise equilibrium: the averages "
        "of U Uᵀ and Wᵀ W over the end of training are within 6 % of it."
    ),
    band=(-INF, 0.06),
    origin=(
        "chosen: with runs at this η known, which end at 5.4 %; terms of order η make 3.6 % of "
        "that, and 1.8 % are left at η = 0, where the averages fluctuate (closed_form_limit); the "
        "plain balance is 30 % away"
    ),
    method="larger relative Frobenius error of the averages of Wᵀ W and U Uᵀ",
    reads=["equilibrium_error"],
    cases=["sgd_*"],
)
def equilibrium_closed_form(run: Run) -> float:
    """The larger relative Frobenius error of the two tail averages.

    The factors themselves are not unique, the two products are. Only anisotropic data can decide:
    on isotropic data the closed form is the plain balance.
    """
    errors = [last(run, "equilibrium_error", index) for index in (0, 1)]
    return max(errors, key=lambda error: (np.isnan(error), error))


@claim(
    statement=(
        "The closed form of the noise equilibrium is the limit of small η: the error of the "
        "averages of U Uᵀ and Wᵀ W falls along a line in η to 3 % or less."
    ),
    band=(-INF, 0.03),
    origin="chosen: over the fluctuation of the averages, 1 to 2 %; plain balance stays at 30 %",
    method="intercept at η = 0 of a line through equilibrium_closed_form's error, one a seed",
    reads=["equilibrium_error"],
    cases=["sgd_*"],
    scope="case",
)
def closed_form_limit(runs: Sequence[Run]) -> float:
    """Error of the closed form, extrapolated to η = 0 over the learning rates of a seed.

    Undefined with one learning rate.
    """
    return small_step_limit(runs, [equilibrium_closed_form.statistic(run) for run in runs])


@claim(
    statement=(
        "The noise equilibrium does not depend on the initialisation: final ‖U‖² and ‖W‖² from "
        "different starts agree within 6 %."
    ),
    band=(-INF, 0.06),
    origin="chosen: the bound of equilibrium_closed_form; the starts differ by a factor of 16",
    method="(max − min)/mean over initialisations of the mean of ‖U‖², ‖W‖² over the last fifth",
    reads=["norm_squared"],
    cases=["sgd_*"],
    scope="experiment",
)
def equilibrium_initialisation_free(runs: Sequence[Run]) -> float:
    """Range over mean of the tail averages of ‖W‖² and ‖U‖², the larger of the two.

    Over the initialisations of one seed, each with noise of its own: starts that shared their noise
    would coalesce whatever the theory. Undefined with fewer than two
    cases.
    """
    if len({run.case for run in runs}) < 2:
        return Undefined("it needs two starts")
    levels = np.array([[tail_mean(run, "norm_squared", index) for run in runs] for index in (W, U)])
    return float(np.max(np.ptp(levels, axis=1) / levels.mean(axis=1)))


@claim(
    statement=(
        "Gradient descent does not reach the noise equilibrium: from unbalanced initialisations "
        "the relative imbalance stays at 0.5 or above."
    ),
    band=(0.5, INF),
    origin="chosen: five times the bound of equilibrium_reached",
    method="lowest relative imbalance over the run",
    reads=["noise_imbalance"],
    cases=["gd_small_*"],
)
def gd_stays_unbalanced(run: Run) -> float:
    """Lowest relative imbalance of the run.

    The lowest value is taken, so that a pass through balance would count against it. Undefined for
    a run that has not learnt (loss above 0.7 of its start): what never moves stays unbalanced too.
    """
    values = run.curve("noise_imbalance")[1]
    if not values.size:
        return MISSING
    return float(values.min()) if has_learnt(run) else IDLE


@claim(
    statement=(
        "Gradient descent keeps the Noether charge ‖U‖² − ‖W‖² of its initialisation to 10 %."
    ),
    band=(-INF, 0.1),
    origin=(
        "derived: gradient flow conserves it, and steps of size η change it by a relative order η "
        "while the loss comes down"
    ),
    method="relative change of ‖U‖² − ‖W‖² from the first to the last step",
    reads=["norm_squared"],
    cases=["gd", "gd_small_*", "gd_mild_*", "gd_phi_*"],
)
def gd_charge_conserved(run: Run) -> float:
    """|C − C₀|/|C₀| at the last step.

    Each step changes the charge by η²∇LᵀQ∇L. Undefined for a run whose loss has not come down: what
    never moves conserves everything.
    """
    if not has_learnt(run, share=1.0):
        return IDLE
    start = first(run, "norm_squared", U) - first(run, "norm_squared", W)
    end = last(run, "norm_squared", U) - last(run, "norm_squared", W)
    return abs(end - start) / abs(start)


@claim(
    statement=(
        "SGD approaches the noise equilibrium exponentially: a straight line explains at least "
        "98 % of the variance of log |C − C*|, C = ‖U‖² − ‖W‖², while it falls from 0.8 to 0.1 of "
        "its start."
    ),
    band=(0.98, INF),
    origin="derived: a straight decline and one as 1/t both give 0.94 over the window",
    method="R² of a least-squares line of log |C − C*| on the step, from 0.8 to 0.1 of its start",
    reads=["norm_squared"],
    cases=["sgd_small_*"],
)
def exponential_approach(run: Run) -> float:
    """R² of a line through the logarithm of the charge's distance from its end.

    A charge that keeps over 0.9 of its start (gradient descent's) fails outright; one that is on
    its way but not there is undefined.
    """
    steps, share = charge_decay(run)
    if share.size and share[-1] > 0.9:
        return NO_APPROACH
    window = decay_window(steps, share, UPPER, LOWER)
    if window is None:
        return Undefined("its charge has not come down to a tenth")
    return goodness_of_line(*window)
