"""Options of training without its oscillation."""

from sharpflow.parts.options import FlowOptions, Words


class Options(FlowOptions):
    """Training itself without its oscillation of period two: (w₋ + 2w + w₊)/4 at every step."""

    def gives(self) -> Words:
        return frozenset({"oscillation_squared"})

    def passes(self) -> int:
        return 1
