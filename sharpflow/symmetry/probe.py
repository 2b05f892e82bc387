"""A function of parameters, looked at through its gradients near the given ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature.graphs import graph_mode, nodes_of
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.symmetry.shared_units import Symmetry

Function = Callable[[dict[str, Tensor]], Tensor]
Inside = Callable[[dict[str, Tensor], Callable[[], Any]], Any]
_POINTS, _MORE = 8, 32
"""Parameters that are looked at, so that each unit is switched off at some; of small functions."""
_SMALL, _LARGE = 10_000, 1_000_000
"""Numbers in parameters up to which more are looked at; above which half, and with one s each."""
_VERIFIED = 2
"""Parameters near the given ones at which symmetries are verified, beside these themselves."""
_GIVEN = -1
"""The number of the given parameters as a point to look at."""
_ROUNDING = 8 * torch.finfo(torch.float64).eps
"""What an output may move by for its size."""
DEAD = 1e-12
"""Products below this part of the largest are rounding."""
LOW = (torch.float32, torch.float16, torch.bfloat16)
"""Precisions in which nothing can be told."""
_WIDER = 4
"""Units of all heads together, over the longest axis, up to which they are looked for."""

_CONSTANT = (
    "outputs depend on none of the parameters; use those that the function is given "
    "(torch.func.functional_call(model, params, inputs))."
)


@dataclass(frozen=True)
class Axis:
    """Products ⟨∂s/∂θ, θ⟩ of a parameter, added up but for one axis, or one in each of its groups.

    Attributes:
        parameter, ndim, axis, groups: as of `Slots`.
        order: where the parameter is used first.
        sums: (K, n), for K numbers s.
        sizes: (K, n), the same of absolute values.
    """

    parameter: str
    ndim: int
    axis: int
    order: int
    sums: Tensor
    sizes: Tensor
    groups: int = 1

    def __len__(self) -> int:
        return self.sums.shape[1]


class Probe:
    """A function of parameters, looked at near the given ones, in float64.

    Args:
        function: params → outputs.
        params: the parameters.
        inside: (params, compute) → what compute() gives while what the function holds has these
            parameters: a backward pass may call it again.
        fixed: the row of a parameter that nothing moves, as that of padding in an embedding.

    Attributes:
        points: numbers of the parameters that are looked at: outputs depend on most others there.
        axes: of all parameters that the outputs depend on.
    """

    def __init__(
        self,
        function: Function,
        params: Mapping[str, Tensor],
        inside: Inside = lambda _, compute: compute(),
        fixed: Mapping[str, int] | None = None,
    ) -> None:
        if not params:
            raise ValueError("params is empty; a symmetry needs at least one parameter tensor.")
        self.function, self._inside = function, inside
        self._references: dict[int, Tensor] = {}  # outputs at points
        self._signs = True
        self._params, self._fixed = params, fixed or {}
        self._size = sum(p.numel() for p in params.values())
        self.points: list[int] = []
        self._kept: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            start = self.outputs(self.point(0), finite=False)
        self._signs = bool(torch.isfinite(start).all())  # not where a parameter must be positive
        self.axes = self._axes()

    def point(self, number: int) -> dict[str, Tensor]:
        """Parameters to look at; those that symmetries are verified at are kept."""
        if number in self._kept:
            return dict(self._kept[number])
        if number == _GIVEN:
            return {name: p.detach().double() for name, p in self._params.items()}
        made = _moved(self._params, number, self._signs)
        for name, row in self._fixed.items():
            made[name][row] = self._params[name][row].detach().double()
        if number in (self.points or range(_VERIFIED))[:_VERIFIED]:
            self._kept[number] = made
        return dict(made)

    def outputs(self, params: dict[str, Tensor], finite: bool = True) -> Tensor:
        """The outputs as one vector.

        Raises:
            ValueError: they are no tensor of floating-point numbers, empty, or not finite.
        """
        outputs = self.function(dict(params))
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(f"outputs are {kind}; they must be a tensor of real numbers.")
        if not outputs.numel():
            raise ValueError("outputs hold no number; give inputs with at least one sample.")
        if finite:
            check_finite(outputs.detach(), "the output")
        return outputs.flatten()

    def deviation(self, *symmetries: Symmetry) -> float:
        """How far outputs move at most along random orbits, over how much outputs vary."""
        return max(self._deviations(symmetries))

    def holds(self, symmetries: Sequence[Symmetry], tolerance: float) -> bool:
        """Whether outputs stay along random orbits, wherever symmetries are verified."""
        return all(each <= tolerance for each in self._deviations(symmetries))

    def _deviations(self, symmetries: Sequence[Symmetry]) -> Iterator[float]:
        """At each point, along symmetries one after another; at the given one both ways.

        What has many signs, as most points do, hides what saturates at weights of one sign.
        """
        near = self.points[:_VERIFIED]
        for number, way in (*((each, 1) for each in near), (_GIVEN, 1), (_GIVEN, -1)):
            there = self.point(number)
            for each in symmetries:
                there = each.moved(there, way * random_direction(each))
            beside = self._reference(self.points[0] if number != self.points[0] else _GIVEN)
            yield distance(self.function, self._reference(number), there, beside)

    def _reference(self, number: int) -> Tensor:
        if number not in self._references:
            with torch.no_grad():
                self._references[number] = self.outputs(self.point(number))
        return self._references[number]

    def gradients(
        self, number: int, count: int
    ) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Parameters, and gradients in them of some random numbers s, one after another."""
        stream = torch.Generator().manual_seed(number)
        with graph_mode(second=False):
            leaves = {n: p.detach().requires_grad_() for n, p in self.point(number).items()}
            outputs = self.outputs(leaves)
            if not outputs.requires_grad:
                raise ValueError(_CONSTANT)
            self._order = _order(outputs, leaves)
            for _ in range(count):
                weights = torch.randn(outputs.shape, generator=stream, dtype=torch.float64)
                differentiate = partial(
                    torch.autograd.grad,
                    outputs,
                    list(leaves.values()),
                    weights.to(outputs),
                    retain_graph=True,
                    allow_unused=True,
                )
                found = self._inside(leaves, differentiate)
                pairs = zip(leaves, found, strict=True)
                yield (
                    {n: p.detach() for n, p in leaves.items()},
                    {n: g.to_dense() if g.is_sparse else g for n, g in pairs if g is not None},
                )

    def _axes(self) -> list[Axis]:
        """All axes that the outputs depend on, from points at which most of the function is alive.

        A unit that is switched off for all samples hides what comes before it.

        Raises:
            ValueError: outputs depend on none of the parameters.
        """
        points, each = (_POINTS // 2, 1) if self._size > _LARGE else (_POINTS, 2)
        groups = _groupings({name: tuple(p.shape) for name, p in self._params.items()})
        found: list[tuple[int, dict[tuple[str, int, int], tuple[Tensor, Tensor]]]] = []
        good: list[int] = []
        for number in range(_MORE):
            found += [(number, _products(*pair, groups)) for pair in self.gradients(number, each)]
            alive = [sum(int((size > 0).sum()) for _, size in one.values()) for _, one in found]
            good = [i for i, count in enumerate(alive) if count > 0.5 * max(alive)]
            if len(good) >= each * points:
                break
        if not good:
            raise ValueError(_CONSTANT)
        self.points = list(dict.fromkeys(found[i][0] for i in good))
        axes = []
        for name, axis, parts in found[0][1]:
            key = name, axis, parts
            both = [torch.stack([found[i][1][key][j] for i in good]) for j in range(2)]
            order = self._order.get(name, 0)
            axes.append(Axis(name, self._params[name].ndim, axis, order, both[0], both[1], parts))
        largest = max((float(axis.sizes.max()) for axis in axes if len(axis)), default=0.0)
        alive = [a for a in axes if len(a) and float(a.sizes.max()) > DEAD * largest]
        return sorted(alive, key=lambda axis: axis.order)

    def numbers(self) -> list[int]:
        """Points to tell linear units by: more of a small function."""
        more = range(_MORE, 2 * _MORE if self._size <= _SMALL else _MORE + 4)
        return [*self.points, *more]


def distance(
    function: Function, here: Tensor, there: Mapping[str, Tensor], beside: Tensor
) -> float:
    """How far a function's values lie apart, over how much they vary.

    Over the largest value it would be nothing wherever one is large whatever the parameters are: a
    logit that a mask fills, an offset. What is rounding of a value is no distance.

    Args:
        function: params → outputs.
        here: outputs at some parameters.
        there: parameters.
        beside: outputs at other parameters than the first, which no symmetry leads to.
    """
    with torch.no_grad():
        moved = (function(dict(there)).flatten() - here).abs() - _ROUNDING * here.abs()
        alike = beside.shape == here.shape
        size = float((beside - here).abs().max() if alike else here.abs().max())
        farthest = float(moved.clamp(min=0).max())
    if farthest != farthest:
        return float("inf")
    return farthest / max(size, torch.finfo(torch.float64).tiny)


def random_direction(symmetry: Symmetry) -> Tensor:
    """An A of a symmetry with numbers of order 0.3, always the same."""
    stream = torch.Generator().manual_seed(0)
    units = symmetry.units
    if symmetry.kind != "rotation":
        return 0.3 * torch.randn(units, generator=stream, dtype=torch.float64)
    raw = torch.randn(units, units, generator=stream, dtype=torch.float64)
    return 0.15 * (raw + raw.T) / units**0.5


def _groupings(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[tuple[int, int]]]:
    """Axes of parameters with the numbers of groups in which units may lie on them.

    Looked at are groups of a convolution in which as many units lie as on an axis of another
    parameter, and heads, as many as the first of three axes is long.
    """
    lengths = {length for shape in shapes.values() for length in shape}
    found: dict[str, list[tuple[int, int]]] = {}
    heads = {s[0] * length for s in shapes.values() if len(s) == 3 for length in s[1:] if s[0] > 1}
    for name, shape in shapes.items():
        if len(shape) < 3 or shape[0] < 2:
            continue
        second = shape[1]
        parts = {n // second for n in lengths if second > 1 and n > second and not n % second}
        pairs = {(1 - len(shape), g) for g in parts if not shape[0] % g}
        if len(shape) == 3:
            pairs |= {
                (axis, shape[0])
                for axis in (-2, -1)
                if shape[axis] > 1 and shape[0] * shape[axis] <= _WIDER * max(lengths)
                if shape[0] * shape[axis] in heads | lengths
            }
        if pairs:
            found[name] = sorted(pairs)
    return found


def _products(
    values: Mapping[str, Tensor],
    slopes: Mapping[str, Tensor],
    groups: Mapping[str, Sequence[tuple[int, int]]],
) -> dict[tuple[str, int, int], tuple[Tensor, Tensor]]:
    """Sums of slope times value but for each axis of each parameter, and of absolute values."""
    found = {}
    for name, value in values.items():
        slope = slopes.get(name)
        product = (torch.zeros_like(value) if slope is None else slope * value).cpu()
        product = torch.atleast_1d(product)  # a number is a unit by itself
        both = product, product.abs()
        pairs = zip(*map(_marginals, both), strict=True)
        found |= {(name, axis, 1): pair for axis, pair in enumerate(pairs, -product.ndim)}
        for axis, parts in groups.get(name, ()):
            first, second = (_grouped_marginal(each, axis, parts) for each in both)
            found[name, axis, parts] = first, second
    return found


def _moved(params: Mapping[str, Tensor], seed: int, signs: bool) -> dict[str, Tensor]:
    """Copies in float64, each 0.7 to 1.7 times as large, of other signs or not, and no zeros."""
    stream = torch.Generator().manual_seed(seed)
    moved = {}
    with torch.inference_mode(False):
        for name, given in params.items():
            value = given.detach().to(torch.float64, copy=True)
            size = float(value.square().mean().sqrt()) if value.numel() else 0.0
            size = size or 1.0 / max(value.shape[-1] if value.ndim else 1, 1) ** 0.5
            turn = torch.rand(value.shape, generator=stream, dtype=torch.float64)
            factor = turn.mul_(2).sub_(1).to(value.device)
            factor.add_(factor.sign(), alpha=0.7)
            factor = factor if signs else factor.abs_()
            zero = value == 0
            value.mul_(factor)
            moved[name] = (
                torch.where(zero, 0.3 * size * factor, value) if bool(zero.any()) else value
            )
    return moved


def _grouped_marginal(values: Tensor, axis: int, groups: int) -> Tensor:
    """Sums over all but an axis in each of some groups of the first."""
    parts = values.unflatten(0, (groups, -1)).movedim(axis, 1)
    return parts.flatten(2).sum(-1).flatten()


def _marginals(values: Tensor) -> list[Tensor]:
    """For each axis of a tensor, its sums over all others."""
    if values.ndim < 2:
        return [values] * values.ndim
    half = values.ndim // 2
    first, second = range(half), range(half, values.ndim)
    return _marginals(values.sum(tuple(second))) + _marginals(values.sum(tuple(first)))


def _order(outputs: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, int]:
    """When each parameter is used first, from the graph of the outputs.

    Raises:
        ValueError: something in the graph has lower precision than float64.
    """
    names = {id(leaf): name for name, leaf in leaves.items()}
    order: dict[str, int] = {}
    for node in nodes_of([outputs]):
        for kind in node._input_metadata:
            if getattr(kind, "dtype", torch.float64) in LOW:
                raise ValueError(
                    f"outputs are computed in {kind.dtype} inside ({node.name()}), whatever the "
                    "precision of the parameters, which hides whether they stay as they are: find "
                    "symmetries without torch.autocast, and of a function that keeps the precision "
                    "that it is given."
                )
        for following, _ in node.next_functions:
            name = names.get(id(getattr(following, "variable", None)))
            if name is not None:
                number = node._sequence_nr()
                order[name] = min(order.get(name, number), number)
    return order
