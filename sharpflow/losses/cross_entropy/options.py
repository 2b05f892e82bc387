"""Options of the softmax cross-entropy."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import LossOptions


class Options(LossOptions):
    """The cross-entropy of the softmax of k outputs, for one class a row."""

    targets: ClassVar[tuple[str, ...]] = ("one_hot", "classes")

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over the classes."""
