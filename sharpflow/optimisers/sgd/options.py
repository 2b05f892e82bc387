"""Options of plain gradient descent."""

from typing import ClassVar

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """θ ← θ − η∇L: gradient descent, or SGD where `training.batch` is a number."""

    threshold_symbol: ClassVar[str] = "2/η"

    def capabilities(self) -> Words:
        return frozenset(
            {"a learning rate a run", "rotation invariant", "plain steps", "linear steps"}
        )
