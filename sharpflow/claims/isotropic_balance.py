"""On isotropic data with isotropic noise the norms of the layers balance (Ziyin et al., figure 3).

The converse, that they balance only there, is `anisotropic_imbalance`; its nearest case is
predicted at 0.968 (φ = 0.75), so 3 % is the widest band that keeps the two apart.
"""

from sharpflow.claims._noise import INF, U, W, tail_mean
from sharpflow.claims.base import Claim, Run


def statistic(run: Run) -> float:
    """Final ‖U‖²/‖W‖²; inf for a diverged run."""
    if run.diverged:
        return INF
    return tail_mean(run, "norm_squared", U) / tail_mean(run, "norm_squared", W)


CLAIM = Claim(
    paper="ziyin2024",
    figure="data_covariance",
    statement="On isotropic data SGD balances the layers: ‖U‖²/‖W‖² ends within 1 ± 0.03.",
    statistic=statistic,
    band_low=0.97,
    band_high=1.03,
    method="ratio of the means of ‖U‖² and ‖W‖² over the last fifth",
    cases=("sgd_phi_1",),
)
