"""The eigenvalues below the top one, and the surrogate (Li et al., sections 2 and 4)."""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.edge import SHARPNESS
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Failed, Undefined

ALLOWED = 3
LEAST_STATES = 5


@claim(
    statement="At most three Gauss-Newton eigenvalues ever exceed 2/η: the fourth never does.",
    band=(-INF, 1.0),
    origin="chosen: the paper's figures show one to three",
    method="largest fourth eigenvalue of the run over 2/η (a lower-numbered one is an upper bound)",
    reads=["gauss_newton_sharpness"],
)
def few_unstable_eigenvalues(run: Run) -> float:
    """Largest value over the run of the fourth eigenvalue over 2/η.

    Where fewer than four eigenvalues were measured, the last of them bounds the fourth from above:
    it will do if it stays below 2/η, else the run is undefined.
    """
    index = min(max(run.indices(SHARPNESS), default=0), ALLOWED)
    largest = _largest(run, index)
    if index < ALLOWED and largest > 1:
        return Undefined("fewer than four eigenvalues were measured")
    return largest


@claim(
    statement=(
        "One direction alone is unstable, as the analysis of section 4 takes it: the second "
        "Gauss-Newton eigenvalue never exceeds 2/η."
    ),
    band=(-INF, 1.0),
    origin="stated: section 4 follows the dynamics along the top eigenvector alone",
    method="largest second eigenvalue of the run over 2/η",
    reads=["gauss_newton_sharpness"],
)
def one_unstable_eigenvalue(run: Run) -> float:
    """Largest value over the run of the second eigenvalue over 2/η."""
    if max(run.indices(SHARPNESS), default=0) < 1:
        return Undefined("one eigenvalue was measured")
    return _largest(run, 1)


def _largest(run: Run, index: int) -> float:
    """Largest value of an eigenvalue over the threshold."""
    _, ratios = run.relative(SHARPNESS, index)
    return float(ratios.max()) if ratios.size else Undefined("no eigenvalue was measured")


@claim(
    statement=(
        "The Gauss-Newton surrogate stands for the sharpness: it is within a factor 1.25 of the "
        "Hessian's top eigenvalue at 95 % of the measured states."
    ),
    band=(-INF, 1.25),
    origin="chosen: the published curves of the two are hard to tell apart",
    method="95th percentile of max(Λ/λ, λ/Λ) over the measured states",
    reads=["gauss_newton_sharpness", "hessian_sharpness"],
)
def surrogate_factor(run: Run) -> float:
    """95th percentile of the factor between Λ and the Hessian's λ_max.

    Both are taken at the same states, so any stride will do. A Hessian eigenvalue that is not
    positive is an outright failure. Undefined for fewer than five states.
    """
    _, surrogate, hessian = run.together(SHARPNESS, "hessian_sharpness")
    if surrogate.size < LEAST_STATES:
        return Undefined(f"both were measured at fewer than {LEAST_STATES} states")
    if np.any(hessian <= 0) or np.any(surrogate <= 0):
        return Failed("an eigenvalue is not positive")
    ratio = np.abs(np.log(surrogate / hessian))
    return float(np.exp(np.percentile(ratio, 95)))
