"""Alignment of the two layers' representations in any two-layer network.

Source: ziyin2024, figures 6 and 9: WΓ_W Wᵀ beside UᵀΓ_U U after SGD and after GD.
"""

import torch

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import alignment, weighted_grams
from sharpflow.symmetry.two_layer import residual_gammas

from .._population import factors, representative


class Representations(Measurement):
    """Cosine of UᵀΓ_U U with WΓ_W Wᵀ, and of UᵀU with WWᵀ.

    Γ_U = E[‖x‖² r rᵀ] and Γ_W = E[‖r‖² x xᵀ] are means over held-out samples of a population, and
    else over all of the run's.
    """

    def __init__(self, samples: int, grams_of: int | None):
        self.samples = samples
        self.grams_of = grams_of

    def measure(self, snapshot: Snapshot) -> Values:
        """The cosines; at the last step of the chosen seed also both matrices, flattened."""
        u, w = factors(snapshot)
        problem = snapshot.problem
        inputs, targets = representative(snapshot, "representations", self.samples)
        with torch.no_grad():
            residuals = snapshot.network({}, inputs) - targets
        gram_u, gram_w = weighted_grams(u, w, *residual_gammas(inputs, residuals))
        values: Values = {
            "alignment": float(alignment(gram_u, gram_w)),
            "alignment_unweighted": float(alignment(u.mT @ u, w @ w.mT)),
        }
        if snapshot.last and problem.seeds[snapshot.run] == self.grams_of:
            values["gram_u"] = gram_u.flatten().cpu().numpy()
            values["gram_w"] = gram_w.flatten().cpu().numpy()
        return values


def build(options: Options) -> Representations:
    """The measurement of `{every, samples, grams_of}`."""
    return Representations(options["samples"], options["grams_of"])
