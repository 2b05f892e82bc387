"""Options of normalised gradient descent."""

from typing import ClassVar

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """θ ← θ − η∇L/‖∇L‖: every step has the length η, whatever the gradient."""

    threshold_symbol: ClassVar[str] = "2‖∇L‖/η"

    def capabilities(self) -> Words:
        return frozenset({"rotation invariant"})
