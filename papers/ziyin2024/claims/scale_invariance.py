"""Norms of scale-invariant losses (Ziyin et al., section 5.2, figures 1, 5 and 7)."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING, in_tail, last, total_norm
from sharpflow.results.rates import accumulated
from sharpflow.results.runs import Run
from sharpflow.statistics.intervals import slope
from sharpflow.statistics.verdicts import Undefined

LEAST_ENTRIES = 5


@claim(
    statement=(
        "SGD on a scale-invariant loss spirals outwards as the noise predicts: its radius at the "
        "end is within 1 ± 0.05 of the prediction."
    ),
    band=(0.95, 1.05),
    origin="derived: the prediction leaves out the descent to the minimum, 1 to 3 % of the radius",
    method="‖θ‖ over (r₀⁴ + 2η²Tr[Σ₁]t/S)^¼ at the last step",
    reads=["norm_squared", "predicted_radius"],
    estimand="mean",
    support=(0.0, INF),
    cases=["sgd"],
)
def spiral_radius(run: Run) -> float:
    """‖θ‖ at the last step over the predicted radius, with Tr[Σ₁] at the minimum."""
    return math.sqrt(last(run, "norm_squared")) / last(run, "predicted_radius")


@claim(
    statement=(
        "‖θ‖² of scale-invariant nets hardly grows under gradient descent: by at most 10 % in all."
    ),
    band=(-INF, 1.1),
    origin="derived: finite steps add η²‖∇L‖² while the loss falls, a few per cent; SGD adds more",
    method="‖θ‖² at the last step over ‖θ‖² at the first",
    reads=["norm_squared"],
    cases=["net_*_gd", "gd"],
)
def gd_norm_still(run: Run) -> float:
    """‖θ‖² at the end over ‖θ‖² at the start.

    Gradient flow conserves it. Growth is the test: that the norm never shrinks is an identity,
    θ·∇ℓ = 0.
    """
    _, norm = total_norm(run)
    return float(norm[-1] / norm[0]) if norm.size else MISSING


@claim(
    statement=(
        "Under SGD ‖θ‖⁴ of scale-invariant nets grows in proportion to time: the slope of "
        "log(‖θ‖⁴ − ‖θ₀‖⁴) on log t is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="derived: Σ ∝ 1/‖θ‖² gives ‖θ‖⁴ = ‖θ₀‖⁴ + ct at a constant loss; the next power is 2",
    method="least-squares slope of log(‖θ‖⁴ − ‖θ₀‖⁴) on log step over the last decade of the run",
    reads=["norm_squared"],
    estimand="mean",
    cases=["net_*_sgd"],
    revised="0.45 to 0.55 before, of the slope of log ‖θ‖²",
)
def norm_growth_exponent(run: Run) -> float:
    """Slope of log(‖θ‖⁴ − ‖θ₀‖⁴) on log step over the last decade of steps.

    A loss that is still falling lowers it. Undefined for fewer than
    five entries, or a norm that has not grown.
    """
    steps, norm = total_norm(run)
    late = steps >= max(steps[-1] / 10, 1) if steps.size else steps.astype(bool)
    grown = norm[late] ** 2 - norm[:1] ** 2
    if late.sum() < LEAST_ENTRIES or np.any(grown <= 0):
        return Undefined("its norm has not grown, or has too few records")
    return slope(np.log(steps[late]), np.log(grown))


@claim(
    statement=(
        "Under weight decay γ the norm of a scale-invariant net settles where noise and decay "
        "balance, ‖θ‖⁴ = η Tr Σ₁/(2Sγ), with Σ₁ of runs without decay: measured over predicted is "
        "1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="chosen: Tr Σ₁ = ‖θ‖² Tr Σ of other runs, from a few hundred held-out samples a state",
    method="mean of ‖θ‖⁴ over the last fifth, over that of ‖θ‖² η² Tr Σ/S without decay over 2ηγ",
    reads=["norm_squared", "norm_increment_predicted"],
    estimand="mean",
    cases=["net_a_sgd", "net_a_decay"],
    scope="experiment",
    support=(0.0, INF),
)
def decay_norm(runs: Sequence[Run]) -> float:
    """‖θ‖⁴ under weight decay over the balance of noise and decay, paired by seed.

    A step multiplies ‖θ‖² by (1 − ηγ)² and adds η²(Tr Σ/S + ‖∇L‖²), with Σ = Σ₁/‖θ‖².
    Undefined without one of the two cases.
    """
    free, held = (
        [run for run in runs if bool(run.setting("training.weight_decay")) is decays]
        for decays in (False, True)
    )
    if len(free) != 1 or len(held) != 1:
        return Undefined("it needs a run with decay and one without")
    times, norm = total_norm(held[0])
    return float((norm[in_tail(times)] ** 2).mean() / decayed_level(free[0], held[0]))


def growth_over(run: Run, predicted: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Growth of ‖θ‖² from the second measured state to the last, over a prediction of it.

    Args:
        run: one that measured its norm's expected increment.
        predicted: from the steps, and ‖θ‖² (row 0) and its increment a step (row 1) at them.
    """
    layers = (("norm_squared", 0), ("norm_squared", 1))
    steps, inner, outer, added = run.together(*layers, "norm_increment_predicted")
    if len(steps) < LEAST_ENTRIES:
        return Undefined("it has too few records")
    norm = inner + outer
    return float((norm[-1] - norm[1]) / predicted(steps[1:], np.stack([norm, added])[:, 1:]))


def undivided(steps: np.ndarray, known: np.ndarray) -> float:
    """The growth if norms did not divide the noise: η² (Tr Σ₀/S + ‖∇L₀‖²) t."""
    return float(known[1, 0] * (steps[-1] - steps[0]))


@claim(
    statement=(
        "Under SGD ‖θ‖² of scale-invariant nets grows by what the gradient noise of the states on "
        "its way adds up to: the ratio is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="chosen: what the rule between measured states leaves of a law that holds exactly",
    method=(
        "growth of ‖θ‖² from the second measured state on, over the sum of η²(Tr Σ/S + ‖∇L‖²) by "
        "the trapezoidal rule"
    ),
    reads=["norm_squared", "norm_increment_predicted"],
    estimand="mean",
    support=(0.0, INF),
    cases=["net_*_sgd"],
    foils={"the noise of its start, at any norm": lambda run: growth_over(run, undivided)},
)
def norm_growth_predicted(run: Run) -> float:
    """Growth of ‖θ‖² over the accumulated increments that were predicted.

    The foil keeps Σ at its start, as if it did not fall with the norm, which scale invariance is.
    """
    return growth_over(run, lambda steps, known: accumulated(steps, known[1]).sum())


def decayed_level(free: Run, held: Run) -> float:
    """‖θ‖⁴ at which the noise of a run without decay balances the decay of another."""
    layers = (("norm_squared", 0), ("norm_squared", 1))
    steps, inner, outer, added = free.together(*layers, "norm_increment_predicted")
    shrink = 1 - (1 - held.learning_rate * held.setting("training.weight_decay")) ** 2
    return float(((inner + outer) * added)[in_tail(steps)].mean() / shrink)
