"""Options of Nesterov's momentum."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """Nesterov's momentum: v ← βv + ∇L, θ ← θ − η(∇L + βv)."""

    copies: ClassVar[int] = 1
    threshold_symbol: ClassVar[str] = "(2 + 2β)/((1 + 2β)η)"

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Coefficient β."""

    def capabilities(self) -> Words:
        return frozenset({"a learning rate a run", "rotation invariant", "linear steps"})
