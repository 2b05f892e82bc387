"""Options of normal factors."""

from typing import Annotated, Literal

from pydantic import Field

from sharpflow.parts.options import InitialisationOptions, Needs


class Options(InitialisationOptions):
    """Normal weights of a two-layer network, with a standard deviation a layer."""

    u: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Standard deviation of the output layer U, in units of 1/√width."""
    w: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Standard deviation of the input layer W, in the units that `unit` names."""
    unit: Literal["fan_in", "width"] = "fan_in"
    """Unit of `w`: 1/√inputs (`fan_in`) or 1/√width (`width`)."""

    def needs(self) -> Needs:
        return ("two layers",)
