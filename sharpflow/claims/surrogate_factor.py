"""Claim 11: the Gauss-Newton Λ stands for the Hessian's top eigenvalue (Li et al., section 2).

Both are taken at the same states, so any stride will do. A Hessian eigenvalue that is not positive
is an outright failure (inf). Eigenvalues that did not converge are left out; undefined (NaN) if
they are over a tenth, if fewer than five states are left, if the loss never halves, or if the run
diverged.
"""

import numpy as np

from sharpflow.claims._edge import INF, NAN, SHARPNESS
from sharpflow.claims.base import Claim, Run

LEAST = 5


def statistic(run: Run) -> float:
    """95th percentile of the factor between Λ and the Hessian's λ_max, once the loss has halved."""
    times, loss = run.curve("loss")
    halved = times[loss <= loss[0] / 2] if loss.size else times
    if run.diverged or not halved.size:
        return NAN
    steps, surrogate, hessian, first, second = run.together(
        SHARPNESS, "hessian_sharpness", "gauss_newton_converged", "hessian_converged"
    )
    late = steps >= halved[0]
    usable = late & (first > 0) & (second > 0)
    if usable.sum() < max(LEAST, 0.9 * late.sum()):
        return NAN
    if np.any(hessian[usable] <= 0) or np.any(surrogate[usable] <= 0):
        return INF
    ratio = np.abs(np.log(surrogate[usable] / hessian[usable]))
    return float(np.exp(np.percentile(ratio, 95)))


CLAIM = Claim(
    paper="li2022",
    figure="surrogate",
    statement=(
        "The Gauss-Newton surrogate stands for the sharpness: once the loss has halved it is "
        "within a factor 1.25 of the Hessian's top eigenvalue at 95 % of the measured states."
    ),
    statistic=statistic,
    band_low=-INF,
    band_high=1.25,
    method="95th percentile of max(Λ/λ, λ/Λ) at states after the loss first halved",
)
