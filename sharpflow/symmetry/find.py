"""The symmetries of a function of parameters, found from its gradients alone.

Where (O, I) is a symmetry, ⟨∂s/∂O_j, O_j⟩ = ⟨∂s/∂I_j, I_j⟩ for every unit j and every number s that
is computed from the outputs. So these products, taken for a few random s, agree between the places
where a unit is made and those where it is read, and hardly anywhere else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature.graphs import graph_mode, nodes_of
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.symmetry.relations import relations
from sharpflow.symmetry.shared_units import Kind, Slots, Symmetry

Place = tuple[str, int, int, int]
"""Name of a parameter, axis, groups and entry, as of `Slots`."""
Function = Callable[[dict[str, Tensor]], Tensor]
Inside = Callable[[dict[str, Tensor], Callable[[], Any]], Any]
_POINTS, _MORE = 8, 32
"""Parameters that are looked at, so that each unit is switched off at some; of small functions."""
_SMALL, _LARGE = 10_000, 1_000_000
"""Numbers in parameters up to which more are looked at; above which half, and with one s each."""
_VERIFIED = 2
"""Parameters at which symmetries are verified."""
_EXACT = 1e-9
"""Of a relation between products; what is verified then is the function."""
_ZERO = 1e-11
"""Of a sum that is zero by itself: rounding is 1e-15, and what the ε of a norm leaves 1e-9."""
_LOOSE = 1e-6
"""Of the same over all units, where what is not zero is of order one."""
_DEAD = 1e-12
"""Products below this part of the largest are rounding."""
LOW = (torch.float32, torch.float16, torch.bfloat16)
"""Precisions in which nothing can be told."""
_PARTS = 4
"""Parts of an axis up to which each is looked at by itself."""
_NUMBERS = 2**19
"""Products that relations are looked for in: in too few of them most units may be dead."""
_WIDER = 4
"""Units of all heads together, over the longest axis, up to which they are looked for."""
_WHOLE, _FEW = 128, 32
"""Units up to which every pair is looked at; of more, the pairs of a few."""


def symmetries_of(
    function: Function, params: Mapping[str, Tensor], *, tolerance: float = 1e-10
) -> tuple[Symmetry, ...]:
    """The continuous symmetries of a function of parameters.

    Nothing is asked of how it is computed. Parameters are given other signs and sizes, so that
    biases of zero and norms of one hide nothing, and every symmetry is verified by moving along its
    orbit. Units lie along one axis of each parameter, or along one of each group of its first: of a
    grouped convolution, or of heads. Not found are symmetries without a charge, those of units that
    are read to more than one power, or to one that is no ratio of whole numbers up to 4.

    Args:
        function: params → outputs, a tensor of any shape; no other state, and no randomness. It is
            evaluated in float64.
        params: the parameters, by name.
        tolerance: largest change of the outputs along an orbit, over the largest output.

    Returns:
        Symmetries that together generate all that are found: none is implied by the others.

    Raises:
        ValueError: outputs are no tensor, not finite, or depend on none of the parameters.
    """
    return verified(Probe(function, params), tolerance)


def verified(
    probe: "Probe", tolerance: float, known: Sequence[Symmetry] = ()
) -> tuple[Symmetry, ...]:
    """The candidates along whose orbits outputs stay, but for those that follow from known ones.

    All are moved along at once: where that leaves outputs as they are, so does each.
    """

    def holding(some: Sequence[Symmetry], doubtful: bool = False) -> list[Symmetry]:
        if not some:
            return []
        if (len(some) == 1 or not doubtful) and probe.holds(some, tolerance):
            return list(some)
        if len(some) == 1:
            return []
        half = len(some) // 2
        first = holding(some[:half])
        return first + holding(some[half:], doubtful=len(first) == half)

    return tuple(holding(unimplied(list(candidates(probe)), known, probe.axes)))


def unimplied(
    symmetries: Sequence[Symmetry], known: Sequence[Symmetry], axes: Sequence["Axis"]
) -> list[Symmetry]:
    """Those of some symmetries that do to single units what does not follow from known ones."""
    rows = _Known(axes)
    for each in known:
        rows.add(each)
    return [each for each in symmetries if not rows.implies(each)]


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


@dataclass(frozen=True)
class View:
    """Units (d, r) on an axis, with the products of each, (K, d)."""

    of: Axis
    entries: Tensor
    sums: Tensor = field(init=False)
    sizes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        for name in ("sums", "sizes"):
            values = getattr(self.of, name)[:, self.entries.flatten()]
            object.__setattr__(self, name, values.unflatten(1, tuple(self.entries.shape)).sum(-1))

    @property
    def order(self) -> tuple[int, int]:
        """Where the parameter is used, and the first place on the axis."""
        return self.of.order, int(self.entries.min())


class Probe:
    """A function of parameters, looked at near the given ones, in float64.

    Args:
        function: params → outputs.
        params: the parameters.
        inside: (params, compute) → what compute() gives while what the function holds has these
            parameters: a backward pass may call it again.

    Attributes:
        points: numbers of the parameters that are looked at: outputs depend on most others there.
        axes: of all parameters that the outputs depend on.
    """

    def __init__(
        self,
        function: Function,
        params: Mapping[str, Tensor],
        inside: Inside = lambda _, compute: compute(),
    ) -> None:
        if not params:
            raise ValueError("params is empty; a symmetry needs at least one parameter tensor.")
        self.function, self._inside = function, inside
        self._references: dict[int, Tensor] = {}
        self._signs = True
        self._params = params
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
        made = _moved(self._params, number, self._signs)
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
        """How far outputs move along random orbits, one after another, over the largest output."""
        return self._deviation(self.points[0], symmetries)

    def holds(self, symmetries: Sequence[Symmetry], tolerance: float) -> bool:
        """Whether outputs stay along random orbits, wherever symmetries are verified."""
        points = self.points[:_VERIFIED]
        return all(self._deviation(number, symmetries) <= tolerance for number in points)

    def _deviation(self, number: int, symmetries: Sequence[Symmetry]) -> float:
        here = there = self.point(number)
        for each in symmetries:
            there = each.moved(there, random_direction(each))
        if number not in self._references:
            with torch.no_grad():
                self._references[number] = self.outputs(here)
        return distance(self.function, self._references[number], there)

    def gradients(
        self, number: int, count: int
    ) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Parameters, and gradients in them of some random numbers s, one after another."""
        stream = torch.Generator().manual_seed(number)
        with graph_mode(second=False):
            leaves = {n: p.detach().requires_grad_() for n, p in self.point(number).items()}
            outputs = self.outputs(leaves)
            if not outputs.requires_grad:
                raise ValueError(
                    "outputs depend on none of the parameters; use those that the function is "
                    "given (torch.func.functional_call(model, params, inputs))."
                )
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
                    {n: g for n, g in pairs if g is not None},
                )

    def _axes(self) -> list[Axis]:
        """All axes that the outputs depend on, from points at which most of the function is alive.

        A unit that is switched off for all samples hides what comes before it.
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
        self.points = list(dict.fromkeys(found[i][0] for i in good))
        axes = []
        for name, axis, parts in found[0][1]:
            key = name, axis, parts
            both = [torch.stack([found[i][1][key][j] for i in good]) for j in range(2)]
            order = self._order.get(name, 0)
            axes.append(Axis(name, self._params[name].ndim, axis, order, both[0], both[1], parts))
        largest = max((float(axis.sizes.max()) for axis in axes if len(axis)), default=0.0)
        alive = [a for a in axes if len(a) and float(a.sizes.max()) > _DEAD * largest]
        return sorted(alive, key=lambda axis: axis.order)

    def numbers(self) -> list[int]:
        """Points to tell linear units by: more of a small function."""
        more = range(_MORE, 2 * _MORE if self._size <= _SMALL else _MORE + 4)
        return [*self.points, *more]


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
        both = product, product.abs()
        pairs = zip(*map(_marginals, both), strict=True)
        found |= {(name, axis, 1): pair for axis, pair in enumerate(pairs, -value.ndim)}
        for axis, parts in groups.get(name, ()):
            first, second = (_grouped_marginal(each, axis, parts) for each in both)
            found[name, axis, parts] = first, second
    return found


def distance(
    function: Function, here: Mapping[str, Tensor] | Tensor, there: Mapping[str, Tensor]
) -> float:
    """How far a function's values lie apart, over the largest; one may be given in its place."""
    with torch.no_grad():
        first = here if isinstance(here, Tensor) else function(dict(here)).flatten()
        size = max(float(first.abs().max()), torch.finfo(torch.float64).tiny)
        moved = float((function(dict(there)).flatten() - first).abs().max())
    return moved / size if moved == moved else float("inf")


def random_direction(symmetry: Symmetry) -> Tensor:
    """An A of a symmetry with numbers of order 0.3, always the same."""
    stream = torch.Generator().manual_seed(0)
    units = symmetry.units
    if symmetry.kind != "rotation":
        return 0.3 * torch.randn(units, generator=stream, dtype=torch.float64)
    raw = torch.randn(units, units, generator=stream, dtype=torch.float64)
    return 0.15 * (raw + raw.T) / units**0.5


def candidates(probe: Probe) -> Iterator[Symmetry]:
    """What the products say are symmetries, those of many units first."""
    known = _Known(probe.axes)
    found: list[Symmetry] = []

    def add(symmetries: Iterable[Symmetry]) -> None:
        for each in symmetries:
            if not known.implies(each):
                known.add(each)
                found.append(each)

    plain = [axis for axis in probe.axes if axis.groups == 1]

    def left() -> list[Axis]:
        return [axis for axis in plain if not known.holds(axis)]

    lengths = {len(axis) for axis in probe.axes}
    for units in sorted(lengths - {1}, reverse=True):
        add(_related(probe.axes, units, _views))
    lengths = {part for axis in left() for part in (len(axis), len(axis) // 2) if part > 1}
    for units in sorted(lengths, reverse=True):
        add(_related(left(), units, _interleaved))
    add(_scattered(left()))
    add(_groups(plain, known))
    if any(len(axis) == 1 for axis in probe.axes):
        add(_related(probe.axes, 1, _views))
    add(_modules(plain, known))
    order = {axis.parameter: axis.order for axis in probe.axes}
    found.sort(key=lambda each: min(order[s.parameter] for s in each.inner or each.outer))
    for each, blocks in zip(found, mixing_blocks(probe, found), strict=True):
        yield from _parts(each, blocks)


class _Known:
    """Relations that were found, as rows over the places of parameters.

    Args:
        axes: of the parameters.
    """

    def __init__(self, axes: Iterable[Axis]) -> None:
        self._firsts = {a.parameter: len(a) for a in axes if a.axis == -a.ndim}
        self.rows: list[dict[Place, float]] = []
        self.owners: dict[Place, list[int]] = {}
        self.totals: list[dict[str, float]] = []

    def add(self, symmetry: Symmetry) -> None:
        """Remember a relation, unit by unit, and of whole parameters where it reaches them."""
        rows = _rows(symmetry, range(symmetry.units))
        for row in [*rows, *_over_groups(symmetry, rows, self._firsts)]:
            for place in row:
                self.owners.setdefault(place, []).append(len(self.rows))
            self.rows.append(row)
        total = _total(symmetry)
        if total is not None:
            self.totals.append(total)

    def implies(self, symmetry: Symmetry) -> bool:
        """Whether a relation follows from those that were found."""
        total = _total(symmetry)
        if total is not None and _spanned(total, self.totals):
            return True
        chosen = {0, symmetry.units // 2, symmetry.units - 1}
        return all(self._implies_row(row) for row in _rows(symmetry, chosen))

    def _implies_row(self, row: dict[Place, float]) -> bool:
        near: set[int] = set()
        ahead = list(row)
        while ahead:
            for owner in self.owners.get(ahead.pop(), ()):
                if owner not in near:
                    near.add(owner)
                    ahead.extend(self.rows[owner])
        return _spanned(row, [self.rows[i] for i in near])

    def holds(self, axis: Axis) -> bool:
        """Whether a relation has a place of an axis."""
        places = ((axis.parameter, axis.axis, axis.groups, entry) for entry in range(len(axis)))
        return any(place in self.owners for place in places)

    def scales(self, name: str) -> bool:
        """Whether a scale of one parameter was found."""
        return any(set(total) == {name} for total in self.totals)


def _signed(symmetry: Symmetry) -> Iterator[tuple[Slots, float]]:
    for side, sign in ((symmetry.outer, symmetry.degree), (symmetry.inner, -1.0)):
        yield from ((slots, sign) for slots in side)


def _rows(symmetry: Symmetry, units: Iterable[int]) -> list[dict[Place, float]]:
    """What a symmetry does to the places of parameters, for each of some units."""
    sides = [
        (s.parameter, s.axis, s.groups, s.entries.tolist(), sign) for s, sign in _signed(symmetry)
    ]
    rows = []
    for unit in units:
        row: dict[Place, float] = {}
        for name, axis, groups, entries, sign in sides:
            for entry in entries[unit]:
                place = name, axis, groups, entry
                row[place] = row.get(place, 0.0) + sign
        rows.append(row)
    return rows


def _over_groups(
    symmetry: Symmetry, rows: Sequence[dict[Place, float]], firsts: Mapping[str, int]
) -> list[dict[Place, float]]:
    """What a symmetry of units that lie in groups does to one place of each group, and to a group.

    Args:
        symmetry: any.
        rows: what it does to the places of parameters.
        firsts: lengths of the parameters' first axes.
    """
    split = [slots for slots, _ in _signed(symmetry) if slots.groups > 1]
    if not split or any(s.groups != split[0].groups or s.length != symmetry.units for s in split):
        return []
    each = symmetry.units // split[0].groups
    ndims = {slots.parameter: slots.ndim for slots in split}
    across: list[dict[Place, float]] = [{} for _ in range(each)]
    along: list[dict[Place, float]] = [{} for _ in range(split[0].groups)]
    for unit, row in enumerate(rows):
        for (name, axis, groups, entry), value in row.items():
            one, group = across[unit % each], along[unit // each]
            if groups == 1:
                for wide in (one, group):
                    key = name, axis, 1, entry
                    wide[key] = wide.get(key, 0.0) + value
                continue
            one[name, axis, 1, entry % each] = value
            length = firsts[name] // groups
            for place in range(entry // each * length, (entry // each + 1) * length):
                group[name, -ndims[name], 1, place] = value
    return across + along


def _total(symmetry: Symmetry) -> dict[str, float] | None:
    """What all units together do to each parameter; None unless to each as a whole."""
    total: dict[str, float] = {}
    for slots, sign in _signed(symmetry):
        if len(set(slots.entries.flatten().tolist())) != slots.length:
            return None
        total[slots.parameter] = total.get(slots.parameter, 0.0) + sign
    return total


def _spanned(row: Mapping, rows: Sequence[Mapping]) -> bool:
    """Whether a sparse row is a combination of others."""
    keys = {key: i for i, key in enumerate(dict.fromkeys(k for each in (row, *rows) for k in each))}
    if not rows:
        return not any(row.values())
    matrix = torch.zeros(len(keys), len(rows) + 1, dtype=torch.float64)
    for column, each in enumerate((*rows, row)):
        for key, value in each.items():
            matrix[keys[key], column] = value
    rest = torch.linalg.lstsq(matrix[:, :-1], matrix[:, -1:], driver="gelsd").solution
    return bool((matrix[:, :-1] @ rest - matrix[:, -1:]).abs().max() < 1e-8)


def _views(axis: Axis, units: int) -> Iterator[View]:
    """The ways in which `units` units may lie on an axis: as its places, as parts of it, apart."""
    if units == 1:  # all axes of a parameter say the same
        if axis.groups == 1 and (axis.axis == -1 or len(axis) == 1):
            yield View(axis, torch.arange(len(axis))[None])
        return
    places = torch.arange(len(axis))
    if axis.groups > 1 and len(axis) != units:
        return  # of fewer units than groups have, they lie on the axis itself
    each, rest = divmod(len(axis), units)
    if rest or not each:
        return
    if each == 1:
        yield View(axis, places[:, None])
        return
    yield View(axis, places.view(units, each))
    if each <= _PARTS:
        for part in places.view(each, units):
            yield View(axis, part[:, None])
    else:
        yield View(axis, places.view(each, units).T)


def _interleaved(axis: Axis, units: int) -> Iterator[View]:
    """All ways in which an axis is (a, c, b) with `units` = a·b: their sums over c, or one of c."""
    each, rest = divmod(len(axis), units)
    if rest or not each:
        return
    if each == 1:
        yield View(axis, torch.arange(len(axis))[:, None])
        return
    for inner in range(1, units + 1):
        if units % inner == 0:
            entries = torch.arange(len(axis)).view(-1, each, inner).mT.reshape(units, each)
            yield View(axis, entries)
            if each <= _PARTS and inner > 1:
                yield from (View(axis, part[:, None]) for part in entries.T)


def _related(
    axes: Sequence[Axis], units: int, views_of: Callable[[Axis, int], Iterator[View]]
) -> Iterator[Symmetry]:
    """Relations between views of axes."""
    views = [view for axis in axes for view in views_of(axis, units)]
    largest = max((float(axis.sizes.max()) for axis in axes), default=0.0)
    views = [view for view in views if float(view.sizes.max()) > _DEAD * largest]
    if units == 1:
        views = list({view.of.parameter: view for view in reversed(views)}.values())
    views.sort(key=lambda view: view.order)
    if not views:
        return
    rows = len(views[0].sums) * units
    most = max(2, min(len(views), rows - 6))
    seen = set()
    for start in range(0, max(1, len(views) - most + most // 2), max(1, most // 2)):
        window = views[start : start + most]
        for found in _window(window, units):
            held = {start + i: int(c) for i, c in enumerate(found.tolist()) if c}
            sizes = [{abs(c) for c in held.values() if (c > 0) == up} for up in (True, False)]
            if any(len(size) > 1 for size in sizes):
                continue  # units that are read to several powers
            key = frozenset(held.items())
            if not held or key in seen or frozenset((i, -c) for i, c in key) in seen:
                continue
            seen.add(key)
            if not _everywhere(views, held):
                continue
            grown, shrunk = (
                [views[i] for i, c in held.items() if (c > 0) == up] for up in (True, False)
            )
            natural = any(view.entries.shape[1] == 1 for view in (*grown, *shrunk))
            if _places(grown) & _places(shrunk):
                continue  # two views that differ in nothing that matters
            if natural or units == 1 or views_of is _interleaved:
                yield _symmetry(grown, shrunk, *(max(size, default=1) for size in sizes))


def _everywhere(views: Sequence[View], held: Mapping[int, int]) -> bool:
    """Whether a relation that a few units have is one of all of them: those few may be dead."""
    total = torch.stack([c * views[i].sums for i, c in held.items()]).sum(0)
    size = max(float(views[i].sizes.max()) for i in held)
    return bool(total.abs().max() <= _LOOSE * size)


def _places(views: Sequence[View]) -> set[Place]:
    return {
        (view.of.parameter, view.of.axis, view.of.groups, entry)
        for view in views
        for entry in view.entries.flatten().tolist()
    }


def _scattered(axes: Sequence[Axis]) -> Iterator[Symmetry]:
    """Units of one module that are read at other places of an axis, in any order.

    So it is where outputs of several modules are joined, or shuffled.
    """
    made: dict[tuple[str, int], list[Axis]] = {}
    for axis in axes:
        if axis.axis == -axis.ndim:
            made.setdefault((axis.parameter.rpartition(".")[0], len(axis)), []).append(axis)
    for side in made.values():
        sums = torch.stack([axis.sums for axis in side]).sum(0)
        sizes = torch.stack([axis.sizes for axis in side]).sum(0)
        for axis in axes:
            if axis.axis == -axis.ndim or len(axis) < sums.shape[1] or axis in side:
                continue
            entries = _matched(sums, axis.sums, 1e-8 * sizes.amax(0))
            if entries is not None:
                inner = [View(each, torch.arange(len(each))[:, None]) for each in side]
                yield Symmetry("rescaling", _slots([View(axis, entries[:, None])]), _slots(inner))


def _matched(some: Tensor, among: Tensor, slack: Tensor) -> Tensor | None:
    """For each column of the first, the one of the second that it equals; None unless all do."""
    order = among[0].argsort()
    ranks = torch.searchsorted(among[0][order].contiguous(), some[0].contiguous())
    found = torch.full((some.shape[1],), -1)
    for step in (-1, 0, 1):
        near = order[(ranks + step).clamp(0, among.shape[1] - 1)]
        same = ((among[:, near] - some).abs() <= slack).all(0) & (some.abs() > slack).any(0)
        found = torch.where(same, near, found)
    complete = bool((found >= 0).all()) and len(found.unique()) == len(found)
    return found if complete else None


def _window(views: list[View], units: int) -> list[Tensor]:
    """Relations between views, from as many of their units as that takes."""
    sums = torch.stack([view.sums for view in views], -1)
    sizes = torch.stack([view.sizes for view in views], -1)
    enough = max(-(-(2 * len(views) + 64) // len(sums)), _NUMBERS // (len(views) * len(sums)))
    if enough < units:
        chosen = torch.randperm(units, generator=torch.Generator().manual_seed(0))[:enough]
        sums, sizes = sums[:, chosen], sizes[:, chosen]
    norms = sizes.flatten(0, 1).norm(dim=0)
    norms = torch.where(norms > 0, norms, 1.0)
    return relations(sums.flatten(0, 1), norms, _EXACT)


def _symmetry(grown: list[View], shrunk: list[View], more: int, less: int) -> Symmetry:
    """A relation as one number a unit; its inner views are those whose first is used first.

    Args:
        grown: views on one side.
        shrunk: views on the other.
        more: coefficient of the former.
        less: coefficient of the latter.

    Returns:
        The symmetry, a scale where one side is empty.
    """
    if not grown or not shrunk:
        return Symmetry("scale", _slots(grown or shrunk))
    first, second = (min(view.order for view in side) for side in (grown, shrunk))
    if first < second:
        grown, shrunk, more, less = shrunk, grown, less, more
    return Symmetry("rescaling", _slots(grown), _slots(shrunk), more / less)


def _slots(views: Sequence[View]) -> tuple[Slots, ...]:
    """Slots of views, those of one axis joined."""
    joined: dict[tuple[str, int, int], list[View]] = {}
    for view in views:
        joined.setdefault((view.of.parameter, view.of.axis, view.of.groups), []).append(view)
    found = []
    for (name, axis, groups), same in joined.items():
        entries = torch.cat([view.entries for view in same], 1)
        found.append(Slots(name, same[0].of.ndim, axis, entries, len(same[0].of), groups))
    return tuple(found)


def _parts(symmetry: Symmetry, blocks: list[list[int]]) -> Iterator[Symmetry]:
    """A relation as blocks of units that may be mixed, and the other units."""
    alone = [block[0] for block in blocks if len(block) == 1]
    if len(alone) == symmetry.units:
        yield symmetry
        return
    kinds: list[tuple[Kind, list[int]]] = [("rotation", b) for b in blocks if len(b) > 1]
    if alone:
        kinds.append(("rescaling", alone))
    for kind, units in kinds:
        outer, inner = (
            tuple(replace(slots, entries=slots.entries[units]) for slots in side)
            for side in (symmetry.outer, symmetry.inner)
        )
        yield Symmetry(kind, outer, inner)


def mixing_blocks(probe: Probe, symmetries: Sequence[Symmetry]) -> list[list[list[int]]]:
    """The units of each rescaling, in blocks whose members any matrix may mix.

    Of many units a few are looked at, and all where one of them may be mixed with another.
    """
    stream = torch.Generator().manual_seed(0)
    two_sided = [i for i, s in enumerate(symmetries) if s.inner and s.units > 1 and s.degree == 1]
    few = {
        i: torch.randperm(symmetries[i].units, generator=stream)[:_FEW]
        if symmetries[i].units > _WHOLE
        else torch.arange(symmetries[i].units)
        for i in two_sided
    }
    alike = _alike(probe, symmetries, few, probe.points[:1])
    mixed = {
        i: torch.arange(symmetries[i].units)
        for i, found in alike.items()
        if int(found.sum()) > len(found)
    }
    alike |= _alike(probe, symmetries, mixed, probe.numbers())
    return [
        _blocks(alike[i])
        if i in alike and len(alike[i]) == each.units
        else [[unit] for unit in range(each.units)]
        for i, each in enumerate(symmetries)
    ]


def _blocks(alike: Tensor) -> list[list[int]]:
    """Groups of units all pairs of which are alike; a group that lacks one is taken apart."""
    alike = alike & alike.T
    blocks, left = [], set(range(len(alike)))
    while left:
        block = sorted(left & {*alike[min(left)].nonzero().flatten().tolist()})
        complete = bool(alike[block][:, block].all())
        blocks += [block] if complete else [[i] for i in block]
        left -= set(block)
    return blocks


def _alike(
    probe: Probe, symmetries: Sequence[Symmetry], chosen: Mapping[int, Tensor], points: list[int]
) -> dict[int, Tensor]:
    """Of symmetries, (chosen, units): whether unit i can take the place of j.

    It is so where ⟨∂s/∂O_j, O_i⟩ = ⟨∂s/∂I_i, I_j⟩, and not zero. A unit that is never switched off
    looks linear: so parameters are looked at under which other units are.
    """
    alike = {i: torch.ones(len(units), symmetries[i].units).bool() for i, units in chosen.items()}
    for number in points:
        if not any(int(same.sum()) > len(same) for same in alike.values()):
            break
        for values, slopes in probe.gradients(number, 1):
            for i, units in chosen.items():
                if int(alike[i].sum()) <= len(units):
                    continue
                outer, inner = (
                    _crossed(side, values, slopes, units, made)
                    for side, made in ((symmetries[i].outer, False), (symmetries[i].inner, True))
                )
                size = torch.maximum(outer.abs(), inner.abs())
                if bool(size.any()):
                    same = (outer - inner).abs() <= 1e-7 * size
                    alike[i] &= same & (size > _DEAD * float(size.max()))
                    alike[i][torch.arange(len(units)), units] = True
    return alike


def _crossed(
    side: tuple[Slots, ...],
    values: Mapping[str, Tensor],
    slopes: Mapping[str, Tensor],
    units: Tensor,
    made: bool,
) -> Tensor:
    """(chosen, units): ⟨slope of i, value of j⟩ of the rows of a side, j chosen; else i."""
    total: Tensor | None = None
    for slots in side:
        if slots.parameter in slopes:
            rows, slope = (slots.rows(each[slots.parameter]) for each in (values, slopes))
            left, right = (rows, slope) if made else (slope, rows)
            part = (left[units.to(left.device)] @ right.mT).cpu()
            total = part if total is None else total + part
    if total is not None:
        return total
    return torch.zeros(len(units), len(side[0].entries), dtype=torch.float64)


def _groups(axes: list[Axis], known: _Known) -> Iterator[Symmetry]:
    """Groups of places of a parameter, or of one and its bias, whose products add up to zero."""
    for axis in reversed(axes):  # what is nearest to a normalisation first
        if axis.ndim < 2 or axis.axis != -axis.ndim or known.scales(axis.parameter):
            continue
        prefix = axis.parameter.rpartition(".")[0]
        biases = [
            other
            for other in axes
            if other.ndim == 1
            and len(other) == len(axis)
            and other.parameter.rpartition(".")[0] == prefix
        ]
        for group in ([axis], *([axis, bias] for bias in biases)):
            units = _finest(group)
            if units:
                yield Symmetry("scale", _slots([_grouped(each, units) for each in group]))
                break


def _modules(axes: list[Axis], known: _Known) -> Iterator[Symmetry]:
    """Modules whose parameters have a common scale, beyond those that have one of their own."""
    last = {axis.parameter: axis for axis in axes if axis.axis == -1}
    parts = [name.split(".")[:-1] for name in last]
    paths = {".".join(path[:depth]) for path in parts for depth in range(len(path) + 1)}
    for path in sorted(paths, key=lambda path: (-path.count("."), path == "", path)):
        inside = [name for name in last if not path or name.startswith(f"{path}.")]
        views = [_grouped(last[name], 1) for name in inside if not known.scales(name)]
        total = sum(view.sums for view in views)
        size = sum(view.sizes for view in views)
        if isinstance(total, Tensor) and isinstance(size, Tensor) and len(views) > 1:
            zero = bool((total.abs() <= _ZERO * size.norm()).all())
            yield from [Symmetry("scale", _slots(views))] * zero


def _grouped(axis: Axis, units: int) -> View:
    return View(axis, torch.arange(len(axis)).view(units, -1))


def _finest(group: list[Axis]) -> int:
    """The most parts of equal length over each of which products add up to zero; 0 if none."""
    length = len(group[0])
    for units in reversed([d for d in range(1, length + 1) if length % d == 0]):
        views = [_grouped(axis, units) for axis in group]
        total = sum(view.sums for view in views)
        size = sum(view.sizes for view in views)
        assert isinstance(total, Tensor)
        assert isinstance(size, Tensor)
        if bool((total.abs() <= _ZERO * size.norm()).all()):
            return units
    return 0


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
