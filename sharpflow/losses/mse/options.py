"""Options of the squared error."""

from sharpflow.parts.options import LossOptions, Words


class Options(LossOptions):
    """The squared error ‖F − Y‖²/n, summed over outputs and averaged over samples."""

    def capabilities(self) -> Words:
        return frozenset({"squared error"})
