"""Relations between places of parameters: which follow from those that were found."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from sharpflow.symmetry.probe import Axis
from sharpflow.symmetry.shared_units import Slots, Symmetry

Place = tuple[str, int, int, int]
"""Name of a parameter, axis, groups and entry, as of `Slots`."""
Stretch = tuple[str, int, int | None, tuple[int, ...]]
"""Name of a parameter, axis, its length, and entries: some of a whole axis."""


class Known:
    """Relations that were found, as rows over the places of parameters.

    Args:
        axes: of the parameters.
    """

    def __init__(self, axes: Iterable[Axis]) -> None:
        self._firsts = {a.parameter: len(a) for a in axes if a.axis == -a.ndim}
        self.rows: list[dict[Place, float]] = []
        self.owners: dict[Place, list[int]] = {}
        self._sums: list[dict[Stretch | str, float]] = []

    def add(self, symmetry: Symmetry) -> None:
        """Remember a relation, unit by unit, and of whole parameters where it reaches them."""
        rows = _rows(symmetry, range(symmetry.units))
        for row in [*rows, *_over_groups(symmetry, rows, self._firsts)]:
            for place in row:
                self.owners.setdefault(place, []).append(len(self.rows))
            self.rows.append(row)
        self._sums.append(_sum(symmetry))

    def implies(self, symmetry: Symmetry) -> bool:
        """Whether a relation follows from those that were found."""
        total = _sum(symmetry)
        if _whole(total) and _spanned(total, list(filter(_whole, self._sums))):
            return True
        if symmetry.units == 1 and _spanned(total, [*self._sums, *self._joined()]):
            return True
        chosen = {0, symmetry.units // 2, symmetry.units - 1}
        return all(self._implies_row(row) for row in _rows(symmetry, chosen))

    def _joined(self) -> Iterator[dict[Stretch | str, float]]:
        """That stretches which make up an axis are the whole parameter together."""
        found: dict[tuple[str, int, int | None], set[Stretch]] = {}
        for key in (key for row in self._sums for key in row if not isinstance(key, str)):
            found.setdefault(key[:3], set()).add(key)
        for (name, _, length), parts in found.items():
            if sorted(entry for part in parts for entry in part[3]) == list(range(length or 0)):
                yield {name: 1.0} | dict.fromkeys(parts, -1.0)

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
        return any(place in self.owners for place in _places(axis))

    def fills(self, axis: Axis) -> bool:
        """Whether relations have all places of an axis."""
        return all(place in self.owners for place in _places(axis))

    def scales(self, name: str) -> bool:
        """Whether a scale of one parameter was found."""
        return any(set(total) == {name} for total in self._sums)


def _places(axis: Axis) -> Iterator[Place]:
    return ((axis.parameter, axis.axis, axis.groups, entry) for entry in range(len(axis)))


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


def _sum(symmetry: Symmetry) -> dict[Stretch | str, float]:
    """What all units together do to each parameter, or to a stretch of one."""
    total: dict[Stretch | str, float] = {}
    for slots, sign in _signed(symmetry):
        entries = tuple(sorted(set(slots.entries.flatten().tolist())))
        whole = len(entries) == slots.length
        key = slots.parameter if whole else (slots.parameter, slots.axis, slots.length, entries)
        total[key] = total.get(key, 0.0) + sign
    return total


def _whole(total: Mapping[Stretch | str, float]) -> bool:
    """Whether it is of whole parameters alone."""
    return all(isinstance(key, str) for key in total)


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
