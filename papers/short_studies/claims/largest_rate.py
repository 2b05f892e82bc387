"""The largest learning rate that training stands (Kalra and Barkeshli 2024)."""

from collections.abc import Iterable, Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined

LEARNT = 0.5
"""A run that trains ends below this share of its first loss."""


@claim(
    statement="With a warm-up the largest learning rate that trains is at least twice as large.",
    band=(2.0, INF),
    origin="chosen: the spacing of the learning rates, so that one of them must be won",
    method=(
        "largest learning rate that ends below half of the first loss, with warm-up over without"
    ),
    reads=["loss"],
    controls=["short_*"],
    scope="experiment",
    diverged="topic",
)
def warmup_gain(runs: Sequence[Run]) -> float:
    """Largest learning rate that trains with the warm-up over that without, of one seed."""
    kinds = {kind: [r for r in runs if r.setting("schedule.kind") == kind] for kind in KINDS}
    if not all(kinds.values()):
        return Undefined("it needs runs with a warm-up and with a constant learning rate")
    with_it, without = (largest_that_trains(kinds[kind]) for kind in KINDS)
    if without is None or with_it is None:
        return Undefined("no learning rate of the sweep trains")
    return with_it / without


KINDS = ("warmup", "constant")


def largest_that_trains(runs: Iterable[Run]) -> float | None:
    """The largest of the learning rates up to which all train; None if the least does not."""
    largest = None
    for run in sorted(runs, key=lambda run: run.learning_rate):
        loss = run.curve("loss")[1]
        if run.diverged or not np.isfinite(loss).all() or loss[-1] > LEARNT * loss[0]:
            break
        largest = run.learning_rate
    return largest
