"""Mean and noise of many gradients, as the sides of symmetries see them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from sharpflow.arguments import check_count
from sharpflow.symmetry.generators import Params
from sharpflow.symmetry.shared_units import Symmetry

Sides = tuple[Tensor, Tensor]
"""Of the outer and of the inner slots of a symmetry."""


class GradientMoments:
    """First and second moments of gradients that come chunk by chunk.

    Of the covariance it keeps its diagonal, and what rotations need beyond that. Means are updated
    chunk by chunk, so that a mean much larger than the noise loses no digits.

    Args:
        symmetries: those whose sides will be asked for.

    Attributes:
        count: number of gradients so far.
        mean: their mean by parameter, float64.
    """

    def __init__(self, symmetries: Iterable[Symmetry]):
        self.symmetries = tuple(symmetries)
        self.count = 0
        self.mean: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._grams: dict[int, Sides] = {}

    def add(self, gradients: Params) -> None:
        """Take k more gradients in.

        Args:
            gradients: parameter name → (k, *shape), every parameter of the symmetries.

        Raises:
            ValueError: there are none.
        """
        count = len(next(iter(gradients.values())))
        check_count("the number of gradients", count)
        centre = {name: value.mean(0) for name, value in gradients.items()}
        rest = {name: value - centre[name] for name, value in gradients.items()}
        if not self.mean:
            self.mean = {name: torch.zeros_like(t).double() for name, t in centre.items()}
            self._squares = {name: torch.zeros_like(value) for name, value in self.mean.items()}
        shift = {name: value - self.mean[name] for name, value in centre.items()}
        whole = self.count + count
        weight = self.count * count / whole
        for place, symmetry in enumerate(self.symmetries):
            if symmetry.kind == "rotation":
                old = self._grams.get(place, (0.0, 0.0))
                pairs = zip(old, symmetry.grams(rest), symmetry.grams(shift), strict=True)
                outer, inner = (total + own.sum(0) + weight * moved for total, own, moved in pairs)
                self._grams[place] = outer, inner
        for name, square in self._squares.items():
            square += rest[name].square_().sum(0) + weight * shift[name].square()
            self.mean[name] = self.mean[name] + shift[name] * (count / whole)
        self.count = whole

    def variance(self, whole: int | None = None) -> dict[str, Tensor]:
        """Diagonal of the covariance Σ of the whole, by parameter.

        Args:
            whole: the number N that the gradients were drawn from, without replacement; `count` if
                they are all that there are, None if they were drawn from a distribution.

        Raises:
            ValueError: there are too few gradients.
        """
        divisor = self._divisor(whole)
        return {name: square / divisor for name, square in self._squares.items()}

    def noise(self, place: int, whole: int | None = None) -> Sides:
        """Noise Grams E[δg_O δg_Oᵀ] and E[δg_I δg_Iᵀ] of symmetry number `place`.

        Args:
            place: its place among `symmetries`.
            whole: as for `variance`.

        Returns:
            Each (units,), or (units, units) for a rotation.

        Raises:
            ValueError: there are too few gradients.
        """
        divisor, symmetry = self._divisor(whole), self.symmetries[place]
        if symmetry.kind == "rotation":
            outer, inner = self._grams[place]
            return outer / divisor, inner / divisor
        roots = {name: square.sqrt() for name, square in self._squares.items()}
        outer, inner = symmetry.grams(roots)
        return outer / divisor, inner / divisor

    def drift(self, place: int, whole: int | None = None) -> Sides:
        """Grams of the mean gradient of the whole on both sides of symmetry number `place`.

        What the noise of the mean of the drawn ones has in them is taken away.

        Raises:
            ValueError: there are too few gradients.
        """
        outer, inner = self.symmetries[place].grams(self.mean)
        share = self.share_of_mean(whole)
        if not share:
            return outer, inner
        noise = self.noise(place, whole)
        return outer - share * noise[0], inner - share * noise[1]

    def share_of_mean(self, whole: int | None = None) -> float:
        """What share of Σ is the covariance of the mean of the drawn gradients."""
        left = 1.0 if whole is None else (whole - self.count) / max(whole - 1, 1)
        return left / self.count

    def _divisor(self, whole: int | None) -> float:
        if whole == self.count:
            return self.count
        if self.count < 2 or (whole is not None and whole < self.count):
            raise ValueError(
                "whole must be None or at least the number of gradients, of which two are needed; "
                f"got {whole} for {self.count}"
            )
        return (self.count - 1) * (1.0 if whole is None else whole / (whole - 1))
