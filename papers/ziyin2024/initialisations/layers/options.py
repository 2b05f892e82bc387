"""Options of normal layers."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import InitialisationOptions, Needs


class Options(InitialisationOptions):
    """Normal weights of a deep linear network, with a standard deviation a layer."""

    stds: Annotated[list[Annotated[float, Field(gt=0, le=1e3)]], Field(min_length=2)]
    """Standard deviations of the layers from the input on, in units of 1/√fan_in."""

    def needs(self) -> Needs:
        return ("deep linear",)
