"""Options of the noise balance."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Imbalance of the gradient noise between the layers of a two-layer linear network."""

    every: Stride = 1
    """Stride, in steps."""
    entries: Annotated[int, Field(ge=0, le=1000)] = 10
    """Number of entries of UᵀΓ_U U − WΓ_W Wᵀ that are kept, along the first row of it."""

    def needs(self) -> Needs:
        return "linear two layers", "gaussian population"

    def gives(self) -> Words:
        return frozenset({"noise_imbalance", *(["imbalance_entry"] if self.entries else [])})
