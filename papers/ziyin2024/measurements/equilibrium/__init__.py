"""The closed form of the noise equilibrium beside time averages of a run.

Source: ziyin2024, section 5.1 (the equilibrium), figure 3 (norm ratios), figure 8 (rates).
"""

import torch
from torch import Tensor

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import (
    hessian_trace,
    noether_path,
    noise_equilibrium,
    plain_balance,
    stationary_gammas,
)
from sharpflow.symmetry.predictions import convergence_rate, weight_decay_shift
from sharpflow.training import Problem

from .._population import factors, population_of

Factors = tuple[Tensor, Tensor]
_FLOW_POINTS = 200
"""Steps of the integration of the flow over a run."""


def predicted_equilibrium(problem: Problem) -> Factors | None:
    """Factors of the teacher where SGD settles; None without label noise.

    Weight decay of SGD adds κI to both Γ. For gradient descent it is the point to which noise
    would take the run; with weight decay, the plain balance, which is where the run goes.
    """
    population, training = population_of(problem), problem.training
    decay, batch = training["weight_decay"], training["batch"]
    if decay and not batch:
        return plain_balance(population.teacher)
    if not bool(population.noise_std.any()):
        return None
    gamma_u, gamma_w = stationary_gammas(population.input_covariance, population.noise_covariance)
    if decay:
        shift = weight_decay_shift(decay, problem.nominal_learning_rate, batch)
        gamma_u, gamma_w = (g + shift * torch.eye(len(g)).to(g) for g in (gamma_u, gamma_w))
    return noise_equilibrium(population.teacher, gamma_u, gamma_w)


def flow_end(problem: Problem, u: Tensor, w: Tensor, tail: float) -> Values:
    """Tr H that the Noether flow gives a run from a minimum, as a mean over its tail.

    Nothing for gradient descent, with weight decay or a schedule, without noise, or from a start
    that does not fit the teacher: no flow along the minima starts there.
    """
    population, training = population_of(problem), problem.training
    batch, steps = training["batch"], problem.steps
    plain = problem.optimiser.plain and problem.schedule["kind"] == "constant"
    fitted = torch.allclose(u @ w, population.teacher.to(u), atol=1e-6)
    if not (batch and plain and fitted) or training["weight_decay"]:
        return {}
    covariances = population.input_covariance, population.noise_covariance
    gammas = stationary_gammas(*covariances)
    times = sorted({round(steps * i / _FLOW_POINTS) for i in range(1, _FLOW_POINTS + 1)})
    path = noether_path(u, w, *gammas, problem.nominal_learning_rate, batch, times)
    late = [f for f, time in zip(path, times, strict=True) if time >= (1 - tail) * steps]
    traces = [float(hessian_trace(*pair, covariances[0])) for pair in late]
    return {"hessian_trace_flow": sum(traces) / len(traces)}


def _relative(measured: Factors, exact: Factors) -> list[float]:
    return [
        float(torch.linalg.matrix_norm(m - e) / torch.linalg.matrix_norm(e))
        for m, e in zip(measured, exact, strict=True)
    ]


def _second_moments(u: Tensor, w: Tensor) -> Factors:
    """Wᵀ W and U Uᵀ, which are unique at the equilibrium."""
    return w.mT @ w, u @ u.mT


class Equilibrium(Measurement):
    """Predictions at step 0; errors of time averages at the last step. Index 0 is W, 1 is U.

    The averages are over the measured states of the last `tail` of the training.
    """

    def __init__(self, tail: float):
        self.tail = tail
        self._sums: Factors | None = None
        self._start: Factors | None = None
        self._count = 0

    def memory(self) -> dict[str, Tensor]:
        """The sums so far, for a checkpoint."""
        kept = {"count": torch.tensor(self._count)}
        for prefix, pair in (("sum", self._sums), ("start", self._start)):
            kept |= {f"{prefix}{i}": t for i, t in enumerate(pair or ())}
        return kept

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        self._count = int(memory["count"])
        held = {prefix: f"{prefix}0" in memory for prefix in ("sum", "start")}
        self._sums = (memory["sum0"], memory["sum1"]) if held["sum"] else None
        self._start = (memory["start0"], memory["start1"]) if held["start"] else None

    def measure(self, snapshot: Snapshot) -> Values:
        """Predictions, errors, or nothing between."""
        problem = snapshot.problem
        u, w = factors(snapshot)
        values: Values = {}
        if snapshot.step == 0:
            self._sums, self._count = None, 0
            self._start = u, w
            values |= self._predictions(problem)
        if snapshot.step >= (1 - self.tail) * problem.steps:
            first, second = _second_moments(u, w)
            old = self._sums or (0.0, 0.0)
            self._sums = old[0] + first, old[1] + second
            self._count += 1
        if snapshot.last and self._start is not None:
            values |= flow_end(problem, *self._start, self.tail)
        predicted = predicted_equilibrium(problem) if snapshot.last else None
        if predicted is not None and self._sums is not None:
            averages = self._sums[0] / self._count, self._sums[1] / self._count
            plain = plain_balance(population_of(problem).teacher)
            values["equilibrium_error"] = _relative(averages, _second_moments(*predicted))
            values["plain_balance_error"] = _relative(averages, _second_moments(*plain))
        return values

    @staticmethod
    def _predictions(problem: Problem) -> Values:
        population = population_of(problem)
        values: Values = {}
        predicted = predicted_equilibrium(problem)
        if predicted is not None:
            u, w = predicted
            norm_w, norm_u = (float(t.square().sum()) for t in (w, u))
            trace = hessian_trace(u, w, population.input_covariance)
            values["closed_norm_squared"] = [norm_w, norm_u]
            values["norm_ratio_predicted"] = norm_u / norm_w
            values["hessian_trace_predicted"] = float(trace)
        x, noise = population.input_std, population.noise_std
        square, batch = len(x) == len(noise), problem.training["batch"]
        isotropic = bool((x == x[0]).all() and (noise == noise[0]).all())
        if batch and square and isotropic and float(x[0]) > 0 and float(noise[0]) > 0:
            values["rate_predicted"] = convergence_rate(
                len(x),
                problem.nominal_learning_rate,
                batch,
                float(x[0]) ** 2,
                float(noise[0]) ** 2,
            )
        return values


def build(options: Options) -> Equilibrium:
    """The measurement of `{every, tail}`."""
    return Equilibrium(options["tail"])
