"""The growth of norms that single samples in evaluation mode predict, where batches matter.

In evaluation mode a network with batch norms has gradients of single samples, as in training it has
not; but they are those of another function, of which the scale of weights is no symmetry.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch.nn import functional as F

from sharpflow.measurements.base import Measurement
from sharpflow.parts.options import MeasurementOptions, Stride
from sharpflow.symmetry import per_sample_gradients, sample_loss
from sharpflow.training import generator

from ..nets import normalised

HIDDEN = "hidden"


class Options(MeasurementOptions):
    """Growth of the squared norms of the hidden layers, of `normalised` with batch norms."""

    every: Stride = 100
    """Stride, in steps."""
    samples: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Samples whose gradients are taken."""

    def needs(self):
        """Batches of finite data, and the squared error."""
        return "finite samples", "squared error"

    def drawn(self, batch):
        """The samples."""
        return self.samples

    def gives(self):
        """What SGD with such gradients would add in a step, an index a layer."""
        return frozenset({"evaluated_growth"})


class EvaluatedGrowth(Measurement):
    """η²(Tr Σ/S + ‖∇L‖²) of each hidden layer, of single samples in evaluation mode."""

    def __init__(self, samples: int):
        self.samples = samples

    def measure(self, snapshot):
        """It at one state."""
        problem, parameters = snapshot.problem, snapshot.parameters
        inputs, targets = problem.batches.of_run(snapshot.run)
        width, outputs = len(parameters["hidden0.weight"]), targets.shape[-1]
        model = (
            normalised(width, tuple(inputs.shape[1:]), outputs, norm="batch")
            .to(problem.dtype)
            .eval()
        )
        held = problem.moment(snapshot.state, snapshot.step).buffers
        own = {name: t[snapshot.run] for name, t in held.items()}
        model.load_state_dict(parameters | own)
        seed = problem.seeds[snapshot.run]
        source = generator(problem.stream, seed, "evaluated_growth", snapshot.step)
        rows = torch.randperm(len(inputs), generator=source)[: self.samples].to(inputs.device)
        loss = sample_loss(model, lambda found, wanted: F.mse_loss(found, wanted) * outputs)
        gradients = per_sample_gradients(loss, parameters, inputs[rows], targets[rows])
        rate = float(problem.learning_rate(min(snapshot.step, problem.steps - 1)))
        grown = []
        for name in (n for n in parameters if n.startswith(HIDDEN)):
            mean = gradients[name].mean(0)
            noise = float((gradients[name] - mean).square().sum() / (len(rows) - 1))
            steady = float(mean.square().sum()) - noise / len(rows)
            grown.append(rate**2 * (noise / problem.training["batch"] + steady))
        return {"evaluated_growth": grown}


def build(options):
    """The measurement of `{every, samples}`."""
    return EvaluatedGrowth(options["samples"])
