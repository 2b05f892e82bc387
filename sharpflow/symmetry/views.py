"""The ways in which units may lie on the axes of parameters."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpflow.symmetry.known import Place
from sharpflow.symmetry.probe import Axis
from sharpflow.symmetry.shared_units import Slots

_PARTS = 4
"""Parts of an axis up to which each is looked at by itself."""
_STRETCHES = 32
"""Stretches of an axis up to which each is."""


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


def whole_views(axis: Axis, units: int) -> Iterator[View]:
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


def stretch_views(axis: Axis, units: int) -> Iterator[View]:
    """An axis of these units, or the stretches of a longer one in which they may lie.

    So they do where the outputs of layers of other widths are joined before or behind them: at a
    multiple of what divides both lengths.
    """
    each, rest = divmod(len(axis), units)
    if each == 1 and not rest:
        yield View(axis, torch.arange(units)[:, None])
    if each < 1 or axis.groups > 1 or (not rest and each <= _PARTS):
        return
    starts = range(0, len(axis) - units + 1, math.gcd(len(axis), units))
    if len(starts) <= _STRETCHES:
        yield from (View(axis, torch.arange(start, start + units)[:, None]) for start in starts)


def interleaved_views(axis: Axis, units: int) -> Iterator[View]:
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


def grouped_view(axis: Axis, units: int) -> View:
    """An axis cut into units of equal length."""
    return View(axis, torch.arange(len(axis)).view(units, -1))


def places_of(views: Sequence[View]) -> set[Place]:
    """All places of some views."""
    return {
        (view.of.parameter, view.of.axis, view.of.groups, entry)
        for view in views
        for entry in view.entries.flatten().tolist()
    }


def slots_of(views: Sequence[View]) -> tuple[Slots, ...]:
    """Slots of views, those of one axis joined."""
    joined: dict[tuple[str, int, int], list[View]] = {}
    for view in views:
        joined.setdefault((view.of.parameter, view.of.axis, view.of.groups), []).append(view)
    found = []
    for (name, axis, groups), same in joined.items():
        entries = torch.cat([view.entries for view in same], 1)
        found.append(Slots(name, same[0].of.ndim, axis, entries, len(same[0].of), groups))
    return tuple(found)
