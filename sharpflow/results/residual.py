"""The residual along the top Gauss-Newton eigenvector, and ‖A‖² beside the sharpness.

Sections 3 and 4 of Li et al. (NeurIPS 2022). D = F − Y is the residual of n samples, v₁ the top
eigenvector of the Gram matrix M, and D = (Dᵀv₁) v₁ + R.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpflow.results.curves import Curve, finite_prefix, two_step_average


def anomaly_points(output_norm_squared: ArrayLike, sharpness: ArrayLike) -> np.ndarray:
    """Steps at which Δ‖A‖² and ΔΛ have opposite signs (the paper's anomaly points), raw.

    Returns:
        Booleans of shape (m − 1,) for the m entries before divergence; entry i is the step from i
        to i + 1. A change of exactly zero has no sign and is no anomaly.
    """
    norm, curve = finite_prefix(output_norm_squared, sharpness)
    return np.sign(np.diff(norm)) * np.sign(np.diff(curve)) < 0


def sign_agreement(first: ArrayLike, second: ArrayLike, averaged: bool = False) -> float:
    """Share of steps at which two curves move in the same direction, in [0, 1].

    Steps at which either does not move are left out; NaN if no step is left. Two curves with
    unrelated changes agree half of the time, two with a common trend more often.

    Args:
        first: shape (n,); both curves are cut at the first non-finite entry of either.
        second: shape (n,).
        averaged: compare their two-step averages. At the edge of stability raw signs are those of
            the period-two alternation; averages compare entry i with entry i + 2.
    """
    a, b = finite_prefix(first, second)
    if averaged:
        a, b = two_step_average(a), two_step_average(b)
    product = np.sign(np.diff(a)) * np.sign(np.diff(b))
    moved = product[product != 0]
    return float(np.mean(moved > 0)) if moved.size else float("nan")


def agreement_excess(
    first: ArrayLike, second: ArrayLike, least_lag: int = 20, quantile: float = 0.95
) -> float:
    """`sign_agreement` of two-step averages beyond what chance gives; 0 or less if by chance.

    Less the larger of ½, which random signs give, and a quantile of the agreement over the circular
    shifts of one curve against the other, which keep the share of rises of both and the order
    within each. Steps at which either does not move are left out of each.

    Args:
        first: shape (n,); both curves are cut at the first non-finite entry of either.
        second: shape (n,).
        least_lag: entries by which a shift is no longer the same place.
        quantile: of the agreement over the shifts.

    Returns:
        In [−1, ½]; −½ where no step is left, for what stands still follows nothing; NaN for fewer
        entries than three times `least_lag`.
    """
    a, b = finite_prefix(first, second)
    left, right = (np.sign(np.diff(two_step_average(curve))) for curve in (a, b))
    if left.size < 3 * least_lag:
        return float("nan")
    alike = _at_shifts(left > 0, right > 0) + _at_shifts(left < 0, right < 0)
    moved = _at_shifts(left != 0, right != 0)
    agreed = alike / np.maximum(moved, 1)
    others = slice(least_lag, left.size - least_lag + 1)
    shifted = agreed[others][moved[others] > 0]
    by_chance = float(np.quantile(shifted, quantile)) if shifted.size else 0.5
    return float(agreed[0]) - max(0.5, by_chance)


def _at_shifts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often both of two periodic indicators hold, by the shift of the second against it."""
    product = np.conj(np.fft.rfft(first.astype(float))) * np.fft.rfft(second.astype(float))
    return np.rint(np.fft.irfft(product, first.size))


def falls_while_rises(falling: ArrayLike, rising: ArrayLike) -> tuple[float, int]:
    """Of the steps at which one curve strictly rises, the share at which another strictly falls.

    0 if the two move together, ½ if the one knows nothing of the other, 1 if the falling curve
    falls whatever the other does.

    Args:
        falling: shape (n,); both curves are cut at the first non-finite entry of either.
        rising: shape (n,).

    Returns:
        The share, NaN if there is no such step, and the number of such steps.
    """
    a, b = finite_prefix(falling, rising)
    up = np.diff(b) > 0
    share = float(np.mean(np.diff(a)[up] < 0)) if up.any() else float("nan")
    return share, int(up.sum())


def growth_steps(
    steps: ArrayLike,
    ratio: ArrayLike,
    along: ArrayLike,
    residual_norm_squared: ArrayLike,
    share: float = 0.0,
) -> tuple[Curve, Curve]:
    """Predicted and measured growth of Dᵀv₁ in the single steps past the threshold.

    On a quadratic gradient descent multiplies the part along v₁ by 1 − ηΛ.

    Args:
        steps: shape (n,), when the others were recorded.
        ratio: Λ over 2/η, shape (n,).
        along: Dᵀv₁, with a sign of v₁ that goes on from record to record.
        residual_norm_squared: ‖D‖².
        share: least part of ‖D‖² that lies along v₁ before the step.

    Returns:
        1 − ηΛ and d⁺/d of each such step, both of shape (k,).
    """
    times, curve, d, total = finite_prefix(steps, ratio, along, residual_norm_squared)
    single = (np.diff(times) == 1) & (curve[:-1] > 1) & (d[:-1] ** 2 > share * total[:-1])
    moved = single & (d[:-1] != 0) & (d[1:] != 0)
    return 1 - 2 * curve[:-1][moved], d[1:][moved] / d[:-1][moved]


def spikes(values: ArrayLike, rise: float = 0.05) -> np.ndarray:
    """Indices of the spikes of a non-negative curve: peaks that stand out by a factor 1 + rise.

    Peaks of the two-step averages s that exceed, on both sides, the lowest value between them and
    the next higher peak (or the end of the curve) by that factor: topographic prominence of log s.
    Ratios, so that a spike counts alike at any level of a decaying loss. Index i stands for the
    entries i and i + 1. Zeros count as the smallest positive number.

    Raises:
        ValueError: a negative entry, or `rise` not positive.
    """
    if not rise > 0:
        raise ValueError(f"rise is {rise}; it must be positive.")
    (curve,) = finite_prefix(values)
    if curve.size and curve.min() < 0:
        raise ValueError(f"values go down to {curve.min()}; spikes are of non-negative curves.")
    # scipy.signal takes a second to import, which every job would pay for.
    from scipy.signal import find_peaks

    averaged = np.maximum(two_step_average(curve), np.finfo(np.float64).tiny)
    return find_peaks(np.log(averaged), prominence=np.log1p(rise))[0]


@dataclass(frozen=True)
class SpikeCoincidence:
    """Coincidence in time of the spikes of two curves.

    Attributes:
        share: share of the spikes of the first with one of the second close by; NaN if none.
        null: the share expected if the second were shifted in time at random.
        spikes: number of spikes of the first.
    """

    share: float
    null: float
    spikes: int

    @property
    def excess(self) -> float:
        """Share − null, in [−1, 1]."""
        return self.share - self.null


def spike_coincidence(
    loss: ArrayLike, along: ArrayLike, rise: float = 0.05, tolerance: int = 5
) -> SpikeCoincidence:
    """Whether the spikes of the loss fall together with those of (Dᵀv₁)².

    A spike of the loss coincides if one of `along` is at most `tolerance` entries away. The null is
    the mean over all circular shifts of the second curve's spikes, in closed form the part of the
    time within `tolerance` of one of them: a curve that spikes everywhere coincides with anything,
    and its null is 1. Since L = ‖R‖²/n + (Dᵀv₁)²/n, a loss peak comes slightly before that of
    (Dᵀv₁)² while ‖R‖² falls; the tolerance allows for it.

    Args:
        loss: L, shape (n,), not negative.
        along: (Dᵀv₁)², likewise; both curves are cut at the first non-finite entry of either.
        rise: least relative height of a spike, see `spikes`.
        tolerance: in entries.

    Raises:
        ValueError: the tolerance is negative, the rise is not positive, or a curve has a negative
            entry.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; it must not be negative.")
    first, second = finite_prefix(loss, along)
    times, others = spikes(first, rise), spikes(second, rise)
    length = max(first.size - 1, 1)
    near = np.zeros(length, dtype=bool)
    for offset in range(-tolerance, tolerance + 1):
        near[(others + offset) % length] = True
    close = np.abs(times[:, None] - others[None, :]) <= tolerance
    share = float(close.any(axis=1).mean()) if times.size else float("nan")
    return SpikeCoincidence(share=share, null=float(near.mean()), spikes=int(times.size))
