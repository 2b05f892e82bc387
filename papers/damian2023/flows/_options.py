"""What the options of the processes of one cycle share; light to import."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import DescentFlowOptions, Needs, Words


class CycleOptions(DescentFlowOptions):
    """Options of what happens from a crossing of 2/η on."""

    kick: Annotated[float, Field(gt=0, le=2)] = 0.5
    """The displacement along the unstable direction at the crossing, in units of δ = √(2α/β)."""
    follow: Annotated[int, Field(ge=1)] = 90
    """Steps after the crossing that are followed; from there on the state stays as it is, and
    nothing is predicted."""

    def needs(self) -> Needs:
        """Third derivatives: those of the sharpness are looked at."""
        return (*super().needs(), "third derivatives")

    def gives(self) -> Words:
        """The steps since the crossing, and the sharpness that is predicted."""
        return frozenset({"since_crossing", "predicted_sharpness"})

    def passes(self) -> int:
        """As measured, with the looks at the sharpness until the crossing."""
        return 6
