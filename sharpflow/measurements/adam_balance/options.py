"""Options of Adam's balance."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Charges and noise of the network's symmetries in the metric √v̂ + ε of Adam's own state.

    Arrays run over the units (hidden units, channels, …) of all chosen symmetries, one after
    another. Nothing is given before the first step.
    """

    every: Stride = 100
    """Stride, in steps."""
    parameters: Annotated[list[str], Field(min_length=1, default_factory=lambda: ["*"])]
    """Shell-style patterns of parameters' names: symmetries that move one of them are chosen."""

    def needs(self) -> Needs:
        return ("squared gradients",)

    def gives(self) -> Words:
        sums = (
            "outer",
            "inner",
            "charge",
            "size",
            "plain_charge",
            "plain_size",
            "relaxation_steps",
        )
        return frozenset({"adam_imbalance", *(f"adam_{name}" for name in sums)})
