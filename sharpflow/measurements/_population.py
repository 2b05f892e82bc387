"""What the measurements of Gaussian experiments share."""

from collections.abc import Callable

import torch
from torch import Tensor

from sharpflow.curvature import NonFiniteError
from sharpflow.data.gaussian import Population
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Snapshot
from sharpflow.models import Parameters
from sharpflow.models.two_layer import TwoLayerLinear
from sharpflow.training import Problem, generator


def population_of(problem: Problem) -> Population:
    """The population that a shard's samples come from.

    Raises:
        ConfigError: the data are a dataset of images.
    """
    if problem.population is None:
        raise ConfigError("measurements: this experiment's measurements need `gaussian` data.")
    return problem.population


def factors(snapshot: Snapshot) -> tuple[Tensor, Tensor]:
    """U (d2, d) and W (d, d0) of one run.

    Raises:
        ConfigError: the network has no two layers.
        NonFiniteError: the run left the finite numbers.
    """
    try:
        u, w = snapshot.parameters["u"], snapshot.parameters["w"]
    except KeyError:
        raise ConfigError("measurements: this one needs a network of two layers.") from None
    if not bool(torch.isfinite(u).all() and torch.isfinite(w).all()):
        raise NonFiniteError("the run left the finite numbers")
    return u, w


def linear_factors(snapshot: Snapshot) -> tuple[Tensor, Tensor]:
    """`factors` of a linear network.

    Raises:
        ConfigError: the network is not a linear one of two layers.
    """
    if not isinstance(snapshot.problem.model, TwoLayerLinear):
        raise ConfigError(
            "measurements: noise_balance, equilibrium and hessian_trace need the model two_layer "
            "with activation linear."
        )
    return factors(snapshot)


def held_out(snapshot: Snapshot, purpose: str, *shape: int) -> tuple[Tensor, Tensor]:
    """Samples (*shape, d0) and (*shape, d2) of the population, of this run, purpose and step."""
    problem = snapshot.problem
    population = population_of(problem)
    source = generator(problem.experiment, problem.seeds[snapshot.run], purpose, snapshot.step)
    return population.sample(torch.randn(*shape, population.size, generator=source))


def sample_loss(problem: Problem) -> Callable[[Parameters, Tensor, Tensor], Tensor]:
    """The loss of one sample as a function of one run's parameters, for per-sample gradients."""

    def loss(parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        batched = {name: t.unsqueeze(0) for name, t in parameters.items()}
        return problem.loss(problem.model(batched, x[None, None]), y[None, None])[0]

    return loss
