"""A loss as a function of one flat vector of parameters, with its first three derivatives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature.graphs import Leaves, check_scalar, dense, graph_mode, second_derivatives
from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.curvature.operators import flatten_parameters, hessian_operator
from sharpflow.flows.pairs import pairs
from sharpflow.flows.third_derivatives import RightThirdDerivatives

Parameters = dict[str, Tensor]


class Point(ABC):
    """A loss L at one vector of parameters w, (p,)."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """L(w)."""

    @property
    @abstractmethod
    def gradient(self) -> Tensor:
        """∇L(w), (p,)."""

    @abstractmethod
    def hessian(self) -> LinearOperator:
        """H = ∇²L(w), (p, p)."""

    @abstractmethod
    def third_derivatives(self, directions: Tensor) -> Tensor:
        """T_ij = ∇(uᵢᵀ H uⱼ) with u held fixed.

        Args:
            directions: u₁ … u_k, (p, k).

        Returns:
            (k(k + 1)/2, p): T_ij for i ≤ j, in the order (1, 1), (1, 2), …, (1, k), (2, 2), …
        """

    @property
    @abstractmethod
    def outputs(self) -> Tensor:
        """The network's outputs f(w), (n, …)."""

    @abstractmethod
    def second_outputs(self, directions: Tensor) -> Tensor:
        """f''[uᵢ, uⱼ], the outputs' second derivatives along pairs of directions.

        Args:
            directions: u₁ … u_k, (p, k).

        Returns:
            (k(k + 1)/2, n, …), pairs in the order of `third_derivatives`.
        """


class Objective(ABC):
    """What a flow follows: a loss of flat parameters.

    Attributes:
        size: p.
        dtype, device: of the vectors that it takes.
        kinks: what keeps it from having third derivatives, ReLU say; None where nothing is known
            to.
        spread: whether a jump of the second derivative (ELU) is spread in the third one, which then
            is one over many samples only.
    """

    size: int
    dtype: torch.dtype
    device: torch.device
    kinks: str | None = None
    spread: bool = False

    @abstractmethod
    def at(self, weights: Tensor) -> Point:
        """The loss at parameters (p,), which are cast to `dtype`."""

    @property
    @abstractmethod
    def start(self) -> Tensor:
        """The parameters that it was made with, (p,), float64."""

    @abstractmethod
    def named(self, weights: Tensor) -> Parameters:
        """Flat parameters by name, each of its own shape."""


class AutogradObjective(Objective):
    """Any loss that autograd differentiates three times.

    Args:
        loss: maps a dict of parameters to a scalar; or, where a loss is a weighted sum over parts
            of the data, an object with `pieces`.
        parameters: where it starts, by name; flat vectors hold them row-major in the dict's order.
        outputs: maps a dict of parameters to the network's outputs; may be left out.

    Raises:
        ValueError: as for `sharpflow.curvature.hessian_operator`.
    """

    def __init__(
        self,
        loss: Callable[[Parameters], Tensor],
        parameters: Mapping[str, Tensor],
        outputs: Callable[[Parameters], Tensor] | None = None,
    ) -> None:
        leaves = Leaves(parameters)
        self._loss, self._outputs = loss, outputs
        self._start = flatten_parameters(parameters).double().clone()
        self._shapes = {name: tensor.shape for name, tensor in parameters.items()}
        self.size, self.dtype, self.device = leaves.total, leaves.dtype, leaves.device

    @property
    def start(self) -> Tensor:
        """The parameters that it was made with, (p,), float64."""
        return self._start

    def named(self, weights: Tensor) -> Parameters:
        """Flat parameters by name, each of its own shape."""
        parts = weights.split([shape.numel() for shape in self._shapes.values()])
        return {n: p.view(s) for p, (n, s) in zip(parts, self._shapes.items(), strict=True)}

    def at(self, weights: Tensor) -> "AutogradPoint":
        """The loss at parameters (p,), which are cast to `dtype`."""
        return AutogradPoint(self, self.named(weights.to(self.dtype)))

    def pieces(self) -> Iterator[tuple[Callable[[Parameters], Tensor], float]]:
        """Losses of the parts of the data, each a function of parameters, with their weights."""
        yield self._loss, 1.0

    def inside(self, leaves: Parameters, compute: Callable[[], Any]) -> Any:
        """What `compute()` gives where the loss may be evaluated and differentiated."""
        return compute()

    def hessian(self, parameters: Parameters) -> LinearOperator:
        """∇²L at parameters."""
        return hessian_operator(self._loss, parameters)

    def outputs(self, leaves: Parameters) -> Tensor:
        """The network's outputs as a function of parameters.

        Raises:
            ValueError: it has none.
        """
        if self._outputs is None:
            raise ValueError("the outputs are not known: give `outputs`, a function of parameters.")
        return self._outputs(leaves)


class AutogradPoint(Point):
    """A loss at one vector of parameters, differentiated by autograd."""

    def __init__(self, objective: AutogradObjective, parameters: Parameters) -> None:
        self._of, self._parameters = objective, parameters
        self._first: tuple[float, Tensor] | None = None

    def _evaluate(self) -> tuple[float, Tensor]:
        if self._first is None:
            leaves = Leaves(self._parameters)
            total, slope = 0.0, torch.zeros(leaves.total, dtype=leaves.dtype, device=leaves.device)
            for loss, weight in self._of.pieces():

                def differentiate(loss: Any = loss) -> tuple[Tensor, list[Tensor | None]]:
                    value = loss(dict(leaves.by_name))
                    check_scalar(value)
                    found = torch.autograd.grad(value, leaves.tensors, allow_unused=True)
                    return value.detach(), [None if g is None else dense(g) for g in found]

                with graph_mode(), second_derivatives():
                    value, found = self._of.inside(dict(leaves.by_name), differentiate)
                total += weight * float(value)
                slope.add_(leaves.flatten(found), alpha=weight)
            check_finite(slope, "the gradient of the loss")
            self._first = total, slope
        return self._first

    @property
    def loss(self) -> float:
        """L(w)."""
        return self._evaluate()[0]

    @property
    def gradient(self) -> Tensor:
        """∇L(w), (p,)."""
        return self._evaluate()[1]

    def hessian(self) -> LinearOperator:
        """H = ∇²L(w), (p, p)."""
        return self._of.hessian(self._parameters)

    def third_derivatives(self, directions: Tensor) -> Tensor:
        """T_ij = ∇(uᵢᵀ H uⱼ) by reverse mode, three times over; see `Point`."""
        leaves = Leaves(self._parameters)
        count = directions.shape[1]
        split = [leaves.split(column.contiguous()) for column in directions.to(leaves.dtype).T]
        result = torch.zeros(
            len(pairs(count)), leaves.total, dtype=leaves.dtype, device=leaves.device
        )
        for loss, weight in self._of.pieces():
            with graph_mode(), second_derivatives(), RightThirdDerivatives():
                found = self._of.inside(
                    dict(leaves.by_name), lambda loss=loss: _third(loss, leaves, split)
                )
            for row, parts in zip(result, found, strict=True):
                row.add_(leaves.flatten(parts), alpha=weight)
        check_finite(result, "the third derivative of the loss")
        return result

    @property
    def outputs(self) -> Tensor:
        """The network's outputs f(w), (n, …)."""
        with torch.no_grad():
            return self._of.outputs(self._parameters).detach()

    def second_outputs(self, directions: Tensor) -> Tensor:
        """f''[uᵢ, uⱼ] by two forward derivatives; see `Point`."""
        split = [self._of.named(column) for column in directions.to(self._of.dtype).T]

        def along(index: int, parameters: Parameters) -> Tensor:
            return torch.func.jvp(self._of.outputs, (parameters,), (split[index],))[1]

        rows = [
            torch.func.jvp(lambda p, i=i: along(i, p), (self._parameters,), (split[j],))[1]
            for i, j in pairs(directions.shape[1])
        ]
        return torch.stack(rows) if rows else self.outputs[None][:0]


def _third(
    loss: Callable[[Parameters], Tensor], leaves: Leaves, directions: list[list[Tensor]]
) -> list[list[Tensor | None]]:
    """∇(uᵢᵀ H uⱼ) of one loss, for i ≤ j; None where it has no part."""
    tensors = leaves.tensors
    value = loss(dict(leaves.by_name))

    def derivative(scalar: Tensor | None) -> list[Tensor | None]:
        if scalar is None or not scalar.requires_grad:
            return [None] * len(tensors)
        return list(torch.autograd.grad(scalar, tensors, create_graph=True, allow_unused=True))

    slope = derivative(value)
    products = [derivative(_inner(slope, direction)) for direction in directions]
    found = []
    for i, j in pairs(len(directions)):
        scalar = _inner(products[i], directions[j])
        if scalar is None or not scalar.requires_grad:
            found.append([None] * len(tensors))
            continue
        each = torch.autograd.grad(scalar, tensors, retain_graph=True, allow_unused=True)
        found.append([None if g is None else g.detach() for g in each])
    return found


def _inner(first: list[Tensor | None], second: list[Tensor]) -> Tensor | None:
    terms = [(f * s).sum() for f, s in zip(first, second, strict=True) if f is not None]
    return torch.stack(terms).sum() if terms else None
