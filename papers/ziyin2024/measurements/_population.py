"""What measurements here share, on a Gaussian population or finite samples."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from sharpflow.curvature import NonFiniteError
from sharpflow.data.population import Population
from sharpflow.measurements.base import Snapshot
from sharpflow.symmetry import NoiseTrace, gammas, gaussian_gammas
from sharpflow.training import Problem, generator

_CHUNK = 1000


def population_of(problem: Problem) -> Population:
    """The population that a shard's samples come from."""
    assert problem.population is not None, "measurements here need a gaussian population"
    return problem.population


def factors(snapshot: Snapshot) -> tuple[Tensor, Tensor]:
    """U (d2, d) and W (d, d0) of one run.

    Raises:
        NonFiniteError: the run left the finite numbers.
    """
    u, w = snapshot.parameters["u"], snapshot.parameters["w"]
    if not bool(torch.isfinite(u).all() and torch.isfinite(w).all()):
        raise NonFiniteError("the run left the finite numbers")
    return u, w


def relative_errors(found: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    """‖A − B‖/‖B‖ of each pair of matrices, B the exact one."""
    return [
        float(torch.linalg.matrix_norm(a - b) / torch.linalg.matrix_norm(b))
        for a, b in zip(found, exact, strict=True)
    ]


def held_out(snapshot: Snapshot, purpose: str, *shape: int) -> tuple[Tensor, Tensor]:
    """Samples (*shape, d0) and (*shape, d2) of the population, of this run, purpose and step."""
    problem = snapshot.problem
    population = population_of(problem)
    source = generator(problem.stream, problem.seeds[snapshot.run], purpose, snapshot.step)
    return population.sample(torch.randn(*shape, population.size, generator=source))


def representative(snapshot: Snapshot, purpose: str, count: int) -> tuple[Tensor, Tensor]:
    """Samples (n, d0) and (n, d2) that means are taken over.

    They are `count` held-out ones of a population, and else all that the run has.
    """
    if snapshot.problem.population is None:
        return snapshot.inputs, snapshot.targets
    return held_out(snapshot, purpose, count)


def second_moment(snapshot: Snapshot) -> Tensor:
    """E[x xᵀ] (d0, d0) of the population, and else over the run's samples."""
    problem = snapshot.problem
    if problem.population is not None:
        return problem.population.input_covariance
    inputs = snapshot.inputs
    return inputs.mT @ inputs / len(inputs)


def linear_gammas(snapshot: Snapshot) -> tuple[Tensor, Tensor]:
    """(Γ_U, Γ_W) of a two-layer linear network: of the population, else over the run's samples."""
    u, w = factors(snapshot)
    law = snapshot.problem.population
    if law is None:
        return gammas(u, w, snapshot.inputs, snapshot.targets)
    return gaussian_gammas(u, w, law.teacher, law.input_covariance, law.noise_covariance)


def sampled_noise_trace(
    snapshot: Snapshot,
    signs: Mapping[str, float],
    inputs: Tensor,
    targets: Tensor,
    *,
    whole: bool,
) -> NoiseTrace:
    """Tr[Σ Q] and ∇Lᵀ Q ∇L of samples (n, ...), Q = ±1 on each named parameter.

    The samples take the place of runs, each with the run's parameters and a batch of one.

    Args:
        snapshot: the run and the step at which the noise is measured.
        signs: ±1 by the name of each parameter that Q touches; at least one.
        inputs: (n, ...), one row a sample.
        targets: (n, ...), of the same samples.
        whole: they are all the data that there are. Otherwise they stand for the population that
            they were drawn from, n > 1, and both numbers are free of bias.
    """
    mean = {name: torch.zeros_like(snapshot.parameters[name]) for name in signs}
    second, count = next(iter(mean.values())).new_zeros(()), len(inputs)
    for x, y in zip(inputs.split(_CHUNK), targets.split(_CHUNK), strict=True):
        many = {n: t.expand(len(x), *t.shape) for n, t in snapshot.parameters.items()}
        gradients = snapshot.problem.loss_and_gradient(many, x[:, None], y[:, None]).gradients
        for name, sign in signs.items():
            second = second + sign * gradients[name].square().sum() / count
            mean[name] = mean[name] + gradients[name].sum(0) / count
    drift = reduce(add, (sign * mean[name].square().sum() for name, sign in signs.items()))
    if whole:
        return NoiseTrace(second - drift, drift)
    covariance = (second - drift) * count / (count - 1)
    return NoiseTrace(covariance, drift - covariance / count)
