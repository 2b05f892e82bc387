"""Layers of a deep linear network beside the closed form of their noise equilibrium.

Derivation: docs/background/theory.md, section 6.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature import NonFiniteError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import deep_gaussian_gammas, deep_noise_equilibrium, noise_imbalance
from sharpflow.training import Problem

from .._population import population_of, relative_errors

Layers = tuple[Tensor, ...]


def closed_layers(problem: Problem, depth: int) -> Layers | None:
    """W_1, …, W_L where SGD settles; None without label noise."""
    population = population_of(problem)
    if not bool(population.noise_std.any()):
        return None
    covariances = population.input_covariance, population.noise_covariance
    return deep_noise_equilibrium(population.teacher, *covariances, depth)


def plain_layers(problem: Problem, depth: int) -> Layers:
    """W_1, …, W_L of the teacher with W_{i+1}ᵀ W_{i+1} = W_i W_iᵀ."""
    left, singular, right = torch.linalg.svd(population_of(problem).teacher, full_matrices=False)
    root = singular ** (1 / depth)
    middle = [torch.diag(root)] * (depth - 2)
    return (root[:, None] * right, *middle, left * root)


def _ends(layers: Layers) -> Layers:
    """W_1ᵀ W_1 and W_L W_Lᵀ, which no rotation of a hidden layer changes."""
    return layers[0].mT @ layers[0], layers[-1] @ layers[-1].mT


class DeepEquilibrium(Measurement):
    """Singular values of each layer and the noise's imbalance; the closed form at step 0.

    Singular values are indexed by (layer − 1) · width + place, from the largest on;
    `singular_value_spread` is their standard deviation over their mean, by layer, and
    `noise_imbalance` that of the noise at each hidden layer. At the last step come the relative
    errors of the averages of W₁ᵀW₁ (index 0) and W_L W_Lᵀ (index 1), from the closed form and from
    the plain balance.
    """

    def __init__(self, tail: float):
        self.tail = tail
        self._sums: Layers | None = None
        self._count = 0

    def memory(self) -> dict[str, Tensor]:
        """The sums so far, for a checkpoint."""
        kept = {f"sum{i}": t for i, t in enumerate(self._sums or ())}
        return kept | {"count": torch.tensor(self._count)}

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        self._count = int(memory["count"])
        self._sums = (memory["sum0"], memory["sum1"]) if "sum0" in memory else None

    def measure(self, snapshot: Snapshot) -> Values:
        """What is known of this state."""
        problem = snapshot.problem
        model: Any = problem.model
        layers = tuple(model.weights(snapshot.parameters))
        if not all(bool(torch.isfinite(w).all()) for w in layers):
            raise NonFiniteError("the run left the finite numbers")
        values = self._now(problem, layers)
        if snapshot.step == 0:
            self._sums, self._count = None, 0
            values |= _predictions(problem, layers)
        if snapshot.step >= (1 - self.tail) * problem.steps:
            ends = _ends(layers)
            old = self._sums or tuple(torch.zeros_like(e) for e in ends)
            self._sums = tuple(a + b for a, b in zip(old, ends, strict=True))
            self._count += 1
        closed = closed_layers(problem, len(layers)) if snapshot.last else None
        if closed is not None and self._sums is not None:
            found = tuple(each / self._count for each in self._sums)
            plain = plain_layers(problem, len(layers))
            values["equilibrium_error"] = relative_errors(found, _ends(closed))
            values["plain_balance_error"] = relative_errors(found, _ends(plain))
        return values

    @staticmethod
    def _now(problem: Problem, layers: Layers) -> Values:
        law = population_of(problem)
        spectra = [torch.linalg.svdvals(w) for w in layers]
        gammas = deep_gaussian_gammas(
            layers, law.teacher, law.input_covariance, law.noise_covariance
        )
        pairs = zip(pairwise(layers), gammas, strict=True)
        return {
            "singular_value": torch.cat(spectra).cpu().numpy(),
            "singular_value_spread": [float(s.std(correction=0) / s.mean()) for s in spectra],
            "noise_imbalance": [float(noise_imbalance(u, w, *own)) for (w, u), own in pairs],
        }


def _predictions(problem: Problem, layers: Layers) -> Values:
    plain = plain_layers(problem, len(layers))
    values: Values = {"plain_norm_squared": [float(w.square().sum()) for w in plain]}
    closed = closed_layers(problem, len(layers))
    if closed is not None:
        spectra = [
            torch.nn.functional.pad(s := torch.linalg.svdvals(w), (0, min(own.shape) - len(s)))
            for w, own in zip(closed, layers, strict=True)
        ]
        values["closed_norm_squared"] = [float(w.square().sum()) for w in closed]
        values["closed_singular_value"] = torch.cat(spectra).cpu().numpy()
    return values


def build(options: Options) -> DeepEquilibrium:
    """The measurement of `{every, tail}`."""
    return DeepEquilibrium(options["tail"])
