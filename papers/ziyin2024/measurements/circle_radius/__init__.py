"""Position and predicted radius of the two-dimensional scale-invariant toy.

Source: ziyin2024, figure 1; the radius grows as (r₀⁴ + 8η²σ²k/S)^¼ near the minimum.
"""

import torch

from sharpflow.curvature import NonFiniteError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry.predictions import scale_invariant_radius, toy_unit_noise

from .._population import population_of


class CircleRadius(Measurement):
    """`position` (two numbers) and `predicted_radius`, which for gradient descent stays 1."""

    def measure(self, snapshot: Snapshot) -> Values:
        """Both at one state."""
        problem = snapshot.problem
        theta = snapshot.parameters["theta"]
        if not bool(torch.isfinite(theta).all()):
            raise NonFiniteError("the run left the finite numbers")
        batch, noise = problem.training["batch"], float(population_of(problem).noise_std[0])
        radius = 1.0
        if batch is not None and noise > 0:
            step = torch.tensor(float(snapshot.step), dtype=torch.float64)
            rate = problem.nominal_learning_rate
            radius = float(scale_invariant_radius(step, rate, toy_unit_noise(noise), batch))
        return {"position": theta.cpu().numpy(), "predicted_radius": radius}


def build(options: Options) -> CircleRadius:
    """The measurement of `{every}`."""
    return CircleRadius()
