"""Batch sharpness: the curvature of a batch's loss along its own gradient.

Beyond li2022. For SGD it is this, and not the sharpness of the full loss, that is expected to
settle at 2/η (Andreyev and Beneventano 2024, "Edge of Stochastic Stability").
"""

import torch
from torch import Tensor

from sharpflow.curvature.batch_sharpness import along_gradients, ratio_of_means
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.models.base import Parameters
from sharpflow.training import generator

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
    """E[gᵀ H_B g]/E‖g‖² over batches drawn as training draws them.

    `batch_sharpness_error` is the standard error of the ratio over the draws (delta method). With
    gradient descent there is one batch, all samples, and no error. Where all gradients vanish
    there is no row.
    """

    def __init__(self, draws: int):
        self.draws = draws

    def measure(self, snapshot: Snapshot) -> Values:
        """The ratio of two means at one state, and its error."""
        problem = snapshot.problem
        size, samples = problem.training["batch"], problem.samples
        if samples is None:
            raise ConfigError("measurements: batch_sharpness needs a finite dataset.")
        for name, tensor in snapshot.parameters.items():
            check_finite(tensor, name)
        if size is None:
            whole = problem.batches.of_run(snapshot.run)
            curved, squared = batch_curvature(snapshot, *(samples[None] for samples in whole))
            return {"batch_sharpness": float(curved / squared)} if squared > 0 else {}
        seed = problem.seeds[snapshot.run]
        source = generator(problem.stream, seed, "batch_sharpness", snapshot.step)
        rows = torch.randint(samples, (self.draws, size), generator=source)
        inputs, targets = problem.batches.of_run(snapshot.run)
        parts = [
            batch_curvature(snapshot, inputs[chunk], targets[chunk])
            for chunk in rows.to(targets.device).split(_CHUNK)
        ]
        curved, squared = (torch.cat(part).double() for part in zip(*parts, strict=True))
        if not squared.any():
            return {}
        ratio, error = ratio_of_means(curved, squared)
        values: Values = {"batch_sharpness": ratio}
        if self.draws > 1:
            values["batch_sharpness_error"] = error
        return values


def build(options: Options) -> BatchSharpness:
    """The measurement of `{every, draws}`."""
    return BatchSharpness(options["draws"])
