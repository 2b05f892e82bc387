"""Options of the representations' alignment."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Alignment of UᵀΓ_U U with WΓ_W Wᵀ, over held-out samples of a population or all samples."""

    every: Stride = 10_000_000
    """Stride, in steps; the first and the last step are always measured."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 4000
    """Held-out samples that the Γ of a population are estimated from."""
    grams_of: Annotated[int, Field(ge=0)] | None = None
    """Seed of the experiment whose two matrices are kept at the last step, for the figure."""

    def needs(self) -> Needs:
        return "two layers", "squared error", ("gaussian population", "finite samples")

    def drawn(self, batch: int) -> int:
        return self.samples

    def gives(self) -> Words:
        grams = [] if self.grams_of is None else ["gram_u", "gram_w"]
        return frozenset({"alignment", "alignment_unweighted", *grams})

    def check(self, seeds: range) -> None:
        if self.grams_of is not None and self.grams_of not in seeds:
            raise ValueError(
                f"grams_of = {self.grams_of}: the matrices are those of one of the experiment's "
                f"seeds, {seeds[0]} to {seeds[-1]}"
            )
