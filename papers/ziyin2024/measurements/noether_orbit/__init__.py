"""The Noether flow along orbits of the symmetry.

Source: ziyin2024, theorem 4.3: along e^{λQ}θ, Tr[Σ Q] falls and has one zero, to which SGD drifts
from both sides. For two linear layers Q acts as U ← U e^{λA}, W ← e^{−λA} W, A symmetric, and its
charge is C_A = Tr[A UᵀU] − Tr[A W Wᵀ].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.models.base import Parameters
from sharpflow.training import generator

from .._population import factors, held_out, population_of

_CHUNK = 500


def moved(u: Tensor, w: Tensor, direction: Tensor, distance: float) -> Parameters:
    """The point of the orbit at λ = `distance`.

    Args:
        u: U, (d2, d).
        w: W, (d, d0).
        direction: A, (d, d), symmetric.
        distance: λ.
    """
    step = torch.linalg.matrix_exp(distance * direction)
    return {"u": u @ step, "w": torch.linalg.solve(step, w)}


def charge(parameters: Parameters, direction: Tensor) -> Tensor:
    """C_A of U (..., d2, d) and W (..., d, d0)."""
    u, w = parameters["u"], parameters["w"]
    return ((u @ direction) * u).sum((-2, -1)) - ((direction @ w) * w).sum((-2, -1))


class NoetherOrbit(Measurement):
    """Shares of random directions along which the flow does what the theorem says."""

    def __init__(self, options: Mapping[str, Any]):
        self._options = options

    def measure(self, snapshot: Snapshot) -> Values:
        """The shares, at the last state; nothing without label noise, where nothing flows."""
        if not (snapshot.last and bool(population_of(snapshot.problem).noise_std.any())):
            return {}
        options, problem = self._options, snapshot.problem
        u, w = factors(snapshot)
        source = generator(problem.stream, problem.seeds[snapshot.run], "orbit_directions")
        samples = held_out(snapshot, "orbit_samples", options["samples"])
        falling, single, returning = [], [], []
        for _ in range(options["directions"]):
            raw = torch.randn(u.shape[1], u.shape[1], generator=source).to(u)
            direction = raw + raw.T
            direction = direction / torch.linalg.matrix_norm(direction, 2)
            distances = np.linspace(-options["span"], options["span"], options["points"])
            points = [moved(u, w, direction, float(distance)) for distance in distances]
            flow = np.array([_flow(snapshot, point, direction, *samples) for point in points])
            falling.append(bool(np.all(np.diff(flow) < 0)))
            single.append(flow[0] > 0 > flow[-1] and np.sum(np.diff(np.sign(flow)) != 0) == 1)
            ends = (self._drift(snapshot, points[end], direction) for end in (0, -1))
            returning.append(next(ends) > 0 > next(ends))
        return {
            "orbit_falling": float(np.mean(falling)),
            "orbit_single_zero": float(np.mean(single)),
            "orbit_returning": float(np.mean(returning)),
        }

    def _drift(self, snapshot: Snapshot, point: Parameters, direction: Tensor) -> float:
        """Mean change of the charge over drawn steps of SGD from a point."""
        options = self._options
        inputs, targets = held_out(snapshot, "orbit_draws", options["draws"], options["batch"])
        many = {name: t.expand(len(inputs), *t.shape) for name, t in point.items()}
        gradients = snapshot.problem.loss_and_gradient(many, inputs, targets).gradients
        after = {n: t.sub(gradients[n], alpha=options["learning_rate"]) for n, t in many.items()}
        return float((charge(after, direction) - charge(point, direction)).mean())


def _flow(
    snapshot: Snapshot, point: Parameters, direction: Tensor, inputs: Tensor, targets: Tensor
) -> float:
    """Tr[Σ Q] at a point, from samples (n, ...)."""
    total, mean = 0.0, {name: torch.zeros_like(t) for name, t in point.items()}
    for x, y in zip(inputs.split(_CHUNK), targets.split(_CHUNK), strict=True):
        many = {name: t.expand(len(x), *t.shape) for name, t in point.items()}
        gradients = snapshot.problem.loss_and_gradient(many, x[:, None], y[:, None]).gradients
        total += float(charge(gradients, direction).sum()) / len(inputs)
        mean = {name: mean[name] + gradients[name].sum(0) / len(inputs) for name in mean}
    return total - float(charge(mean, direction))


def build(options: Options) -> NoetherOrbit:
    """The measurement of its options."""
    return NoetherOrbit(options)
