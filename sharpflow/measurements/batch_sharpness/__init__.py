"""Batch sharpness: the curvature of batches' losses along their own gradients.

For SGD it is this, and not the sharpness of the full loss, that is expected to settle at 2/η
(Andreyev and Beneventano 2024, "Edge of Stochastic Stability").
"""

import torch
from torch import Tensor

from sharpflow.curvature.batch_sharpness import along_gradients, mean_of_ratios, ratio_of_means
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.models.base import Parameters
from sharpflow.training import generator
from sharpflow.training.batches import OnlineSamples

_CHUNK = 16


def batch_curvature(snapshot: Snapshot, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """gᵀ H_B g and ‖g‖² of each of K batches, each (K,).

    Args:
        snapshot: the run and the step whose parameters are taken.
        inputs: (K, S, ...); the batches take the place of the model's runs.
        targets: (K, S, ...), of the same samples.

    Raises:
        NonFiniteError: one of them is not finite, as in a run that diverged.
    """
    problem, count = snapshot.problem, len(targets)
    leaves: Parameters = {
        name: t.detach().expand(count, *t.shape).clone().requires_grad_()
        for name, t in snapshot.parameters.items()
    }
    if problem.model.stateless:
        outputs = problem.model(leaves, inputs)
    else:
        one_by_one = ({n: t[batch] for n, t in leaves.items()} for batch in range(count))
        pairs = zip(one_by_one, inputs, strict=True)
        outputs = torch.stack([snapshot.network(own, batch) for own, batch in pairs])
    losses = problem.loss(outputs, problem.rows(targets))
    return along_gradients(losses, list(leaves.values()))


class BatchSharpness(Measurement):
    """Means of gᵀ H_B g over ‖g‖², of batches drawn as training draws them; one pass a batch.

    `batch_sharpness_mean_of_ratios` is E[gᵀ H_B g/‖g‖²], and `batch_sharpness_ratio_of_means` is
    E[gᵀ H_B g]/E‖g‖²; each with its standard error over the draws, `…_error`. With gradient descent
    there is one batch, all samples: the two agree, and have no error. Where the gradient of one
    batch vanishes there is no mean of ratios, and where all do there is no row.
    """

    def __init__(self, draws: int):
        self.draws = draws

    def measure(self, snapshot: Snapshot) -> Values:
        """Both means at one state, and their errors."""
        problem = snapshot.problem
        size, batches = problem.training["batch"], problem.batches
        if isinstance(batches, OnlineSamples):
            raise ConfigError("measurements: batch_sharpness needs a finite dataset.")
        for name, tensor in snapshot.parameters.items():
            check_finite(tensor, name)
        inputs, targets = batches.of_run(snapshot.run)
        if size is None:
            return _means(*batch_curvature(snapshot, inputs[None], targets[None]))
        seed = problem.seeds[snapshot.run]
        source = generator(problem.stream, seed, "batch_sharpness", snapshot.step)
        rows = batches.draw(self.draws, source)
        parts = [
            batch_curvature(snapshot, inputs[chunk], targets[chunk])
            for chunk in rows.to(targets.device).split(_CHUNK)
        ]
        return _means(*(torch.cat(part).double() for part in zip(*parts, strict=True)))


def _means(curved: Tensor, squared: Tensor) -> Values:
    """The two means of gᵀ H_B g and ‖g‖², (K,) each, as far as they are defined."""
    found = {}
    if squared.all():
        found["mean_of_ratios"] = mean_of_ratios(curved, squared)
    if squared.any():
        found["ratio_of_means"] = ratio_of_means(curved, squared)
    values: Values = {}
    for name, (value, error) in found.items():
        values[f"batch_sharpness_{name}"] = value
        if len(curved) > 1:
            values[f"batch_sharpness_{name}_error"] = error
    return values


def build(options: Options) -> BatchSharpness:
    """The measurement of `{every, draws}`."""
    return BatchSharpness(options["draws"])
