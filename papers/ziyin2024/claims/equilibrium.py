"""SGD goes to the noise equilibrium, GD does not (Ziyin et al., theorem 4.3, figure 2)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import (
    NAN,
    U,
    W,
    charge_decay,
    first,
    goodness_of_line,
    has_learnt,
    last,
    tail_mean,
)
from sharpflow.results.rates import decay_window
from sharpflow.results.runs import Run

UPPER, LOWER = 0.8, 0.1


@claim(
    statement=(
        "SGD reaches the noise equilibrium from every initialisation: the relative imbalance of "
        "UᵀΓ_U U and WΓ_W Wᵀ falls below 0.1."
    ),
    band=(-INF, 0.1),
    method="relative imbalance ‖A − B‖/(‖A‖ + ‖B‖), mean over the last fifth of the steps",
    reads=["noise_imbalance"],
    cases=["sgd_*"],
)
def equilibrium_reached(run: Run) -> float:
    """Tail average of ‖UᵀΓ_U U − WΓ_W Wᵀ‖/(‖UᵀΓ_U U‖ + ‖WΓ_W Wᵀ‖); inf for a diverged run.

    The bound of 0.1 is this project's: two independent random matrices of these sizes are 0.5 to
    0.9 apart, a learning rate of 0.01 leaves fluctuations of some 0.05. The imbalance is that of
    the second moments Γ. On isotropic data it cannot tell the weighted from the plain balance;
    there `equilibrium_closed_form` decides.
    """
    return INF if run.diverged else tail_mean(run, "noise_imbalance")


@claim(
    statement=(
        "On anisotropic data SGD settles at the closed form of the noise equilibrium: the averages "
        "of U Uᵀ and Wᵀ W over the end of training are within 6 % of it."
    ),
    band=(-INF, 0.06),
    method="larger relative Frobenius error of the averages of Wᵀ W and U Uᵀ",
    reads=["equilibrium_error"],
    cases=["sgd_*"],
)
def equilibrium_closed_form(run: Run) -> float:
    """The larger relative Frobenius error of the two tail averages; inf for a diverged run.

    The bound of 6 % allows for terms of relative order η that the closed form leaves out (some 3 %
    at the learning rates used) and for the slowest directions. The factors themselves are not
    unique, the two products are. Only anisotropic data can decide; `plain_balance_excluded` says
    that these do.
    """
    if run.diverged:
        return INF
    return max(last(run, "equilibrium_error", index) for index in (0, 1))


@claim(
    statement=(
        "The noise equilibrium does not depend on the initialisation: final ‖U‖² and ‖W‖² from "
        "different starts agree within 6 %."
    ),
    band=(-INF, 0.06),
    method="(max − min)/mean over initialisations of the mean of ‖U‖², ‖W‖² over the last fifth",
    reads=["norm_squared"],
    cases=["sgd_*"],
    scope="experiment",
)
def equilibrium_initialisation_free(runs: Sequence[Run]) -> float:
    """Range over mean of the tail averages of ‖W‖² and ‖U‖², the larger of the two.

    Over the initialisations of one seed, which share their data. The bound is that of
    `equilibrium_closed_form`; the initial norms differ by a factor of 16, a relative range of 1.8.
    Undefined (NaN) with fewer than two cases.
    """
    if any(run.diverged for run in runs):
        return INF
    if len({run.case for run in runs}) < 2:
        return NAN
    levels = np.array([[tail_mean(run, "norm_squared", index) for run in runs] for index in (W, U)])
    return float(np.max(np.ptp(levels, axis=1) / levels.mean(axis=1)))


@claim(
    statement=(
        "On anisotropic data the plain balance UᵀU = WWᵀ is excluded: the averages of U Uᵀ and "
        "Wᵀ W are both at least 30 % away from it."
    ),
    band=(0.3, INF),
    method="smaller relative Frobenius error against the unweighted balance",
    reads=["plain_balance_error"],
    cases=["sgd_*"],
)
def plain_balance_excluded(run: Run) -> float:
    """The smaller relative Frobenius error of the two tail averages against the plain balance.

    The bound is five times that of `equilibrium_closed_form`: an average that is within 6 % of one
    of two closed forms that lie this far apart cannot be near the other. On isotropic data the two
    are the same and this claim fails, as it should.
    """
    if run.diverged:
        return NAN
    return min(last(run, "plain_balance_error", index) for index in (0, 1))


@claim(
    statement=(
        "Gradient descent does not reach the noise equilibrium: from unbalanced initialisations "
        "the relative imbalance stays at 0.5 or above."
    ),
    band=(0.5, INF),
    method="lowest relative imbalance over the run",
    reads=["noise_imbalance"],
    cases=["gd_small_*"],
)
def gd_stays_unbalanced(run: Run) -> float:
    """Lowest relative imbalance of the run.

    The lowest value is taken, so that a pass through balance would count against it. Five times the
    bound of `equilibrium_reached` leaves no imbalance that both could accept. A run that has not
    learnt (loss above 0.7 of its start) is undefined (NaN): what never moves stays unbalanced too.
    """
    values = run.curve("noise_imbalance")[1]
    if run.diverged or not values.size or not has_learnt(run):
        return NAN
    return float(values.min())


@claim(
    statement=(
        "Gradient descent keeps the Noether charge ‖U‖² − ‖W‖² of its initialisation to 10 %."
    ),
    band=(-INF, 0.1),
    method="relative change of ‖U‖² − ‖W‖² from the first to the last step",
    reads=["norm_squared"],
    cases=["gd", "gd_small_*", "gd_mild_*", "gd_phi_*"],
)
def gd_charge_conserved(run: Run) -> float:
    """|C − C₀|/|C₀| at the last step; inf for a diverged run.

    Gradient flow conserves it exactly; steps of size η change it by η²∇LᵀQ∇L each, which adds up to
    a relative order η while the loss comes down. A tenth bounds that at the learning rates used. A
    run whose loss has not come down is undefined (NaN): what never moves conserves everything.
    """
    if run.diverged:
        return INF
    if not has_learnt(run, share=1.0):
        return NAN
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
    method="R² of a least-squares line of log |C − C*| on the step, from 0.8 to 0.1 of its start",
    reads=["norm_squared"],
    cases=["sgd_small_*"],
)
def exponential_approach(run: Run) -> float:
    """R² of a line through the logarithm of the charge's distance from its end.

    Over the window a straight decline and one as 1/t both give R² = 0.94, so 0.98 tells an
    exponential from either. A charge that keeps over 0.9 of its start (gradient descent's) is an
    outright failure (−inf), one that is on its way but not there is undefined (NaN).
    """
    if run.diverged:
        return -INF
    steps, share = charge_decay(run)
    if share.size and share[-1] > 0.9:
        return -INF
    window = decay_window(steps, share, UPPER, LOWER)
    return NAN if window is None else goodness_of_line(*window)
