"""The symmetries of a function of parameters, found from its gradients alone.

Where (O, I) is a symmetry, ⟨∂s/∂O_j, O_j⟩ = ⟨∂s/∂I_j, I_j⟩ for every unit j and every number s that
is computed from the outputs. So these products, taken for a few random s, agree between the places
where a unit is made and those where it is read, and hardly anywhere else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sharpflow.arguments import check_not_negative
from sharpflow.symmetry.known import Known
from sharpflow.symmetry.mixing import mixing_blocks, mixing_parts
from sharpflow.symmetry.probe import DEAD, Axis, Function, Probe
from sharpflow.symmetry.relations import relations
from sharpflow.symmetry.shared_units import Symmetry
from sharpflow.symmetry.views import (
    View,
    grouped_view,
    interleaved_views,
    places_of,
    slots_of,
    stretch_views,
    whole_views,
)

_EXACT = 1e-9
"""Of a relation between products; what is verified then is the function."""
_ZERO = 1e-11
"""Of a sum that is zero by itself: rounding is 1e-15, and what the ε of a norm leaves 1e-9."""
_LOOSE = 1e-6
"""Of the same over all units, where what is not zero is of order one."""
_NUMBERS = 2**19
"""Products that relations are looked for in: in too few of them most units may be dead."""


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
        tolerance: largest change of the outputs along an orbit, over how much they vary between
            parameters.

    Returns:
        Symmetries that together generate all that are found: none is implied by the others.

    Raises:
        ValueError: outputs are no tensor, not finite, or depend on none of the parameters.
    """
    return verified(Probe(function, params), tolerance)


def verified(
    probe: Probe, tolerance: float, known: Sequence[Symmetry] = ()
) -> tuple[Symmetry, ...]:
    """The candidates along whose orbits outputs stay, but for those that follow from known ones.

    All are moved along at once: where that leaves outputs as they are, so does each.
    """
    check_not_negative("tolerance", tolerance)

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
    symmetries: Sequence[Symmetry], known: Sequence[Symmetry], axes: Sequence[Axis]
) -> list[Symmetry]:
    """Those of some symmetries that do to single units what does not follow from known ones."""
    rows = Known(axes)
    for each in known:
        rows.add(each)
    return [each for each in symmetries if not rows.implies(each)]


def candidates(probe: Probe) -> Iterator[Symmetry]:
    """What the products say are symmetries, those of many units first."""
    known = Known(probe.axes)
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
        add(_related(probe.axes, units, whole_views))
    for units in sorted({len(axis) for axis in left()} - {1}, reverse=True):
        add(_related([a for a in plain if not known.fills(a)], units, stretch_views))
    lengths = {part for axis in left() for part in (len(axis), len(axis) // 2) if part > 1}
    for units in sorted(lengths, reverse=True):
        add(_related(left(), units, interleaved_views))
    add(_scattered(left(), probe.axes))
    add(_groups(plain, known))
    add(_related(probe.axes, 1, whole_views))
    add(_modules(plain, known))
    order = {axis.parameter: axis.order for axis in probe.axes}
    found.sort(key=lambda each: min(order[s.parameter] for s in each.inner or each.outer))
    for each, blocks in zip(found, mixing_blocks(probe, found), strict=True):
        yield from mixing_parts(each, blocks)


def _related(
    axes: Sequence[Axis], units: int, views_of: Callable[[Axis, int], Iterator[View]]
) -> Iterator[Symmetry]:
    """Relations between views of axes."""
    views = [view for axis in axes for view in views_of(axis, units)]
    largest = max((float(axis.sizes.max()) for axis in axes), default=0.0)
    views = [view for view in views if float(view.sizes.max()) > DEAD * largest]
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
            if places_of(grown) & places_of(shrunk):
                continue  # two views that differ in nothing that matters
            if natural or units == 1 or views_of is interleaved_views:
                yield _symmetry(grown, shrunk, *(max(size, default=1) for size in sizes))


def _everywhere(views: Sequence[View], held: Mapping[int, int]) -> bool:
    """Whether a relation that a few units have is one of all of them: those few may be dead."""
    total = torch.stack([c * views[i].sums for i, c in held.items()]).sum(0)
    size = max(float(views[i].sizes.max()) for i in held)
    return bool(total.abs().max() <= _LOOSE * size)


def _scattered(axes: Sequence[Axis], readers: Sequence[Axis]) -> Iterator[Symmetry]:
    """Units of one module that are read at other places of an axis, in any order.

    So it is where outputs of several modules are joined, or shuffled.

    Args:
        axes: along which units may be made.
        readers: along which they may be read: a depthwise convolution's channels on the axis on
            which it makes its own.
    """
    made: dict[tuple[str, int], list[Axis]] = {}
    for axis in axes:
        if axis.axis == -axis.ndim:
            made.setdefault((axis.parameter.rpartition(".")[0], len(axis)), []).append(axis)
    for side in made.values():
        sums = torch.stack([axis.sums for axis in side]).sum(0)
        sizes = torch.stack([axis.sizes for axis in side]).sum(0)
        own = {axis.parameter.rpartition(".")[0] for axis in side}
        for axis in readers:
            if axis.ndim < 2 or axis.parameter.rpartition(".")[0] in own:
                continue
            if len(axis) < sums.shape[1]:
                continue
            entries = _matched(sums, axis.sums, 1e-8 * sizes.amax(0))
            if entries is not None:
                inner = [View(each, torch.arange(len(each))[:, None]) for each in side]
                yield Symmetry(
                    "rescaling", slots_of([View(axis, entries[:, None])]), slots_of(inner)
                )


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
        return Symmetry("scale", slots_of(grown or shrunk))
    first, second = (min(view.order for view in side) for side in (grown, shrunk))
    if first < second:
        grown, shrunk, more, less = shrunk, grown, less, more
    return Symmetry("rescaling", slots_of(grown), slots_of(shrunk), more / less)


def _groups(axes: list[Axis], known: Known) -> Iterator[Symmetry]:
    """Groups of places of a parameter, or of one and its bias, whose products add up to zero."""
    for axis in reversed(axes):  # what is nearest to a normalisation first
        if axis.axis != -axis.ndim or known.scales(axis.parameter):
            continue
        prefix = axis.parameter.rpartition(".")[0]
        biases = [
            other
            for other in axes
            if other.ndim == 1 < axis.ndim
            and len(other) == len(axis)
            and other.parameter.rpartition(".")[0] == prefix
        ]
        for group in ([axis], *([axis, bias] for bias in biases)):
            units = _finest(group)
            if units:
                yield Symmetry("scale", slots_of([grouped_view(each, units) for each in group]))
                break


def _modules(axes: list[Axis], known: Known) -> Iterator[Symmetry]:
    """Modules whose parameters have a common scale, beyond those that have one of their own."""
    last = {axis.parameter: axis for axis in axes if axis.axis == -1}
    parts = [name.split(".")[:-1] for name in last]
    paths = {".".join(path[:depth]) for path in parts for depth in range(len(path) + 1)}
    for path in sorted(paths, key=lambda path: (-path.count("."), path == "", path)):
        inside = [name for name in last if not path or name.startswith(f"{path}.")]
        views = [grouped_view(last[name], 1) for name in inside if not known.scales(name)]
        total = sum(view.sums for view in views)
        size = sum(view.sizes for view in views)
        if isinstance(total, Tensor) and isinstance(size, Tensor) and len(views) > 1:
            zero = bool((total.abs() <= _ZERO * size.norm()).all())
            yield from [Symmetry("scale", slots_of(views))] * zero


def _finest(group: list[Axis]) -> int:
    """The most parts of equal length over each of which products add up to zero; 0 if none."""
    length = len(group[0])
    for units in reversed([d for d in range(1, length + 1) if length % d == 0]):
        views = [grouped_view(axis, units) for axis in group]
        total = sum(view.sums for view in views)
        size = sum(view.sizes for view in views)
        assert isinstance(total, Tensor)
        assert isinstance(size, Tensor)
        if bool((total.abs() <= _ZERO * size.norm()).all()):
            return units
    return 0
