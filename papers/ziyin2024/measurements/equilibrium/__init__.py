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

from .._population import factors, population_of, relative_errors

Factors = tuple[Tensor, Tensor]


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


def follows_flow(problem: Problem, u: Tensor, w: Tensor) -> bool:
    """Whether a run from these factors drifts along the minima, so that its flow is known.

    Not gradient descent, nor with weight decay or a schedule, nor without noise, nor from a start
    that does not fit the teacher.
    """
    population, training = population_of(problem), problem.training
    plain = problem.optimiser.plain and problem.schedule["kind"] == "constant"
    noisy = bool(training["batch"]) and bool(population.noise_std.any())
    fitted = torch.allclose(u @ w, population.teacher.to(u), atol=1e-6)
    return plain and noisy and fitted and not training["weight_decay"]


def flow(problem: Problem, u: Tensor, w: Tensor, steps: int) -> Factors:
    """Where the Noether flow takes factors at a minimum in as many steps."""
    population = population_of(problem)
    gammas = stationary_gammas(population.input_covariance, population.noise_covariance)
    rate, batch = problem.nominal_learning_rate, problem.training["batch"]
    return noether_path(u, w, *gammas, rate, batch, [steps])[0]


def _second_moments(u: Tensor, w: Tensor) -> Factors:
    """Wᵀ W and U Uᵀ, which are unique at the equilibrium."""
    return w.mT @ w, u @ u.mT


class Equilibrium(Measurement):
    """Predictions at step 0; errors of time averages at the last step. Index 0 is W, 1 is U.

    The averages are over the measured states of the last `tail` of the training. A run that starts
    at a minimum has Tr H along the Noether flow at every measured state.
    """

    def __init__(self, tail: float):
        self.tail = tail
        self._sums: Factors | None = None
        self._flow: Factors | None = None
        self._flowed = 0
        self._count = 0

    def memory(self) -> dict[str, Tensor]:
        """The sums so far, for a checkpoint."""
        kept = {"count": torch.tensor(self._count), "flowed": torch.tensor(self._flowed)}
        for prefix, pair in (("sum", self._sums), ("flow", self._flow)):
            kept |= {f"{prefix}{i}": t for i, t in enumerate(pair or ())}
        return kept

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        self._count = int(memory["count"])
        self._flowed = int(memory["flowed"])
        held = {prefix: f"{prefix}0" in memory for prefix in ("sum", "flow")}
        self._sums = (memory["sum0"], memory["sum1"]) if held["sum"] else None
        self._flow = (memory["flow0"], memory["flow1"]) if held["flow"] else None

    def measure(self, snapshot: Snapshot) -> Values:
        """Predictions, errors, or nothing between."""
        problem = snapshot.problem
        u, w = factors(snapshot)
        values: Values = {}
        if snapshot.step == 0:
            self._sums, self._count = None, 0
            self._flow, self._flowed = ((u, w) if follows_flow(problem, u, w) else None), 0
            values |= self._predictions(problem)
        if snapshot.step >= (1 - self.tail) * problem.steps:
            first, second = _second_moments(u, w)
            old = self._sums or (0.0, 0.0)
            self._sums = old[0] + first, old[1] + second
            self._count += 1
        if self._flow is not None:
            if snapshot.step > self._flowed:
                self._flow = flow(problem, *self._flow, snapshot.step - self._flowed)
                self._flowed = snapshot.step
            covariance = population_of(problem).input_covariance
            values["hessian_trace_flow"] = float(hessian_trace(*self._flow, covariance))
        predicted = predicted_equilibrium(problem) if snapshot.last else None
        if predicted is not None and self._sums is not None:
            averages = self._sums[0] / self._count, self._sums[1] / self._count
            plain = plain_balance(population_of(problem).teacher)
            values["equilibrium_error"] = relative_errors(averages, _second_moments(*predicted))
            values["plain_balance_error"] = relative_errors(averages, _second_moments(*plain))
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
