"""The data's covariance sets the norms' ratio, and sharpens or flattens (Ziyin et al., fig. 3)."""

import math

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import NAN, U, W, end_over_start, first, last, norm_ratio
from sharpflow.results.runs import Run

LEAST = 0.02
"""Smallest predicted |log ratio| that has a direction."""


@claim(
    statement=(
        "With isotropic label noise the covariance of the data sets the ratio ‖U‖²/‖W‖² at which "
        "SGD settles: measured over predicted is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth, over the closed form",
    reads=["norm_squared", "norm_ratio_predicted"],
    cases=["sgd_phi_*", "sgd_decay_phi_*"],
)
def data_norm_ratio(run: Run) -> float:
    """Final ‖U‖²/‖W‖² over the prediction; inf for a diverged run.

    The closed form is first order in η, and at the ends of the sweep the quiet directions (a tenth
    of the mean variance) are the slowest; 5 % covers both. The plain balance (ratio 1) is 3 to
    130 % off over the sweep.
    """
    return INF if run.diverged else norm_ratio(run) / first(run, "norm_ratio_predicted")


@claim(
    statement="On isotropic data SGD balances the layers: ‖U‖²/‖W‖² ends within 1 ± 0.03.",
    band=(0.97, 1.03),
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth",
    reads=["norm_squared"],
    cases=["sgd_phi_1"],
)
def isotropic_balance(run: Run) -> float:
    """Final ‖U‖²/‖W‖²; inf for a diverged run.

    The converse, that they balance only there, is `anisotropic_imbalance`; its nearest case is
    predicted at 0.968 (φ = 0.75), so 3 % is the widest band that keeps the two apart.
    """
    return INF if run.diverged else norm_ratio(run)


@claim(
    statement=(
        "On anisotropic data with isotropic label noise SGD does not balance the layers: "
        "‖U‖²/‖W‖² ends below 0.99."
    ),
    band=(-INF, 0.99),
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth",
    reads=["norm_squared"],
    cases=["sgd_phi_0_*", "sgd_phi_1_*"],
)
def anisotropic_imbalance(run: Run) -> float:
    """Final ‖U‖²/‖W‖²; undefined (NaN) for a diverged run.

    The prediction is below 1 for every unequal split of the variance, and 0.968 at φ = 0.75, the
    mildest one of figure 3; 0.99 is a third of the way from balance to it.
    """
    return norm_ratio(run)


@claim(
    statement=(
        "Gradient descent with weight decay balances the layers whatever the data: ‖U‖²/‖W‖² ends "
        "within 1 ± 0.02."
    ),
    band=(0.98, 1.02),
    method="‖U‖²/‖W‖² at the last step",
    reads=["norm_squared"],
    cases=["gd_decay_phi_*"],
)
def weight_decay_balances(run: Run) -> float:
    """‖U‖²/‖W‖² at the last step; inf for a diverged run.

    Weight decay shrinks ‖U‖² − ‖W‖² by (1 − ηγ)² a step, at every covariance of the data: 2 % is
    what an unfinished decay may leave. It is the plain balance, which SGD without decay does not go
    to.
    """
    if run.diverged:
        return INF
    return last(run, "norm_squared", U) / last(run, "norm_squared", W)


@claim(
    statement=(
        "From a balanced start SGD changes Tr H in the predicted direction, up where the noise is "
        "larger where the signal is larger and else down, by 0.5 to 1.3 of the predicted logarithm."
    ),
    band=(0.5, 1.3),
    method="log of Tr H (mean of the last fifth / start) over its closed form",
    reads=["hessian_trace", "hessian_trace_predicted"],
    cases=["sgd_k_0", "sgd_k_0_*", "sgd_k_1_*", "sgd_k_2"],
)
def sharpening_direction(run: Run) -> float:
    """Logarithm of Tr H at the end over the start, over its prediction; inf if it diverged.

    Sign and size both count: 0 is gradient descent's, a negative value the wrong direction. The
    band is wide: the quietest directions need far more steps than the rest, which leaves a quarter
    of the way to go where noise follows the signal most, and terms of order η lower Tr H by 1 to
    2 %, a quarter of the smallest change predicted. Noise in proportion to the signal (k = 1),
    where no change is predicted, is `sharpening_absent`.
    """
    if run.diverged:
        return INF
    predicted = math.log(first(run, "hessian_trace_predicted") / first(run, "hessian_trace"))
    if abs(predicted) < LEAST:
        return NAN
    return math.log(end_over_start(run, "hessian_trace")) / predicted


@claim(
    statement=(
        "From a balanced start with noise in proportion to the signal SGD leaves Tr H within 5 % "
        "of where it was."
    ),
    band=(0.95, 1.05),
    method="Tr H, mean of the last fifth over its start",
    reads=["hessian_trace"],
    cases=["sgd_k_1"],
)
def sharpening_absent(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run.

    With noise std in proportion to input std the plain balance is the noise equilibrium, and the
    closed form predicts no change. Terms of order η lower Tr H by 1 to 2 %; 5 % is half of the
    smallest deviation from 1 that the far ends of the sweep are predicted to show.
    """
    return end_over_start(run, "hessian_trace")


@claim(
    statement="From a balanced start gradient descent leaves Tr H within 2 % of where it was.",
    band=(0.98, 1.02),
    method="Tr H, mean of the last fifth over its start",
    reads=["hessian_trace"],
    cases=["gd_k_*"],
)
def gd_trace_still(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run.

    The start fits the teacher, so that the population's gradient vanishes and nothing but the noise
    of SGD could move the factors. On a finite sample GD moves them to the sample's minimum: 2 %
    allows for that.
    """
    return end_over_start(run, "hessian_trace")
