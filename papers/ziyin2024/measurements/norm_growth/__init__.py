"""Expected growth of the norm of scale-invariant networks.

Source: ziyin2024, section 5.4: with θ·∇ℓ = 0 for every sample, E[Δ‖θ‖²] = η²(Tr Σ/S + ‖∇L‖²).
"""

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import noether_step

from .._population import factors, held_out, sampled_noise_trace


class NormGrowth(Measurement):
    """The expected increment of ‖θ‖² in the run's next step.

    Tr Σ and ∇L come from all samples of finite data and else from held-out samples.
    """

    def __init__(self, samples: int):
        self.samples = samples

    def measure(self, snapshot: Snapshot) -> Values:
        """It at one state."""
        factors(snapshot)
        problem, batch = snapshot.problem, snapshot.problem.training["batch"]
        whole = problem.samples is not None
        if whole:
            samples = snapshot.inputs, snapshot.targets
        else:
            samples = held_out(snapshot, "norm_growth", self.samples)
        signs = dict.fromkeys(snapshot.parameters, 1.0)
        noise = sampled_noise_trace(snapshot, signs, *samples, whole=whole)
        rate = float(problem.learning_rate(snapshot.step))  # one for all runs
        if batch is None:
            predicted = rate**2 * noise.gradient
        else:
            drawn_out = problem.training["sampling"] == "epochs"
            size = problem.samples if drawn_out else None
            predicted = noether_step(noise, rate, batch, dataset_size=size)
        return {"norm_increment_predicted": float(predicted)}


def build(options: Options) -> NormGrowth:
    """The measurement of `{every, samples}`."""
    return NormGrowth(options["samples"])
