"""Claim 6: v₁ turns slowly (Li et al., section 4, an assumption of the analysis).

Over all measured steps: at a stride the turn is that of several steps, and the bound harder to
meet. Undefined (NaN): a diverged run, or fewer than 50 measured turns.
"""

import numpy as np

from sharpflow.claims._edge import NAN
from sharpflow.claims.base import Claim, Run

LEAST = 50


def statistic(run: Run) -> float:
    """95th percentile of 1 − |⟨v₁(t), v₁(t+1)⟩|."""
    _, alignment = run.curve("eigenvector_alignment")
    # The first measured state has no predecessor to align with.
    turns = 1 - np.abs(alignment[1:] if alignment.size and np.isnan(alignment[0]) else alignment)
    if run.diverged or turns.size < LEAST or not np.all(np.isfinite(turns)):
        return NAN
    return float(np.percentile(turns, 95))


CLAIM = Claim(
    paper="li2022",
    figure="alignment",
    statement=(
        "The top eigenvector turns slowly: 1 − |⟨v₁(t), v₁(t+1)⟩| is at most 0.05 at its 95th "
        "percentile over the run."
    ),
    statistic=statistic,
    band_low=-float("inf"),
    band_high=0.05,
    method="95th percentile over measured steps of 1 − |⟨v₁(t), v₁(t+1)⟩|",
)
