"""What a schedule gives where each run has a learning rate of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """One run at step 0.

    Attributes:
        seed: of the run.
        loss: the loss over all samples, as a function of the trained parameters.
        parameters: the trained parameters, without a run dimension.
    """

    seed: int
    loss: Callable[[Tensors], Tensor]
    parameters: Tensors


class OfStart(ABC):
    """A course that each run's start decides; `build` of its part gives it in place of a function.

    Only an optimiser with the capability `a learning rate a run` can follow it.
    """

    @abstractmethod
    def rates(self, starts: Sequence[Start]) -> Callable[[int], Tensor]:
        """The learning rates (R,), float64, as a function of the step.

        Args:
            starts: of the R runs.
        """


Course = Callable[[int], float] | OfStart
"""What `build` of a schedule's part gives."""
