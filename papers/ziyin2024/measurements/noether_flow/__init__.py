"""Many draws of one SGD step from one point, against the Noether flow.

Source: ziyin2024, section 4: dC/dt = 2σ² Tr[Σ Q]; one step of SGD is exactly
E[ΔC] = η²(Tr[Σ Q]/S + ∇Lᵀ Q ∇L).
"""

from functools import reduce
from operator import add

from torch import Tensor

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.models.base import Parameters
from sharpflow.symmetry import (
    NoiseTrace,
    gaussian_gammas,
    noether_step,
    population_gradient,
    two_layer_noise_trace,
)
from sharpflow.symmetry.predictions import unweighted_gammas

from .._population import factors, held_out, population_of, sampled_noise_trace

_CHUNK = 250


class NoetherFlow(Measurement):
    """Mean change of a charge in one step, drawn and predicted, at two states.

    The charge is ‖U‖² − ‖W‖² for a two-layer linear network and ‖θ‖² for a scale-invariant one.
    Index 0 is the last state of the run, which has to be a minimum for what the figure shows;
    index 1 is its first state. All values are reported at the last step.
    """

    def __init__(self, draws: int, batch: int, learning_rate: float, samples: int):
        self.draws = draws
        self.batch = batch
        self.learning_rate = learning_rate
        self.samples = samples
        self._first: dict[str, float] = {}

    def measure(self, snapshot: Snapshot) -> Values:
        """The flow at the last state, with that at the first state."""
        if snapshot.step == 0:
            self._first = self._flow(snapshot)
        if not snapshot.last:
            return {}
        last = self._flow(snapshot)
        values: Values = {name: [last[name], self._first[name]] for name in last}
        return values | {"draws": self.draws}

    def _flow(self, snapshot: Snapshot) -> dict[str, float]:
        factors(snapshot)
        signs = {"u": 1.0, "w": -1.0}
        traces: dict[str, NoiseTrace] = {}
        if "linear two layers" in snapshot.problem.model.capabilities:
            traces["predicted"], traces["unweighted"] = _linear_traces(snapshot)
        else:
            signs["w"] = 1.0
            samples = held_out(snapshot, "flow_prediction", self.samples)
            traces["predicted"] = sampled_noise_trace(snapshot, signs, *samples, whole=False)
        flow = {
            f"flow_{name}": float(noether_step(trace, self.learning_rate, self.batch))
            for name, trace in traces.items()
        }
        noise_only = traces["predicted"].covariance
        flow["flow_sde"] = self.learning_rate**2 / self.batch * float(noise_only)
        return flow | {"flow_measured": self._drawn(snapshot, signs)}

    def _drawn(self, snapshot: Snapshot, signs: dict[str, float]) -> float:
        problem, total = snapshot.problem, 0.0
        inputs, targets = held_out(snapshot, "flow_draws", self.draws, self.batch)
        before = _charge({n: t.unsqueeze(0) for n, t in snapshot.parameters.items()}, signs)
        for x, y in zip(inputs.split(_CHUNK), targets.split(_CHUNK), strict=True):
            many = {n: t.expand(len(x), *t.shape) for n, t in snapshot.parameters.items()}
            gradients = problem.loss_and_gradient(many, x, y).gradients
            moved = {n: t.sub(gradients[n], alpha=self.learning_rate) for n, t in many.items()}
            total += float((_charge(moved, signs) - before).sum())
        return total / self.draws


def _charge(parameters: Parameters, signs: dict[str, float]) -> Tensor:
    return reduce(add, (s * parameters[n].square().sum((-2, -1)) for n, s in signs.items()))


def _linear_traces(snapshot: Snapshot) -> tuple[NoiseTrace, NoiseTrace]:
    """With the weighted Γ, and with isotropic Γ of the same trace."""
    u, w = factors(snapshot)
    population = population_of(snapshot.problem)
    sigma_x, sigma_noise = population.input_covariance, population.noise_covariance
    gradient = population_gradient(u, w, population.teacher, sigma_x)
    gammas = gaussian_gammas(u, w, population.teacher, sigma_x, sigma_noise)
    weighted = two_layer_noise_trace(u, w, *gammas, gradient)
    return weighted, two_layer_noise_trace(u, w, *unweighted_gammas(*gammas), gradient)


def build(options: Options) -> NoetherFlow:
    """The measurement of `{every, draws, batch, learning_rate, samples}`."""
    return NoetherFlow(
        options["draws"], options["batch"], options["learning_rate"], options["samples"]
    )
