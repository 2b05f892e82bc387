"""The sharpness at the nearby minimiser, and how fast two rules at the edge of stability move it.

Source: Arora, Li and Panigrahi 2022, "Understanding Gradient Descent on Edge of Stability in Deep
Learning". Its iterates alternate about the manifold of minimisers, between a and a − η along the
top eigenvector for some a in [0, η]. The gradient of third order pulls them by (η/2)|a| ∇log λ₁ at
the one and (η/2)|η − a| ∇log λ₁ at the other, so by (η²/4) ∇log λ₁ in the mean, whatever a is. Of
this the part along the manifold stays: a step changes log λ₁ by −(η²/4) ‖P∇log λ₁‖².

Gradient descent on √L, which is √(λ₁/2) |x| at a displacement x, has steps of η√(λ₁/2) in
place of η, and likewise a pull of (η²/8) ∇λ₁ in the mean: −(η²/8) λ₁ ‖P∇log λ₁‖² a step.
"""

from typing import Literal

import torch
from torch.func import grad, hessian

from sharpflow.curvature import NonFiniteError
from sharpflow.measurements.base import Measurement
from sharpflow.parts.options import MeasurementOptions, Stride

FLAT = 0.1
"""Share of the top eigenvalue below which a direction counts as one along the minimisers."""
ROUNDS = 4
"""Newton's steps across the manifold, each of which squares the distance."""


class Options(MeasurementOptions):
    """λ₁ at the nearby minimiser, and the predicted change of log λ₁ a step, for few parameters."""

    every: Stride = 1
    """Stride, in steps."""
    rule: Literal["normalised", "root"] = "normalised"
    """Of what it is predicted: normalised gradient descent, or gradient descent on √L."""

    def needs(self):
        """A network whose Hessian is formed whole."""
        return ("few parameters",)

    def gives(self):
        """The level and the rate."""
        return frozenset({"minimiser_sharpness", "predicted_log_sharpness_rate"})


class FlatDrift(Measurement):
    """Both at one state; P is onto the directions of curvature below `FLAT` of the top."""

    def __init__(self, rule: str):
        self.rule = rule

    def measure(self, snapshot):
        """`minimiser_sharpness` and `predicted_log_sharpness_rate`."""
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

        for _ in range(ROUNDS):
            values, vectors = torch.linalg.eigh(hessian(loss)(point))
            steep = vectors[:, values > FLAT * values[-1]]
            curvature = values[values > FLAT * values[-1]]
            point = point - steep @ ((steep.T @ grad(loss)(point)) / curvature)
        vector = point.clone().requires_grad_()
        values, vectors = torch.linalg.eigh(hessian(loss)(vector))
        (slope,) = torch.autograd.grad(values[-1].log(), vector)
        flat = vectors[:, values.abs() < FLAT * values[-1]].detach()
        rate = snapshot.problem.learning_rate(min(snapshot.step, snapshot.problem.steps - 1))
        sharpness, square = float(values[-1].detach()), float((flat.T @ slope).square().sum())
        pace = 1 / 4 if self.rule == "normalised" else sharpness / 8
        return {
            "minimiser_sharpness": sharpness,
            "predicted_log_sharpness_rate": -(rate**2) * pace * square,
        }


def build(options):
    """The measurement of `{every, rule}`."""
    return FlatDrift(options["rule"])
