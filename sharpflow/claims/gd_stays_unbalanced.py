"""GD does not approach the noise equilibrium (Ziyin et al., figure 2).

The lowest value of the run is taken, so that a pass through balance would count against it. Five
times the bound of `equilibrium_reached` leaves no imbalance that both could accept. A run that has
not learnt (loss above 0.7 of its start) is undefined (NaN): what never moves stays unbalanced too.
"""

from sharpflow.claims._noise import INF, NAN, has_learnt
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Lowest relative imbalance of the run."""
    values = run.curve("noise_imbalance")[1]
    if run.diverged or not values.size or not has_learnt(run):
        return NAN
    return float(values.min())


CLAIM = Claim(
    paper="ziyin2024",
    figure="matrix_factorisation",
    statement=(
        "Gradient descent does not reach the noise equilibrium: from unbalanced initialisations "
        "the relative imbalance stays at 0.5 or above."
    ),
    statistic=statistic,
    band_low=0.5,
    band_high=INF,
    method="lowest relative imbalance over the run",
    cases=("gd_small_*",),
)
