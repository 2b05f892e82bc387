"""The four phases of a sharpness curve, and whether they follow one another in order.

Phases of Li et al. (NeurIPS 2022), section 3 and figure 1, for sharpness Λ and threshold 2/η:
I Λ < 2/η and rising; II Λ ≥ 2/η and rising; III Λ ≥ 2/η and falling; IV Λ < 2/η and falling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpflow.results.crossings import HYSTERESIS, levels
from sharpflow.results.curves import Curve, as_curve, finite_prefix, running_mean

WINDOW = 20
"""Entries over which a curve is smoothed before it is divided into phases."""


def phases(
    values: ArrayLike, threshold: float, window: int = WINDOW, hysteresis: float = HYSTERESIS
) -> np.ndarray:
    """Phase, 1 to 4, of every full window of a curve.

    The curve is smoothed by a running mean over `window` entries, even (or 1, for none) so that a
    period-two alternation cancels. The level changes where the curve passes the threshold, if it
    then leaves the band threshold·(1 ± hysteresis) on the other side; the direction changes at an
    extremum, if the curve then moves away from it by more than hysteresis·threshold. Both are dated
    to the passage and the extremum, not to their confirmation. An extremum still belongs to the
    movement that led to it, so I never becomes III nor III I; a curve that turns and jumps past the
    threshold in one entry goes from II to IV or from IV to II. Scaling curve and threshold together
    changes nothing.

    Args:
        values: shape (n,); cut before the first non-finite entry, at m ≤ n entries.
        threshold: 2/η, in the units of the curve.
        window: of the running mean, in entries.
        hysteresis: half-width of the dead band, as a share of the threshold.

    Returns:
        Integers of shape (max(m − window + 1, 0),); label i describes entries i to i + window − 1.

    Raises:
        ValueError: an odd window above 1, a hysteresis outside [0, 1), a threshold ≤ 0.
    """
    if window > 1 and window % 2:
        raise ValueError(f"window is {window}; it must be even (or 1) to cancel period two.")
    (curve,) = finite_prefix(values)
    smooth = running_mean(curve, window)
    above = levels(smooth, threshold, hysteresis)
    rising = _directions(smooth, hysteresis * threshold)
    return np.where(above, np.where(rising, 2, 3), np.where(rising, 1, 4))


def _directions(curve: Curve, least: float) -> np.ndarray:
    """Whether each entry belongs to a rise; movements of at most `least` do not count."""
    rising = np.full(curve.size, bool(curve.size and curve[-1] >= curve[0]))
    direction = 0
    high = low = 0
    points = curve.tolist()
    for i, value in enumerate(points):
        if value > points[high]:
            high = i
        if value < points[low]:
            low = i
        if direction >= 0 and points[high] - value > least:
            rising[0 if direction == 0 else high + 1 :] = False
            direction, low = -1, i
        elif direction <= 0 and value - points[low] > least:
            rising[0 if direction == 0 else low + 1 :] = True
            direction, high = 1, i
    return rising


def phase_exits(labels: ArrayLike) -> np.ndarray:
    """Counts of transitions between phases, shape (4, 4): [i − 1, j − 1] from phase i to phase j.

    The diagonal is zero.

    Raises:
        ValueError: a label is not 1, 2, 3 or 4.
    """
    array = np.asarray(labels, dtype=np.int64)
    if array.size and not (array.min() >= 1 and array.max() <= 4):
        raise ValueError(f"labels range over {array.min()}..{array.max()}; phases are 1 to 4.")
    counts = np.zeros((4, 4), dtype=np.int64)
    before, after = array[:-1], array[1:]
    moved = before != after
    np.add.at(counts, (before[moved] - 1, after[moved] - 1), 1)
    return counts


def swings(curve: ArrayLike, threshold: float, hysteresis: float = HYSTERESIS) -> slice:
    """The entries over which a smooth curve swings about the threshold, beyond the dead band.

    From the first entry to the last at which its level changes (see `results.crossings.levels`): a
    curve that has come to rest at the threshold has no cycles any more.

    Args:
        curve: shape (n,), from the first crossing on.
        threshold: in the units of the curve.
        hysteresis: half-width of the dead band, as a share of the threshold.

    Returns:
        An empty slice where the level never changes.
    """
    level = levels(as_curve(curve), threshold, hysteresis)
    changes = np.flatnonzero(level[1:] != level[:-1])
    return slice(0, int(changes[-1]) + 2 if changes.size else 0)


def block_shuffled(values: ArrayLike, block: int, generator: np.random.Generator) -> Curve:
    """The curve cut into blocks of equal length, in random order.

    Keeps every value, and the autocorrelation within a block, and breaks the order of what lies
    further apart.

    Args:
        values: shape (n,).
        block: entries of a block; the first one may be shorter.
        generator: of the cut's place and the order.

    Returns:
        Shape (n,).
    """
    curve = as_curve(values)
    cuts = np.arange(int(generator.integers(block)), curve.size, block)
    parts = np.split(curve, cuts)
    return np.concatenate([parts[i] for i in generator.permutation(len(parts))])


@dataclass(frozen=True)
class Cycles:
    """How often the free exits of the phases are in order, against shuffles of the same curve.

    Attributes:
        in_order: share of the exits from I that go to II and from III that go to IV; NaN if none.
        null: the same share, pooled over all shuffles; NaN if they have no such exit.
        free_exits: number of exits from I and III of the curve.
        turns: how often the curve comes up to the threshold, the first crossing included.
    """

    in_order: float
    null: float
    free_exits: int
    turns: int

    @property
    def excess(self) -> float:
        """in_order − null, in [−1, 1]."""
        return self.in_order - self.null


def cycles(
    values: ArrayLike,
    threshold: float,
    generator: np.random.Generator,
    window: int = WINDOW,
    hysteresis: float = HYSTERESIS,
    shuffles: int = 200,
) -> Cycles:
    """Order of the phases of a curve while it swings, beside block shuffles of it.

    Only the exits from I (to II, or back to IV without reaching the threshold) and from III (to IV,
    or back to II) are free: a rise that ends above the threshold can only become a fall, so II goes
    to III, and IV to I, whatever the curve. Blocks are a quarter of the mean cycle long, a phase of
    a sine: the shuffles keep the curve's values and its smoothness within a phase, and break the
    order of the phases. Relaxation cycles and sines show an excess of 0.27 to 0.33, damped sines
    the same while they swing, random walks and first-order autoregressions none on average.

    Args:
        values: from the first crossing on, shape (n,); before it there is a trend.
        threshold: in the units of the curve.
        generator: of the shuffles.
        window: of the running mean, in entries.
        hysteresis: half-width of the dead band, as a share of the threshold.
        shuffles: their number.

    Returns:
        Shares of NaN where the curve does not swing.

    Raises:
        ValueError: `shuffles` is below 1; and as for `phases`.
    """
    if shuffles < 1:
        raise ValueError(f"shuffles is {shuffles}; it must be at least 1.")
    (curve,) = finite_prefix(values)
    smooth = running_mean(curve, window)
    swinging = smooth[swings(smooth, threshold, hysteresis)]
    level = levels(swinging, threshold, hysteresis)
    turns = int(np.sum(level[1:] & ~level[:-1])) + int(level.size > 0 and level[0])
    ordered, free = _free_exits(phases(swinging, threshold, 1, hysteresis))
    null, block = np.zeros(2, dtype=np.int64), max(2, swinging.size // (4 * max(turns, 1)))
    for _ in range(shuffles if free else 0):
        drawn = block_shuffled(swinging, block, generator)
        null += _free_exits(phases(drawn, threshold, 1, hysteresis))
    nan = float("nan")
    return Cycles(
        in_order=ordered / free if free else nan,
        null=float(null[0] / null[1]) if null[1] else nan,
        free_exits=free,
        turns=turns,
    )


def _free_exits(labels: np.ndarray) -> tuple[int, int]:
    counts = phase_exits(labels)
    return int(counts[0, 1] + counts[2, 3]), int(counts[0].sum() + counts[2].sum())
