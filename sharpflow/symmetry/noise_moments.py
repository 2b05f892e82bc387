"""Moments of the gradients of single samples, or of whole batches, on the sides of symmetries."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from sharpflow.curvature.batch_loss import BatchLoss
from sharpflow.curvature.batches import batch_size, changed, check_alike, tensors_of
from sharpflow.curvature.graphs import graph_mode
from sharpflow.curvature.linear_operator import NonFiniteError, check_finite
from sharpflow.symmetry.charge_laws import SymmetryNoise
from sharpflow.symmetry.shared_units import Slots, Symmetry, check_symmetries
from sharpflow.symmetry.single_samples import Gradients, SampleGradients, Uses

Named = dict[str, Tensor]
_ALONE, _HELD = 32, 2**24
"""Most samples, and numbers of their gradients, at a time where they are computed one by one."""
_LARGE = 0.25
"""Share of the largest gradient that one has at least which is compared with that of its sample."""
_LOST = 3e-3
"""Error of the noise by rounding, as a share of it, from which on that is told."""
_SLACK = {torch.float32: 2e-3, torch.float64: 1e-6}
"""Largest relative difference of gradients that are the same but for rounding."""


class NoiseMoments:
    """First and second moments, taken in one pass over the data.

    Args:
        source: the loss of a batch.
        symmetries: whose sides the second moments are of.

    Raises:
        ValueError: there is no symmetry, or one moves a parameter that is not trained.

    Attributes:
        count: gradients that were taken: samples, or batches.
    """

    def __init__(self, source: BatchLoss, symmetries: Sequence[Symmetry]) -> None:
        present = source.parameters()
        check_symmetries(symmetries, present)
        self._source, self._symmetries = source, tuple(symmetries)
        names = list(dict.fromkeys(name for each in symmetries for name in each.parameters))
        for name in names:
            if name not in present:
                raise ValueError(
                    f"a symmetry moves {name!r}, which is no trainable parameter of the model, so "
                    "that its charge is not one of the training."
                )
        found = source.present()
        with torch.inference_mode(False):
            self._leaves = {name: found[name].clone().requires_grad_() for name in names}
        self._slots: dict[str, list[tuple[int, int, Slots]]] = {name: [] for name in names}
        for place, each in enumerate(self._symmetries):
            for side, all_slots in enumerate((each.outer, each.inner)):
                for slots in all_slots:
                    self._slots[slots.parameter].append((place, side, slots))
        self._sums = [[torch.zeros((), dtype=torch.float64) for _ in "OI"] for _ in symmetries]
        self._shift: Named = {}
        self._total: Named = {}
        self._samples_first: dict[str, bool | None] = {}
        self.count = 0

    def noises(self, correction: int, size: int) -> tuple[SymmetryNoise, ...]:
        """What moves the charges.

        Args:
            correction: what the number of gradients is reduced by for their covariance: 1 where it
                is an estimate, whose share of the square of their mean is then taken from it.
            size: samples that each gradient is the mean of.

        Raises:
            ValueError: there are too few gradients.
        """
        if self.count <= correction:
            raise ValueError(
                f"{self.count} {'sample' if size == 1 else 'batch'} has no covariance; give more."
            )
        values = {name: leaf.detach().double().cpu() for name, leaf in self._leaves.items()}
        centre = {name: total.cpu() / self.count for name, total in self._total.items()}
        mean = (
            {name: centre[name] + self._shift[name] for name in centre} if self._shift else centre
        )
        rounding = torch.finfo(next(iter(self._leaves.values())).dtype).eps
        found, lost = [], 0.0
        for symmetry, sums in zip(self._symmetries, self._sums, strict=True):
            noise, means = [], []
            of_centre = symmetry.grams(centre)
            of_mean = of_centre if mean is centre else symmetry.grams(mean)
            for total, shifted, whole in zip(sums, of_centre, of_mean, strict=True):
                second = total / self.count
                spread = second - shifted
                if spread.ndim == 1:  # what is left of numbers that are all the same
                    spread = torch.where(spread > 8 * rounding * second, spread, 0.0)
                lost = max(lost, 8 * rounding * _ratio(second, spread))
                spread = spread * (self.count / (self.count - correction))
                noise.append(size * spread)
                means.append(whole - correction * spread / self.count)
            sizes = symmetry.grams(values)
            squares = [one + other for one, other in zip(noise, means, strict=True)]
            slope = _slope(symmetry.grams(values, mean), sizes, squares, 8 * rounding)
            found.append(SymmetryNoise(symmetry, *sizes, *noise, *means, slope=slope))
        if lost > _LOST:
            warnings.warn(
                "the mean gradient is so much larger than the noise about it that rounding can be "
                f"{lost:.1g} of the noise; dtype=torch.float64 measures a copy.",
                stacklevel=3,
            )
        return tuple(found)

    def take_batches(self, batches: Iterable[Any]) -> int:
        """Take the gradients of whole batches; returns their size.

        Raises:
            ValueError: there are less than two, or their sizes differ.
            NonFiniteError: a gradient is NaN or infinite.
        """
        lengths = []
        why = "the noise of whole batches depends on their size"
        for place, batch in _numbered(batches):
            lengths = check_alike(place, batch, lengths, why)
            batch = self._source.cast(batch)
            if place == 1:
                with _naming(place):
                    self._source.start(batch)
            with _naming(place):
                _, slopes = self._differentiate(batch)
            exact = {name: slope.double().cpu() for name, slope in slopes.items()}
            if not self._shift:  # digits are lost only on what differs between batches
                self._shift = exact
            exact = {name: slope - self._shift[name] for name, slope in exact.items()}
            self._add(exact, 1, 1)
            for sums, symmetry in zip(self._sums, self._symmetries, strict=True):
                for side, gram in enumerate(symmetry.grams(exact)):
                    sums[side] = sums[side] + gram
        if self.count == 1:
            raise ValueError("there is one batch; a covariance of batches needs more.")
        return lengths[0]

    def take_samples(self, batches: Iterable[Any]) -> None:
        """Take the gradients of single samples.

        Raises:
            ValueError: there are none, or the loss of a batch is not the mean of its samples'.
            NonFiniteError: a gradient is NaN or infinite.
        """
        for place, batch in _numbered(batches):
            batch, count = self._source.cast(batch), batch_size(batch)
            if not count:
                raise ValueError(f"batch {place} is empty.")
            with _naming(place), torch.no_grad():
                if place == 1:
                    self._source.start(self._rows(batch, range(min(count, 4))))
                uses, slopes = self._differentiate(batch)
                checked = {0, count // 2, count - 1} if place == 1 else {7919 * place % count}
                alone = _Alone(partial(self._of_sample, batch), checked)
                unread = []
                for name in slopes:
                    gradients = self._read(uses, name, count, alone)
                    if gradients is None:
                        unread.append(name)
                    else:
                        self._add_grams(name, gradients, count**2)
                for name, (mean, largest) in self._one_by_one(batch, count, unread).items():
                    if not _same(mean, slopes[name], largest):
                        raise ValueError(_NO_MEAN)
            self._add(slopes, count, count)

    def _read(self, uses: Uses, name: str, count: int, alone: "_Alone") -> SampleGradients | None:
        """Gradients of the samples' parts of a mean; None where they cannot be read.

        The first batch tells in which order samples are, or that they have to be taken one by one.

        Raises:
            ValueError: they could be read in earlier batches, and are not those that are known.
        """
        new = name not in self._samples_first
        orders = (True, False) if new else (self._samples_first[name],)
        for first in orders:
            gradients = None if first is None else uses.samples(name, count, first)
            if gradients is not None and alone.are(name, gradients, count):
                self._samples_first[name] = first
                return gradients
        if not new and orders != (None,):
            raise ValueError(_NO_MEAN)
        self._samples_first[name] = None
        return None

    def _one_by_one(
        self, batch: Any, count: int, names: Sequence[str]
    ) -> dict[str, tuple[Tensor, float]]:
        """Take the gradients of samples, each computed as a batch of one.

        Returns:
            Their mean and the largest norm of one, by name.
        """
        total = {name: torch.zeros_like(self._leaves[name]) for name in names}
        largest = dict.fromkeys(names, 0.0)
        numbers = sum(self._leaves[name].numel() for name in names)
        size = max(1, min(_ALONE, _HELD // max(1, numbers)))
        own = [bool(t.ndim) and len(t) == count for t in tensors_of(batch)]  # rows a sample
        for start in range(0, count if names else 0, size):
            rows = range(start, min(start + size, count))
            for name, values in self._alone(batch, own, rows, names).items():
                total[name] = total[name].detach() + values.sum(0)
                gradients = Gradients(values)
                largest[name] = max(largest[name], float(gradients.sizes().max()))
                self._add_grams(name, gradients, 1)
        return {name: (total[name] / count, largest[name]) for name in names}

    def _alone(self, batch: Any, own: Sequence[bool], rows: range, names: Sequence[str]) -> Named:
        """(n, *shape) by name, the gradients of a few samples, each as a batch of one.

        `own`: which of the batch's tensors have a row a sample, as others may have of a few.
        """
        few = self._rows(batch, rows)
        held = {name: leaf.detach() for name, leaf in self._leaves.items()}
        tensors = [t for t, mine in zip(tensors_of(few), own, strict=True) if mine]

        def loss(moved: Named, *given: Tensor) -> Tensor:
            left, mine = iter(given), iter(own)
            one = changed(few, lambda t: next(left)[None] if next(mine) else t)
            compute = partial(self._source.loss_of, one)
            return self._source.inside(held | moved, compute).reshape(())

        moved = {name: held[name] for name in names}
        with graph_mode(second=False):
            try:
                found = vmap(grad(loss), in_dims=(None, *(0 for _ in tensors)))(moved, *tensors)
            except (RuntimeError, ValueError, TypeError):  # what vmap has no rule for
                alone = [self._of_sample(batch, row) for row in rows]
                return {name: torch.stack([slopes[name] for slopes in alone]) for name in names}
        return {name: values.detach() for name, values in found.items()}

    def _of_sample(self, batch: Any, row: int) -> Named:
        """Gradients of one sample, as a batch of one."""
        try:
            return self._differentiate(self._rows(batch, [row]))[1]
        except NonFiniteError:  # a mean over nothing, where its target is ignored
            raise ValueError(_NO_MEAN) from None

    def _differentiate(self, batch: Any) -> tuple[Uses, Named]:
        """The uses of the parameters in the loss of a batch, and its gradients in them."""

        def differentiate() -> tuple[Uses, Named]:  # also what is computed again on the way back
            value = self._source.loss_of(batch)
            check_finite(value.detach(), "the loss")
            uses = Uses(value, self._leaves)
            return uses, uses.gradients(value)

        with graph_mode(second=False):
            uses, slopes = self._source.inside(self._leaves, differentiate)
        for name, slope in slopes.items():
            check_finite(slope, f"the gradient in {name}")
        return uses, slopes

    def _rows(self, batch: Any, rows: Iterable[int]) -> Any:
        return self._source.rows_of(batch, torch.tensor(list(rows)))

    def _add_grams(self, name: str, gradients: SampleGradients, factor: int) -> None:
        places = self._slots[name]
        kinds = (self._symmetries[place].kind == "rotation" for place, _, _ in places)
        asked = [(slots, full) for (_, _, slots), full in zip(places, kinds, strict=True)]
        for (place, side, _), gram in zip(places, gradients.grams(asked), strict=True):
            weight = factor * (1.0 if side else self._symmetries[place].degree)
            self._sums[place][side] = self._sums[place][side] + weight * gram.double().cpu()

    def _add(self, slopes: Mapping[str, Tensor], weight: int, count: int) -> None:
        for name, slope in slopes.items():
            exact = weight * slope.double().cpu()
            self._total[name] = (
                self._total[name] + exact if self._total.get(name) is not None else exact
            )
        self.count += count


NO_BATCH = "batches is empty; the noise balance needs at least one batch."
_NO_MEAN = (
    "the gradient of a sample is another alone than in its batch: the noise balance needs a loss "
    "that is the mean over samples of the loss of one (class weights, ignored targets, sums and "
    "losses between samples are not). Where samples depend on each other, whole_batches=True takes "
    "the noise of batches; in float32 near an exact fit dtype=torch.float64 tells rounding apart."
)


def _numbered(batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Batches with their numbers, from 1 on.

    Raises:
        ValueError: there is none.
    """
    place = 0
    for place, batch in enumerate(batches, 1):
        yield place, batch
    if not place:
        raise ValueError(NO_BATCH)


class _naming:
    """Within, an error about numbers that are not finite says in which batch."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, NonFiniteError):
            raise NonFiniteError(f"batch {self._place}: {error}") from None


def _slope(
    sides: tuple[Tensor, Tensor],
    sizes: tuple[Tensor, Tensor],
    squares: Sequence[Tensor],
    slack: float,
) -> Tensor:
    """O·ḡ_O − I·ḡ_I from both inner products; 0 where it is rounding of the gradients."""
    slope = sides[0] - sides[1]
    least = torch.zeros_like(slope)
    for size, square in zip(sizes, squares, strict=True):
        if slope.ndim == 2:
            size, square = (t.diagonal() for t in (size, square))
        size, square = (t.clamp(min=0).sqrt() for t in (size, square))
        across = torch.outer(size, square) if slope.ndim == 2 else size * square
        least = least + (across + across.mT if slope.ndim == 2 else across)
    slope = (slope + slope.mT) / 2 if slope.ndim == 2 else slope
    return torch.where(slope.abs() > slack * least, slope, 0.0)


class _Alone:
    """Gradients of some samples, each as a batch of one, to hold those against that are read.

    Args:
        compute: the gradients of a sample, by name.
        rows: samples that are compared anyhow.
    """

    def __init__(self, compute: Callable[[int], Named], rows: Iterable[int]) -> None:
        self._compute = compute
        self._found = {row: compute(row) for row in rows}

    def are(self, name: str, gradients: SampleGradients, count: int) -> bool:
        """Whether the parts of a mean over `count` samples that were read are theirs.

        One of them is large, for where all are small, those of samples that are fitted, any reading
        would do.
        """
        sizes = gradients.sizes()
        largest = int(sizes.argmax())
        if float(sizes[list(self._found)].max()) < _LARGE * float(sizes[largest]):
            self._found[largest] = self._compute(largest)
        size = max(float(found[name].norm()) for found in self._found.values())
        return all(
            _same(gradients.dense(slice(row, row + 1))[0] * count, found[name], size)
            for row, found in self._found.items()
        )


def _ratio(second: Tensor, spread: Tensor) -> float:
    """Of the square of gradients and of what is left of it without their mean; 0 without any."""
    whole, left = (float((t.diagonal() if t.ndim == 2 else t).sum()) for t in (second, spread))
    return whole / left if left > 0 else 0.0


def _same(found: Tensor, known: Tensor, size: float) -> bool:
    return float((found - known).norm()) <= _SLACK[known.dtype] * size
