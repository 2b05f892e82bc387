"""The imbalance of gradient noise between the layers of a two-layer linear network.

Source: ziyin2024, section 5.1 and figure 2: the noise equilibrium is UᵀΓ_U U = WΓ_W Wᵀ.
"""

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import gaussian_gammas, noise_imbalance, weighted_grams

from .._population import factors, population_of


class NoiseBalance(Measurement):
    """‖A − B‖/(‖A‖ + ‖B‖) and entries of A − B, with A = UᵀΓ_U U and B = WΓ_W Wᵀ.

    Γ are those of the population, in closed form.
    """

    def __init__(self, entries: int):
        self.entries = entries

    def measure(self, snapshot: Snapshot) -> Values:
        """The imbalance, and the first entries of the first row of A − B."""
        u, w = factors(snapshot)
        population = population_of(snapshot.problem)
        gammas = gaussian_gammas(
            u, w, population.teacher, population.input_covariance, population.noise_covariance
        )
        gram_u, gram_w = weighted_grams(u, w, *gammas)
        values: Values = {"noise_imbalance": float(noise_imbalance(u, w, *gammas))}
        if self.entries:
            values["imbalance_entry"] = (gram_u - gram_w)[0, : self.entries].cpu().numpy()
        return values


def build(options: Options) -> NoiseBalance:
    """The measurement of `{every, entries}`."""
    return NoiseBalance(options["entries"])
