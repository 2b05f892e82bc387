"""The top eigenvector, the eigenvalues below it, the surrogate (Li et al., sections 2 and 4)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.edge import NAN, SHARPNESS
from sharpflow.results.runs import Run

LEAST_TURNS = 50
ALLOWED = 3
LEAST_STATES, MOST_UNCONVERGED = 5, 0.1


@claim(
    statement=(
        "The top eigenvector turns slowly: 1 − |⟨v₁(t), v₁(t+1)⟩| is at most 0.05 at its 95th "
        "percentile over the run."
    ),
    band=(-INF, 0.05),
    method="95th percentile over measured steps of 1 − |⟨v₁(t), v₁(t+1)⟩|",
    reads=["eigenvector_alignment"],
)
def eigenvector_turns_slowly(run: Run) -> float:
    """95th percentile of 1 − |⟨v₁(t), v₁(t+1)⟩|.

    Over all measured steps: at a stride the turn is that of several steps, and the bound harder to
    meet. Undefined (NaN): a diverged run, or fewer than 50 measured turns.
    """
    _, alignment = run.curve("eigenvector_alignment")
    # The first measured state has no predecessor to align with.
    turns = 1 - np.abs(alignment[1:] if alignment.size and np.isnan(alignment[0]) else alignment)
    if run.diverged or turns.size < LEAST_TURNS or not np.all(np.isfinite(turns)):
        return NAN
    return float(np.percentile(turns, 95))


@claim(
    statement="At most three Gauss-Newton eigenvalues ever exceed 2/η: the fourth never does.",
    band=(-INF, 1.0),
    method="largest fourth eigenvalue of the run over 2/η (a lower-numbered one is an upper bound)",
    reads=["gauss_newton_sharpness"],
)
def few_unstable_eigenvalues(run: Run) -> float:
    """Largest value over the run of the fourth eigenvalue over 2/η.

    "At most three" is the same as "the fourth never does", and the fourth is a continuous quantity
    with an interval, which a largest count is not. Where fewer than four eigenvalues were measured,
    the last of them bounds the fourth from above: it will do if it stays below 2/η, else undefined
    (NaN). A diverged run is undefined.
    """
    index = min(max(run.indices(SHARPNESS), default=0), ALLOWED)
    _, ratios = run.relative(SHARPNESS, index)
    if run.diverged or not ratios.size or not np.all(np.isfinite(ratios)):
        return NAN
    largest = float(ratios.max())
    return NAN if index < ALLOWED and largest > 1 else largest


@claim(
    statement=(
        "The Gauss-Newton surrogate stands for the sharpness: once the loss has halved it is "
        "within a factor 1.25 of the Hessian's top eigenvalue at 95 % of the measured states."
    ),
    band=(-INF, 1.25),
    method="95th percentile of max(Λ/λ, λ/Λ) at states after the loss first halved",
    reads=["gauss_newton_sharpness", "hessian_sharpness"],
)
def surrogate_factor(run: Run) -> float:
    """95th percentile of the factor between Λ and the Hessian's λ_max, once the loss has halved.

    Both are taken at the same states, so any stride will do. A Hessian eigenvalue that is not
    positive is an outright failure (inf). Undefined (NaN) if over a tenth of either's eigenvalues
    did not converge, if fewer than five states are left, if the loss never halves, or if the run
    diverged.
    """
    failed = (run.unconverged(name) for name in (SHARPNESS, "hessian_sharpness"))
    if any(count > MOST_UNCONVERGED * whole for count, whole in failed):
        return NAN
    times, loss = run.curve("loss")
    halved = times[loss <= loss[0] / 2] if loss.size else times
    if run.diverged or not halved.size:
        return NAN
    steps, surrogate, hessian = run.together(SHARPNESS, "hessian_sharpness")
    late = steps >= halved[0]
    if late.sum() < LEAST_STATES:
        return NAN
    if np.any(hessian[late] <= 0) or np.any(surrogate[late] <= 0):
        return INF
    ratio = np.abs(np.log(surrogate[late] / hessian[late]))
    return float(np.exp(np.percentile(ratio, 95)))
