"""Growth of the norm of scale-invariant networks, step by step.

Source: ziyin2024, section 5.4: with θ·∇ℓ = 0 for every sample, E[Δ‖θ‖²] = η²(Tr Σ/S + ‖∇L‖²).
"""

from sharpflow.measurements._population import factors, held_out, sampled_noise_trace
from sharpflow.measurements.base import Options, Snapshot, Values
from sharpflow.symmetry import noether_step


class NormGrowth:
    """The increment of ‖θ‖² in the run's own next step, and its expectation.

    Tr Σ and ∇L come from all samples of finite data and else from held-out samples. With one draw
    a state the increment is noisy: sums over states and seeds are what compares. Step 0 of SGD is
    left out: the norm is smallest there, and one draw would outweigh the rest of such a sum.
    """

    def __init__(self, samples: int):
        self.samples = samples

    def restart(self) -> None:
        """Nothing is kept between steps."""

    def measure(self, snapshot: Snapshot) -> Values:
        """Both at one state."""
        factors(snapshot)
        problem, batch = snapshot.problem, snapshot.problem.training["batch"]
        if batch is not None and snapshot.step == 0:
            return {}
        if problem.samples is None:
            samples = held_out(snapshot, "norm_growth", self.samples)
        else:
            samples = snapshot.inputs, snapshot.targets
        noise = sampled_noise_trace(snapshot, dict.fromkeys(snapshot.parameters, 1.0), *samples)
        rate = problem.learning_rate(snapshot.step)
        if batch is None:
            predicted = rate**2 * noise.gradient
        else:
            predicted = noether_step(noise, rate, batch)
        following = snapshot.next_parameters
        grown = sum(
            float(following[name].square().sum() - tensor.square().sum())
            for name, tensor in snapshot.parameters.items()
        )
        return {"norm_increment": grown, "norm_increment_predicted": float(predicted)}


def build(options: Options) -> NormGrowth:
    """The measurement of `{every, samples}`."""
    return NormGrowth(options["samples"])
