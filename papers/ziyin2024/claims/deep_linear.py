"""The noise equilibrium of deep linear nets (derived after Ziyin et al., section 5.1)."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING, first, last, small_step_limit, tail_mean
from sharpflow.results.runs import Run


def norm_deviation(run: Run, prediction: str = "closed_norm_squared") -> float:
    """Largest relative deviation of a layer's mean ‖W_i‖² over the last fifth from a prediction."""
    deviations = [
        tail_mean(run, "norm_squared", layer) / first(run, prediction, layer) - 1
        for layer in run.indices(prediction)
    ]
    return float(np.abs(deviations).max()) if deviations else MISSING


def from_plain_norms(run: Run) -> float:
    """The same, from the plain balance."""
    return norm_deviation(run, "plain_norm_squared")


def end_error(run: Run, quantity: str = "equilibrium_error") -> float:
    """Larger relative Frobenius error of the averages of W₁ᵀW₁ and W_L W_Lᵀ."""
    errors = [last(run, quantity, index) for index in (0, 1)]
    return max(errors, key=lambda error: (np.isnan(error), error))


def from_plain_ends(run: Run) -> float:
    """The same, from the plain balance."""
    return end_error(run, "plain_balance_error")


@claim(
    statement=(
        "In deep linear nets SGD settles at the closed form of the noise equilibrium: the squared "
        "norms of all layers are within 6 % of it."
    ),
    band=(-INF, 0.06),
    origin=(
        "chosen: with runs at this η known, where terms of order η make 4 to 5 % (deep_limit); the "
        "plain balance is 15 to 18 % away"
    ),
    method="largest |‖W_i‖²/closed form − 1| of a layer, means over the last fifth",
    reads=["norm_squared", "closed_norm_squared", "plain_norm_squared"],
    cases=["sgd_*"],
    controls=["gd_*"],
    foils={"from the plain balance": from_plain_norms},
)
def deep_norms(run: Run) -> float:
    """Largest relative deviation of a layer's squared norm from the closed form."""
    return norm_deviation(run)


@claim(
    statement=(
        "So do its first and last layers as matrices: the averages of W₁ᵀW₁ and W_L W_Lᵀ over the "
        "end of training are within 10 % of the closed form."
    ),
    band=(-INF, 0.1),
    origin="chosen: with runs at this η known, which end at 7 to 9 %; plain balance is 54 % away",
    method="larger relative Frobenius error of the averages of W₁ᵀW₁ and W_L W_Lᵀ",
    reads=["equilibrium_error", "plain_balance_error"],
    cases=["sgd_*"],
    controls=["gd_*"],
    foils={"from the plain balance": from_plain_ends},
)
def deep_end_layers(run: Run) -> float:
    """The larger relative Frobenius error of the two averages."""
    return end_error(run)


@claim(
    statement=(
        "Every layer between the first and the last becomes a multiple of a rotation: its singular "
        "values differ by at most 10 % of their mean."
    ),
    band=(-INF, 0.1),
    origin="chosen: twice what is left at this η, 4 to 5 %; gradient descent ends at 35 %",
    method="standard deviation of its singular values over their mean, mean over the last fifth",
    reads=["singular_value_spread"],
    cases=["sgd_*"],
    controls=["gd_*"],
)
def deep_middle_even(run: Run) -> float:
    """Largest spread of the singular values of a middle layer, over the last fifth."""
    layers = run.indices("singular_value_spread")[1:-1]
    return max(tail_mean(run, "singular_value_spread", layer) for layer in layers)


@claim(
    statement=(
        "The closed form is the limit of small η: the largest deviation of a layer's squared norm "
        "falls along a line in η to 2.5 % or less."
    ),
    band=(-INF, 0.025),
    origin="chosen: with runs known, whose intercepts are 1 to 2 %; plain balance stays at 15 %",
    method="intercept at η = 0 of a line through deep_norms' deviation, one a seed",
    reads=["norm_squared", "closed_norm_squared"],
    cases=["eta"],
    scope="case",
    foils={
        "from the plain balance": lambda runs: small_step_limit(
            runs, [from_plain_norms(run) for run in runs]
        )
    },
)
def deep_limit(runs: Sequence[Run]) -> float:
    """Deviation from the closed form, extrapolated to η = 0 over the learning rates of a seed."""
    return small_step_limit(runs, [norm_deviation(run) for run in runs])
