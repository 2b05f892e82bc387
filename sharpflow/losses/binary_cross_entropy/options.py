"""Options of the binary cross-entropy."""

from typing import ClassVar

from sharpflow.parts.options import LossOptions


class Options(LossOptions):
    """The binary cross-entropy of logits F and labels ±1, summed over outputs."""

    targets: ClassVar[tuple[str, ...]] = ("signs",)
