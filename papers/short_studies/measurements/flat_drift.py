"""How fast normalised gradient descent moves the sharpness along the minimisers.

Source: Arora, Li and Panigrahi 2022, "Understanding Gradient Descent on Edge of Stability in Deep
Learning". On the orbit of period two about the manifold of minimisers, of half width η/2 along the
top eigenvector, the gradient of the third order pulls by −(η²/4) ∇log λ₁ a step, of which the part
along the manifold stays; so a step changes log λ₁ by −(η²/4) ‖P∇log λ₁‖².
"""

import torch
from torch.func import hessian

from sharpflow.curvature import NonFiniteError
from sharpflow.measurements.base import Measurement
from sharpflow.parts.options import MeasurementOptions, Stride

FLAT = 0.1
"""Share of the top eigenvalue below which a direction counts as one along the minimisers.

The orbit is off them by η/2, where none has no curvature at all.
"""


class Options(MeasurementOptions):
    """Predicted change of log λ₁ a step, −(η²/4) ‖P∇log λ₁‖², of a network of few parameters."""

    every: Stride = 1
    """Stride, in steps."""

    def needs(self):
        """A network whose Hessian is formed whole."""
        return ("few parameters",)

    def gives(self):
        """The rate."""
        return frozenset({"predicted_log_sharpness_rate"})


class FlatDrift(Measurement):
    """The rate at one state, with P onto the directions of curvature below `FLAT` of the top."""

    def measure(self, snapshot):
        """`predicted_log_sharpness_rate`."""
        names = list(snapshot.parameters)
        shapes = [snapshot.parameters[name].shape for name in names]
        sizes = [shape.numel() for shape in shapes]
        point = torch.cat([snapshot.parameters[name].flatten() for name in names])
        if not bool(torch.isfinite(point).all()):
            raise NonFiniteError("the run left the finite numbers")

        def loss(vector):
            parts = vector.split(sizes)
            named = zip(names, parts, shapes, strict=True)
            return snapshot.loss({name: part.reshape(shape) for name, part, shape in named})

        vector = point.clone().requires_grad_()
        values, vectors = torch.linalg.eigh(hessian(loss)(vector))
        (slope,) = torch.autograd.grad(values[-1].log(), vector)
        flat = vectors[:, values.abs() < FLAT * values[-1]].detach()
        rate = snapshot.problem.learning_rate(min(snapshot.step, snapshot.problem.steps - 1))
        return {
            "predicted_log_sharpness_rate": -(rate**2) / 4 * float((flat.T @ slope).square().sum())
        }


def build(options):
    """The measurement of `{every}`."""
    return FlatDrift()
