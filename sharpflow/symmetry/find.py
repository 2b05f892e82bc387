"""The symmetries of a function of parameters, found from its gradients alone.

Where (O, I) is a symmetry, ⟨∂s/∂O_j, O_j⟩ = ⟨∂s/∂I_j, I_j⟩ for every unit j and every number s that
is computed from the outputs. So these products, taken for a few random s, agree between the places
where a unit is made and those where it is read, and hardly anywhere else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpflow.curvature.graphs import graph_mode, nodes_of
from sharpflow.curvature.linear_operator import check_finite
from sharpflow.symmetry.relations import relations
from sharpflow.symmetry.shared_units import Kind, Slots, Symmetry

Function = Callable[[dict[str, Tensor]], Tensor]
_POINTS, _READ_OUTS = 8, 16
"""Parameters to look at, and numbers computed from the outputs, over all of them."""
_EXACT = 1e-9
"""Of a relation between products; what is verified then is the function."""
_DEAD = 1e-12
"""Products below this part of the largest are rounding."""
_WHOLE, _FEW = 512, 32
"""Units up to which every pair is looked at; of more, the pairs of a few."""


def symmetries_of(
    function: Function, params: Mapping[str, Tensor], *, tolerance: float = 1e-10
) -> tuple[Symmetry, ...]:
    """The continuous symmetries of a function of parameters.

    Nothing is asked of how it is computed. Parameters are moved a little, so that biases of zero
    and norms of one hide nothing; every symmetry is verified by moving along its orbit.

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
    probe = Probe(function, params)
    found = [s for s in candidates(probe) if probe.deviation(s) <= tolerance]
    return tuple(found)


@dataclass(frozen=True)
class Axis:
    """Products ⟨∂s/∂θ, θ⟩ of a parameter, added up but for one axis.

    Attributes:
        parameter, ndim, axis: as of `Slots`.
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

    Attributes:
        points: the parameters to look at.
        axes: of all parameters that the outputs depend on.
    """

    def __init__(self, function: Function, params: Mapping[str, Tensor]) -> None:
        if not params:
            raise ValueError("params is empty; a symmetry needs at least one parameter tensor.")
        self.function = function
        self.points = [_moved(params, seed) for seed in range(_POINTS)]
        self.axes = self._axes()
        self._outputs: Tensor | None = None

    def outputs(self, params: dict[str, Tensor]) -> Tensor:
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
        check_finite(outputs.detach(), "the output")
        return outputs.flatten()

    def deviation(self, symmetry: Symmetry, params: dict[str, Tensor] | None = None) -> float:
        """How far outputs move along a random orbit of a symmetry, over the largest output."""
        at = self.points[0] if params is None else params
        with torch.no_grad():
            if params is not None or self._outputs is None:
                reference = self.outputs(at)
            else:
                reference = self._outputs
            if params is None:
                self._outputs = reference
            try:
                there = self.outputs(symmetry.moved(at, random_direction(symmetry)))
            except ValueError:
                return float("inf")
            size = max(float(reference.abs().max()), torch.finfo(reference.dtype).tiny)
            return float((there - reference).abs().max()) / size

    def gradients(
        self, point: int, count: int, seed: int
    ) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Parameters, and gradients in them of some random numbers s, one after another."""
        stream = torch.Generator().manual_seed(seed)
        with graph_mode(second=False):
            leaves = {n: p.clone().requires_grad_() for n, p in self.points[point].items()}
            outputs = self.outputs(leaves)
            if not outputs.requires_grad:
                raise ValueError(
                    "outputs depend on none of the parameters; use those that the function is "
                    "given (torch.func.functional_call(model, params, inputs))."
                )
            self._order = _order(outputs, leaves)
            for _ in range(count):
                weights = torch.randn(outputs.shape, generator=stream, dtype=torch.float64)
                found = torch.autograd.grad(
                    outputs,
                    list(leaves.values()),
                    weights.to(outputs),
                    retain_graph=True,
                    allow_unused=True,
                )
                pairs = zip(leaves, found, strict=True)
                yield (
                    {n: p.detach() for n, p in leaves.items()},
                    {n: g for n, g in pairs if g is not None},
                )

    def _axes(self) -> list[Axis]:
        sums: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}
        with torch.no_grad():
            outputs = self.outputs(self.points[0]).numel()
        each = max(1, min(_READ_OUTS // _POINTS, outputs))
        while len(self.points) * each < _READ_OUTS:
            self.points.append(_moved(self.points[0], len(self.points)))
        for point in range(len(self.points)):
            for values, slopes in self.gradients(point, each, seed=point):
                for name, value in values.items():
                    slope = slopes.get(name)
                    product = (torch.zeros_like(value) if slope is None else slope * value).cpu()
                    for axis in range(-value.ndim, 0):
                        rest = [i for i in range(-value.ndim, 0) if i != axis]
                        pair = (product, product.abs())
                        added = tuple(each.sum(rest) if rest else each for each in pair)
                        sums.setdefault((name, axis), []).append(added)
        found = []
        for (name, axis), pairs in sums.items():
            both = [torch.stack(each) for each in zip(*pairs, strict=True)]
            ndim = self.points[0][name].ndim
            found.append(Axis(name, ndim, axis, self._order.get(name, 0), *both))
        largest = max((float(axis.sizes.max()) for axis in found if len(axis)), default=0.0)
        alive = [a for a in found if len(a) and float(a.sizes.max()) > _DEAD * largest]
        return sorted(alive, key=lambda axis: axis.order)


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
    known = _Known()
    found: list[Sides] = []
    largest = max((float(axis.sizes.max()) for axis in probe.axes), default=0.0)
    for units in sorted({len(axis) for axis in probe.axes}, reverse=True):
        views = [view for axis in probe.axes for view in _views(axis, units)]
        views = [view for view in views if float(view.sizes.max()) > _DEAD * largest]
        for sides in _related(views, units):
            if not known.implies(sides):
                known.add(sides)
                found.append(sides)
    for group in _groups(probe.axes, known):
        known.add((group, []))
        found.append((group, []))
    wholes = [Symmetry("rescaling", tuple(_slots(a)), tuple(_slots(b))) for a, b in found]
    for sides, blocks in zip(found, mixing_blocks(probe, wholes), strict=True):
        yield from _symmetries(sides, blocks)


Sides = tuple[list[View], list[View]]


class _Known:
    """Relations that were found, as rows over the places of parameters."""

    def __init__(self) -> None:
        self.rows: list[dict[tuple[str, int, int], float]] = []
        self.owners: dict[tuple[str, int, int], list[int]] = {}
        self.totals: list[dict[str, float]] = []

    def add(self, sides: Sides) -> None:
        """Remember a relation, unit by unit, and of whole parameters where it reaches them."""
        for unit in range(len((sides[0] or sides[1])[0].entries)):
            row = _row(sides, unit)
            for place in row:
                self.owners.setdefault(place, []).append(len(self.rows))
            self.rows.append(row)
        total = _total(sides)
        if total is not None:
            self.totals.append(total)

    def implies(self, sides: Sides) -> bool:
        """Whether a relation follows from those that were found."""
        total = _total(sides)
        if total is not None and _spanned(total, self.totals):
            return True
        units = len((sides[0] or sides[1])[0].entries)
        return all(self._implies_row(_row(sides, unit)) for unit in {0, units // 2, units - 1})

    def _implies_row(self, row: dict[tuple[str, int, int], float]) -> bool:
        near: set[int] = set()
        ahead = list(row)
        while ahead:
            for owner in self.owners.get(ahead.pop(), ()):
                if owner not in near:
                    near.add(owner)
                    ahead.extend(self.rows[owner])
        return _spanned(row, [self.rows[i] for i in near])

    def scales(self, name: str) -> bool:
        """Whether a scale of one parameter was found."""
        return any(set(total) == {name} for total in self.totals)


def _row(sides: Sides, unit: int) -> dict[tuple[str, int, int], float]:
    row: dict[tuple[str, int, int], float] = {}
    for side, sign in zip(sides, (1.0, -1.0), strict=True):
        for view in side:
            for entry in view.entries[unit].tolist():
                place = (view.of.parameter, view.of.axis, entry)
                row[place] = row.get(place, 0.0) + sign
    return row


def _total(sides: Sides) -> dict[str, float] | None:
    """What all units together do to each parameter; None unless to each as a whole."""
    places: dict[tuple[str, int], list[tuple[int, float]]] = {}
    lengths: dict[tuple[str, int], int] = {}
    for side, sign in zip(sides, (1.0, -1.0), strict=True):
        for view in side:
            key = (view.of.parameter, view.of.axis)
            lengths[key] = len(view.of)
            places.setdefault(key, []).extend((e, sign) for e in view.entries.flatten().tolist())
    total: dict[str, float] = {}
    for (name, axis), held in places.items():
        signs = {sign for _, sign in held}
        if len({e for e, _ in held}) != lengths[name, axis] or len(signs) > 1:
            return None
        total[name] = total.get(name, 0.0) + signs.pop()
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
        if axis.axis == min(range(-axis.ndim, 0), key=lambda i: (_length(axis, i), i)):
            yield View(axis, torch.arange(len(axis))[None])
        return
    places = torch.arange(len(axis))
    each, rest = divmod(len(axis), units)
    if rest or not each:
        return
    if each == 1:
        yield View(axis, places[:, None])
        return
    yield View(axis, places.view(units, each))
    if each <= 4:
        for part in places.view(each, units):
            yield View(axis, part[:, None])
    else:
        yield View(axis, places.view(each, units).T)


def _length(axis: Axis, other: int) -> int:
    return 0 if other == axis.axis and len(axis) == 1 else 1


def _related(views: list[View], units: int) -> Iterator[Sides]:
    """Groups of views that grow and that shrink together."""
    views = sorted(views, key=lambda view: view.order)
    rows = len(views[0].sums) * units if views else 0
    most = max(2, min(len(views), rows - 6))
    seen = set()
    for start in range(0, max(1, len(views) - most + most // 2), max(1, most // 2)):
        window = views[start : start + most]
        for found in _window(window, units):
            key = tuple(sorted((start + i, int(c)) for i, c in enumerate(found.tolist()) if c))
            if key in seen or tuple((i, -c) for i, c in key) in seen:
                continue
            seen.add(key)
            grown = [window[i] for i in range(len(window)) if found[i] > 0]
            shrunk = [window[i] for i in range(len(window)) if found[i] < 0]
            if any(view.entries.shape[1] == 1 for view in (*grown, *shrunk)) or units == 1:
                yield _sided(grown, shrunk)


def _window(views: list[View], units: int) -> list[Tensor]:
    """Relations between views, from as many of their units as that takes."""
    sums = torch.stack([view.sums for view in views], -1)
    sizes = torch.stack([view.sizes for view in views], -1)
    enough = -(-(2 * len(views) + 64) // len(sums))
    if enough < units:
        chosen = torch.randperm(units, generator=torch.Generator().manual_seed(0))[:enough]
        sums, sizes = sums[:, chosen], sizes[:, chosen]
    norms = sizes.flatten(0, 1).norm(dim=0)
    norms = torch.where(norms > 0, norms, 1.0)
    return relations(sums.flatten(0, 1), norms, _EXACT)


def _sided(grown: list[View], shrunk: list[View]) -> Sides:
    """Outer views and inner ones: those whose first is used first."""
    if not grown or not shrunk:
        return grown or shrunk, []
    first, second = (min(view.order for view in side) for side in (grown, shrunk))
    return (shrunk, grown) if first < second else (grown, shrunk)


def _slots(views: Sequence[View], units: Tensor | None = None) -> Iterator[Slots]:
    """Slots of views, those of one axis joined; of some units only, where given."""
    joined: dict[tuple[str, int], list[View]] = {}
    for view in views:
        joined.setdefault((view.of.parameter, view.of.axis), []).append(view)
    for same in joined.values():
        entries = torch.cat([view.entries for view in same], 1)
        axis = same[0].of
        entries = entries if units is None else entries[units]
        yield Slots(axis.parameter, axis.ndim, axis.axis, entries)


def _symmetries(sides: Sides, blocks: list[list[int]]) -> Iterator[Symmetry]:
    """A relation as symmetries: blocks of units that may be mixed, and the other units."""
    outer, inner = sides
    if not inner:
        yield Symmetry("scale", tuple(_slots(outer)))
        return
    alone = [block[0] for block in blocks if len(block) == 1]
    parts: list[tuple[Kind, list[int]]] = [("rotation", b) for b in blocks if len(b) > 1]
    parts += [("rescaling", alone)] if alone else []
    for kind, chosen in parts:
        units = torch.tensor(chosen)
        yield Symmetry(kind, tuple(_slots(outer, units)), tuple(_slots(inner, units)))


def mixing_blocks(probe: Probe, symmetries: Sequence[Symmetry]) -> list[list[list[int]]]:
    """The units of each rescaling, in blocks whose members any matrix may mix.

    Of many units a few are looked at, and all where one of them may be mixed with another.
    """
    stream = torch.Generator().manual_seed(0)
    two_sided = [i for i, each in enumerate(symmetries) if each.inner and each.units > 1]
    few = {
        i: torch.randperm(symmetries[i].units, generator=stream)[:_FEW]
        if symmetries[i].units > _WHOLE
        else torch.arange(symmetries[i].units)
        for i in two_sided
    }
    alike = _alike(probe, symmetries, few)
    mixed = {
        i: torch.arange(symmetries[i].units)
        for i, found in alike.items()
        if len(found) < symmetries[i].units and int(found.sum()) > len(found)
    }
    alike |= _alike(probe, symmetries, mixed)
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
    probe: Probe, symmetries: Sequence[Symmetry], chosen: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """Of symmetries, (chosen, units): whether unit i can take the place of j.

    It is so where ⟨∂s/∂O_j, O_i⟩ = ⟨∂s/∂I_i, I_j⟩, and not zero. A unit that is never switched off
    looks linear: so parameters are looked at under which other units are.
    """
    alike = {i: torch.ones(len(units), symmetries[i].units).bool() for i, units in chosen.items()}
    for point in range(len(probe.points) if alike else 0):
        for values, slopes in probe.gradients(point, 1, seed=100 + point):
            for i, units in chosen.items():
                outer, inner = (
                    _products(side, values, slopes, units, made)
                    for side, made in ((symmetries[i].outer, False), (symmetries[i].inner, True))
                )
                size = torch.maximum(outer.abs(), inner.abs())
                same = (outer - inner).abs() <= 1e-7 * size
                alike[i] &= same & (size > _DEAD * float(size.max()))
    for i, units in chosen.items():
        alike[i][torch.arange(len(units)), units] = True
    return alike


def _products(
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


def _groups(axes: list[Axis], known: _Known) -> Iterator[list[View]]:
    """Groups of places of a parameter, or of one and its bias, whose products add up to zero."""
    for axis in axes:
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
                yield [_grouped(each, units) for each in group]
                break


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
        if bool((total.abs() <= 1e-8 * size.norm()).all()):
            return units
    return 0


def _moved(params: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Copies in float64 of other signs, each number changed by about 0.3 of it, and no zeros."""
    stream = torch.Generator().manual_seed(seed)
    moved = {}
    with torch.inference_mode(False):
        for name, given in params.items():
            value = given.detach().to(torch.float64, copy=True)
            noise = torch.randn(value.shape, generator=stream, dtype=torch.float64).to(value.device)
            size = float(value.square().mean().sqrt()) if value.numel() else 0.0
            size = size or 1.0 / max(value.shape[-1] if value.ndim else 1, 1) ** 0.5
            sign = torch.randint(0, 2, value.shape, generator=stream).mul(2).sub(1).to(value)
            factor = sign * (0.3 * noise).exp()
            moved[name] = torch.where(value == 0, 0.3 * size * noise, value * factor)
    return moved


def _order(outputs: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, int]:
    """When each parameter is used first, from the graph of the outputs."""
    names = {id(leaf): name for name, leaf in leaves.items()}
    order: dict[str, int] = {}
    for node in nodes_of([outputs]):
        for following, _ in node.next_functions:
            name = names.get(id(getattr(following, "variable", None)))
            if name is not None:
                number = node._sequence_nr()
                order[name] = min(order.get(name, number), number)
    return order
