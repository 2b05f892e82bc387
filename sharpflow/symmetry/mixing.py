"""Which units of a rescaling any matrix may mix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sharpflow.symmetry.probe import DEAD, Probe
from sharpflow.symmetry.shared_units import Kind, Slots, Symmetry

_WHOLE, _FEW = 128, 32
"""Units up to which every pair is looked at; of more, the pairs of a few."""


def mixing_parts(symmetry: Symmetry, blocks: list[list[int]]) -> Iterator[Symmetry]:
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
                    alike[i] &= same & (size > DEAD * float(size.max()))
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
