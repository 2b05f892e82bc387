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


def phase_randomised(values: ArrayLike, generator: np.random.Generator) -> Curve:
    """A surrogate of a curve: the same mean and power spectrum, Fourier phases drawn uniformly.

    The usual null of a linear stationary process (Theiler et al., Physica D 58, 1992). The Nyquist
    coefficient of an even length, where period two lives, is real and gets a random sign.
    """
    curve = as_curve(values)
    spectrum = np.fft.rfft(curve)
    turn = np.exp(2j * np.pi * generator.random(spectrum.size))
    turn[0] = 1
    if curve.size % 2 == 0:
        turn[-1] = np.sign(turn[-1].real) or 1
    return np.fft.irfft(spectrum * turn, n=curve.size) if curve.size else curve


@dataclass(frozen=True)
class Cycles:
    """How often the free exits of the phases are in order, against surrogates of the same curve.

    Attributes:
        in_order: share of the exits from I that go to II and from III that go to IV; NaN if none.
        null: the same share, pooled over all surrogates; NaN if they have no such exit.
        free_exits: number of exits from I and III of the curve.
    """

    in_order: float
    null: float
    free_exits: int

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
    surrogates: int = 200,
) -> Cycles:
    """Order of the phases of a curve, beside phase-randomised surrogates of it.

    Only the exits from I (to II, or back to IV without reaching the threshold) and from III (to IV,
    or back to II) are free: a rise that ends above the threshold can only become a fall, so II goes
    to III, and IV to I, whatever the curve. Surrogates are made of the raw curve and then
    smoothed and labelled alike. Give the part of the curve from its first crossing on: before it
    there is a trend, which no stationary null has. A sine around the threshold has itself for a
    surrogate and shows no excess; relaxation cycles (a slow climb, a spike, a fall) do. As for any
    such surrogate the curve is taken as periodic: a gap between its ends roughens the surrogates.

    Raises:
        ValueError: `surrogates` is below 1; and as for `phases`.
    """
    if surrogates < 1:
        raise ValueError(f"surrogates is {surrogates}; it must be at least 1.")
    (curve,) = finite_prefix(values)
    ordered, free = _free_exits(phases(curve, threshold, window, hysteresis))
    null = np.zeros(2, dtype=np.int64)
    for _ in range(surrogates):
        drawn = phase_randomised(curve, generator)
        null += _free_exits(phases(drawn, threshold, window, hysteresis))
    nan = float("nan")
    return Cycles(
        in_order=ordered / free if free else nan,
        null=float(null[0] / null[1]) if null[1] else nan,
        free_exits=free,
    )


def _free_exits(labels: np.ndarray) -> tuple[int, int]:
    counts = phase_exits(labels)
    return int(counts[0, 1] + counts[2, 3]), int(counts[0].sum() + counts[2].sum())
