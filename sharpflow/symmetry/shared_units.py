"""Symmetries of a network's parameters, as units that two groups of parameters share.

A hidden unit that a homogeneous function leaves as it is may be scaled down where it is made and up
where it is read; units that nothing but linear maps join may be mixed by any matrix; what a
normalisation follows may be scaled at will (`ziyin2024`, section 4). What lies between may be
homogeneous of another degree than 1, as a squared rectifier is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal

import torch
from torch import Tensor

from sharpflow.symmetry._checks import check_symmetric
from sharpflow.symmetry.generators import Generator, Params

Kind = Literal["rescaling", "rotation", "scale"]
"""One number a unit; any symmetric matrix over the units; one number a unit, with no inner side."""


@dataclass(frozen=True, eq=False)
class Slots:
    """Where units lie in one parameter.

    Attributes:
        parameter: its name.
        ndim: its number of dimensions; a number (0) counts as one place on an axis.
        axis: the one that the units lie along, counted from the end: −1, −2, …
        entries: (units, r), the r places on that axis that belong to each unit.
        length: of the axis, where that is known.
        groups: equal parts of the first axis, each with places of its own on `axis`, one part's
            behind another's: so units lie that a grouped convolution reads.
    """

    parameter: str
    ndim: int
    axis: int
    entries: Tensor
    length: int | None = None
    groups: int = 1

    def meets(self, other: "Slots") -> bool:
        """Whether a number of the parameter is in both."""
        if self.parameter != other.parameter:
            return False
        along = self.axis == other.axis and self.groups == other.groups
        return not along or bool(torch.isin(self.entries, other.entries).any())

    def rows(self, tensor: Tensor) -> Tensor:
        """(..., units, k): what a tensor (..., *shape of the parameter) has of each unit."""
        lead = tensor.ndim - self.ndim
        front = self._front(tensor, lead)
        chosen = (
            front
            if self._whole(front.shape[lead])
            else front.index_select(lead, self._flat(tensor))
        )
        return chosen.unflatten(lead, tuple(self.entries.shape)).flatten(lead + 1)

    def with_rows(self, tensor: Tensor, rows: Tensor) -> Tensor:
        """The tensor, with other rows (..., units, k)."""
        lead = tensor.ndim - self.ndim
        front = self._front(tensor, lead)
        places = self._flat(tensor)
        shape = (*front.shape[:lead], len(places), *front.shape[lead + 1 :])
        changed = front.index_copy(lead, places, rows.reshape(shape))
        if not self.ndim:
            return changed.squeeze(lead)
        if self.groups == 1:
            return changed.movedim(lead, self.axis)
        parts = changed.unflatten(lead, (self.groups, -1)).movedim(lead + 1, self.axis)
        return parts.flatten(lead, lead + 1)

    def _front(self, tensor: Tensor, lead: int) -> Tensor:
        """The tensor with the units' places as the first of its own dimensions."""
        if not self.ndim:
            return tensor.unsqueeze(lead)
        if self.groups == 1:
            return tensor.movedim(self.axis, lead)
        parts = tensor.unflatten(lead, (self.groups, -1))
        return parts.movedim(self.axis, lead + 1).flatten(lead, lead + 1)

    def _whole(self, length: int) -> bool:
        """Whether it is all of an axis, in order: then nothing has to be copied."""
        places = self.entries.flatten()
        return len(places) == length and bool((places.diff() == 1).all())

    def _flat(self, tensor: Tensor) -> Tensor:
        return self.entries.flatten().to(tensor.device)

    def fits(self, tensor: Tensor) -> bool:
        """Whether the units lie in a tensor as in their parameter."""
        if tensor.ndim != self.ndim:
            return False
        length = tensor.shape[self.axis] if self.ndim else 1
        if self.groups == 1 and self.length not in (None, length):
            return False
        return int(self.entries.max()) < length * self.groups

    @property
    def label(self) -> str:
        """The parameter's name, with the places where it is not the whole axis."""
        places = self.entries.flatten().tolist()
        low, high = min(places), max(places)
        whole = not low and self.length in (None, high + 1)
        return self.parameter if whole else f"{self.parameter}[{low}:{high + 1}]"


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A continuous symmetry: the function stays while outer rows grow and inner rows shrink.

    With O and I the units' rows of all outer and of all inner slots, (units, r), A a diagonal
    (rescaling, scale) or symmetric (rotation) matrix over the units and k the degree, it is
    O → e^{kA} O, I → e^{−A} I, and its charges are the entries of k O Oᵀ − I Iᵀ that A reaches.

    Attributes:
        kind: which A are allowed.
        outer: slots of the units in the parameters that read them, or that only a scale has.
        inner: slots in the parameters that make them; empty for a scale.
        degree: k, of homogeneity of what lies between the two sides: 2 for a squared rectifier. It
            is 1 for scales and rotations.
    """

    kind: Kind
    outer: tuple[Slots, ...]
    inner: tuple[Slots, ...] = ()
    degree: float = 1.0

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.outer[0].entries)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that it moves, inner ones first."""
        return tuple(dict.fromkeys(slots.parameter for slots in (*self.inner, *self.outer)))

    @property
    def crossing(self) -> str:
        """A parameter with numbers on both sides, or ''.

        Units then move each other's, as those of a layer that is applied again and again do.
        """
        pairs = ((one, two) for one in self.outer for two in self.inner)
        return next((one.parameter for one, two in pairs if one.meets(two)), "")

    @property
    def name(self) -> str:
        """Its slots: inner ones, an arrow, outer ones; and its degree, where that is not 1."""
        sides = (", ".join(slots.label for slots in side) for side in (self.inner, self.outer))
        degree = f" (degree {self.degree:.3g})" if self.degree != 1 else ""
        return " → ".join(side for side in sides if side) + degree

    def grams(self, left: Params, right: Params | None = None) -> tuple[Tensor, Tensor]:
        """Inner products of the units' rows: k times those of the outer slots, and the inner ones.

        Args:
            left: values by parameter, (..., *shape): parameters, gradients, or many of them.
            right: likewise; `left` by default.

        Returns:
            Each (..., units), or (..., units, units) for a rotation.
        """
        other = left if right is None else right
        outer, inner = (self._gram(side, left, other) for side in (self.outer, self.inner))
        return self._weighed(outer), inner

    def sums(self, values: Params) -> tuple[Tensor, Tensor]:
        """Sums over each unit's entries: k times those of the outer slots, and the inner ones.

        Args:
            values: by parameter, (..., *shape).

        Returns:
            Each (..., units).
        """
        outer, inner = (
            [slots.rows(values[slots.parameter]).sum(-1) for slots in side]
            for side in (self.outer, self.inner)
        )
        total = self._weighed(reduce(add, outer))
        return total, reduce(add, inner) if inner else torch.zeros_like(total)

    def charge(self, params: Params) -> Tensor:
        """Noether charges k|O|² − |I|² of each unit, or O Oᵀ − I Iᵀ for a rotation.

        Returns:
            (..., units), or (..., units, units) for a rotation.
        """
        outer, inner = self.grams(params)
        return outer - inner

    def moved(self, params: Params, a: Tensor) -> dict[str, Tensor]:
        """The parameters moved along the symmetry's orbit.

        Args:
            params: every parameter, without leading dimensions.
            a: A: its diagonal (units,), or (units, units), symmetric, for a rotation.

        Raises:
            ValueError: A has another shape than the units need, or is not symmetric.
        """
        return self._flow(params, a, 1.0)

    def generator(self, a: Tensor, name: str | None = None) -> Generator:
        """The generator Q of the direction A; its charge θᵀQθ is Σᵢⱼ Aᵢⱼ Cᵢⱼ.

        Args:
            a: A, as for `moved`.
            name: for messages; the symmetry's by default.

        Raises:
            ValueError: A has another shape than the units need, or is not symmetric.
        """
        self._check(a)

        def apply(params: Params) -> dict[str, Tensor]:
            found = {each: torch.zeros_like(params[each]) for each in self.parameters}
            for side, sign in ((self.outer, self.degree), (self.inner, -1)):
                for slots in side:
                    part = torch.zeros_like(params[slots.parameter])
                    rows = slots.rows(params[slots.parameter])
                    part = slots.with_rows(part, self._times(sign * a.to(rows), rows))
                    found[slots.parameter] = found[slots.parameter] + part
            return found

        return Generator(name or self.name, apply, lambda params, s: self._flow(params, a, s))

    def _flow(self, params: Params, a: Tensor, strength: float) -> dict[str, Tensor]:
        self._check(a)
        found = dict(params)
        exact = strength * a.double()
        for side, power in ((self.outer, self.degree * exact), (self.inner, -exact)):
            matrix = torch.linalg.matrix_exp(power) if a.ndim == 2 else power.exp()
            for slots in side:
                value = found[slots.parameter]
                rows = self._times(matrix.to(value), slots.rows(value))
                found[slots.parameter] = slots.with_rows(value, rows)
        return found

    def _times(self, matrix: Tensor, rows: Tensor) -> Tensor:
        return matrix @ rows if matrix.ndim == 2 else matrix[:, None] * rows

    def _weighed(self, outer: Tensor) -> Tensor:
        return outer if self.degree == 1 else self.degree * outer

    def _check(self, a: Tensor) -> None:
        """Raises ValueError for an A that is not one of this symmetry's."""
        shape = (self.units,) * (2 if self.kind == "rotation" else 1)
        if tuple(a.shape) != shape:
            raise ValueError(f"a must have shape {shape} for a {self.kind}; got {tuple(a.shape)}")
        if a.ndim == 2:
            check_symmetric("a", a)

    def _gram(self, side: tuple[Slots, ...], left: Params, right: Params) -> Tensor:
        total: Tensor | None = None
        for slots in side:
            a, b = slots.rows(left[slots.parameter]), slots.rows(right[slots.parameter])
            part = a @ b.mT if self.kind == "rotation" else (a * b).sum(-1)
            total = part if total is None else total + part
        if total is not None:
            return total
        return torch.zeros_like(self._gram(self.outer, left, right))


def check_symmetries(symmetries: Sequence[Symmetry], params: Params) -> None:
    """Raise where these are no symmetries, or their units lie otherwise in a parameter.

    Raises:
        TypeError: they are no sequence of `Symmetry`.
        ValueError: there is none, or one is of another model.
    """
    alone = isinstance(symmetries, Symmetry) or not isinstance(symmetries, Sequence)
    if alone or not all(isinstance(each, Symmetry) for each in symmetries):
        raise TypeError(
            f"symmetries is a {type(symmetries).__name__}; it must be what find_symmetries gives, "
            "or a list of some of them."
        )
    if not symmetries:
        raise ValueError("symmetries is empty: there is no charge that noise could move.")
    for slots in (s for each in symmetries for s in (*each.outer, *each.inner)):
        if slots.parameter in params and not slots.fits(params[slots.parameter]):
            shape = tuple(params[slots.parameter].shape)
            raise ValueError(
                f"a symmetry is of another model: its units do not lie so in {slots.parameter!r} "
                f"of shape {shape}. Find those of this one with find_symmetries."
            )
