"""The metric that an adaptive optimiser steps in, and its stability threshold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Preconditioning:
    """What a full-batch step of an optimiser is stable against, at its present state.

    Attributes:
        diagonal: P, (P,), in the order of the parameters: steps are −η P⁻¹ times an average of
            gradients.
        threshold: largest stable eigenvalue of P^-½ H P^-½: 2/η for plain steps, (2 + 2β)/η with
            momentum, (2 + 2β)/((1 − β)η) where momentum averages, 38/η for Adam at β₁ = 0.9.
            Infinite where η = 0, as at the ends of many schedules.
    """

    diagonal: Tensor
    threshold: float


def preconditioning(optimiser: Optimizer, params: Mapping[str, Tensor]) -> Preconditioning:
    """P and the stability threshold of a `torch.optim` optimiser.

    Source: Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability". Weight decay is
    left out of the threshold. Groups may differ in their learning rate, which is then part of P:
    the threshold is that of the first group whose learning rate is not 0.

    Args:
        optimiser: `SGD`, `Adam`, `AdamW`, `RMSprop` or `Adagrad`.
        params: the parameters that vary, by name.

    Raises:
        ValueError: another optimiser, one that has taken no step or does not hold a parameter,
            maximises, or whose groups have different momenta.
    """
    check_optimiser(optimiser)
    squares, momentum = _KINDS[type(optimiser)]
    groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    used = [groups[id(p)] for p in params.values() if id(p) in groups]
    reference: Group | None = next((group for group in used if group["lr"]), None)
    parts = []
    for name, parameter in params.items():
        group = groups.get(id(parameter))
        if group is None:
            raise ValueError(f"the optimiser does not hold the parameter {name!r}.")
        reference = reference or group
        if group["maximize"] or momentum(group) != momentum(reference):
            raise ValueError("the optimiser maximises, or its groups have different momenta.")
        state = optimiser.state.get(parameter, {})
        if squares is None:
            metric = torch.ones_like(parameter)
        elif not state:
            raise ValueError(
                f"the optimiser has no state of {name!r} yet; take a step before measuring."
            )
        else:
            metric = squares(state, group)
        slower = _ratio(float(reference["lr"]), float(group["lr"])) * _decay(group, state)
        parts.append((metric * slower).detach().reshape(-1))
    assert reference is not None
    threshold = _ratio(float(momentum(reference)), float(reference["lr"]))
    return Preconditioning(torch.cat(parts), threshold)


def check_optimiser(optimiser: Optimizer) -> None:
    """Raise ValueError for an optimiser whose threshold is not known."""
    if type(optimiser) not in _KINDS:
        known = ", ".join(kind.__name__ for kind in _KINDS)
        raise ValueError(
            f"the threshold of {type(optimiser).__name__} is not known; those of {known} are."
        )


def _ratio(first: float, second: float) -> float:
    """1 for equal numbers, 0 and 0 too; infinite where the second alone is 0."""
    if first == second:
        return 1.0
    return first / second if second else float("inf")


def _decay(group: Group, state: Mapping[str, Any]) -> float:
    """What the learning rate has been divided by (`lr_decay` of Adagrad)."""
    if "lr_decay" in group and state:
        return 1.0 + (float(state["step"]) - 1.0) * group["lr_decay"]
    return 1.0


def _adam(state: Mapping[str, Any], group: Group) -> Tensor:
    first, second = group["betas"]
    steps = float(state["step"])
    square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return (1 - first**steps) * ((square / (1 - second**steps)).sqrt() + group["eps"])


def _rmsprop(state: Mapping[str, Any], group: Group) -> Tensor:
    square = state["square_avg"]
    if group["centered"]:
        square = square - state["grad_avg"] ** 2
    return square.sqrt() + group["eps"]


def _adagrad(state: Mapping[str, Any], group: Group) -> Tensor:
    return state["sum"].sqrt() + group["eps"]


def _averaging(group: Group) -> float:
    beta = group["betas"][0]
    return (2 + 2 * beta) / (1 - beta)


def _sgd(group: Group) -> float:
    beta, damping = group["momentum"], group["dampening"]
    if group["nesterov"]:
        return (2 + 2 * beta) / (1 + 2 * beta)
    return (2 + 2 * beta) / ((1 - damping) if beta else 1.0)


_KINDS: dict[
    type[Optimizer],
    tuple[Callable[[Mapping[str, Any], Group], Tensor] | None, Callable[[Group], float]],
] = {
    SGD: (None, _sgd),
    Adam: (_adam, _averaging),
    AdamW: (_adam, _averaging),
    RMSprop: (_rmsprop, lambda group: 2 + 2 * group["momentum"]),
    Adagrad: (_adagrad, lambda _: 2.0),
}
"""P from the state and group of a parameter (None: the identity), and threshold times η."""
