"""A warm-up leads to flat minima that a constant rate cannot reach (Ziyin et al., figure 4)."""

from collections.abc import Sequence

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import NAN, end_over_start, tail_mean
from sharpflow.results.runs import Run

CONSTANT, WARMUP, XAVIER = "sgd_kaiming_constant", "sgd_kaiming_warmup", "sgd_xavier"


@claim(
    statement=(
        "From Kaiming's initialisation SGD diverges at the constant learning rate and stays stable "
        "with warm-up, for every seed."
    ),
    band=(1.0, INF),
    method="share of seeds of which the constant rate diverged and the warmed-up one did not",
    reads=["diverged_step"],
    cases=[CONSTANT, WARMUP],
    scope="experiment",
)
def warmup_divergence(runs: Sequence[Run]) -> float:
    """1 if the constant rate diverged and the warmed-up one did not, else 0.

    About every seed, so the statistic is an indicator and one seed that behaves otherwise is enough
    to make the claim inconclusive. Equal indicators have an interval of no width: it says that all
    seeds agreed, not that no further seed could differ. Undefined (NaN) if a seed lacks one of the
    two cases.
    """
    diverged = {run.case: run.diverged for run in runs}
    if not {CONSTANT, WARMUP} <= set(diverged):
        return NAN
    return float(diverged[CONSTANT] and not diverged[WARMUP])


@claim(
    statement=(
        "SGD with warm-up from Kaiming's initialisation and SGD from Xavier's end at the same "
        "Tr H, within a factor 1.25."
    ),
    band=(0.8, 1.25),
    method="ratio of the means of Tr H over the last fifth, paired by seed",
    reads=["hessian_trace"],
    cases=[WARMUP, XAVIER],
    scope="experiment",
)
def warmup_same_end(runs: Sequence[Run]) -> float:
    """Tail average of Tr H with warm-up over that from Xavier's initialisation.

    The two runs of a seed share their samples. Kaiming's Tr H starts at some 20 times the value
    that both end at, so a factor of 1.25 either way is near. A diverged run is an outright failure
    (inf).
    """
    named = {run.case: run for run in runs}
    if any(run.diverged for run in runs):
        return INF
    if not {WARMUP, XAVIER} <= set(named):
        return NAN
    return tail_mean(named[WARMUP], "hessian_trace") / tail_mean(named[XAVIER], "hessian_trace")


@claim(
    statement=(
        "From Kaiming's initialisation gradient descent leaves Tr H within 15 % of where it was."
    ),
    band=(0.85, 1.15),
    method="Tr H, mean of the last fifth over its start",
    reads=["hessian_trace"],
    cases=["gd_kaiming"],
)
def warmup_gd_unchanged(run: Run) -> float:
    """Tr H, mean of the last fifth over its start; inf for a diverged run.

    Fitting takes away the smaller factor, 2‖W‖² of ‖U‖² + ‖W‖² or 6 % of Tr H for these shapes, and
    steps with ηλ near 1 may add as much again, so that the band is 15 %. SGD takes Tr H down by a
    factor of 20.
    """
    return end_over_start(run, "hessian_trace")
