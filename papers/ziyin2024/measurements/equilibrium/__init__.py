"""The closed form of the noise equilibrium beside time averages of a run.

Source: ziyin2024, section 5.1 (the equilibrium), figure 3 (norm ratios), figure 8 (rates).
"""

import torch
from torch import Tensor

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import hessian_trace, noise_equilibrium, plain_balance, stationary_gammas
from sharpflow.symmetry.predictions import convergence_rate, weight_decay_shift
from sharpflow.training import Problem

from .._population import factors, population_of

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
        self._count = 0

    def memory(self) -> dict[str, Tensor]:
        """The sums so far, for a checkpoint."""
        if self._sums is None:
            return {}
        w, u = self._sums
        return {"w": w, "u": u, "count": torch.tensor(self._count)}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        self._sums, self._count = (memory["w"], memory["u"]), int(memory["count"])

    def measure(self, snapshot: Snapshot) -> Values:
        """Predictions, errors, or nothing between."""
        problem = snapshot.problem
        u, w = factors(snapshot)
        values: Values = {}
        if snapshot.step == 0:
            self._sums, self._count = None, 0
            values |= self._predictions(problem)
        if snapshot.step >= (1 - self.tail) * problem.steps:
            first, second = _second_moments(u, w)
            old = self._sums or (0.0, 0.0)
            self._sums = old[0] + first, old[1] + second
            self._count += 1
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
