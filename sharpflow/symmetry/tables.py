"""Tables with a row a symmetry, for people and for pandas."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Table(ABC):
    """Printed, it is its title and its rows."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is a table of."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """A row a symmetry, by column."""

    def frame(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __str__(self) -> str:
        """The table as text."""
        rows = self.rows()
        heads = list(rows[0])
        lines = [heads, *([_text(row[head]) for head in heads] for row in rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
        drawn = []
        for line in lines:
            first, *rest = (f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
            right = (text.strip().rjust(len(text)) for text in rest)
            drawn.append("  ".join([first, *right]))
        return "\n".join([self.title, *drawn])


def total(charges: Tensor) -> float:
    """Sum of the charges of all units, the trace of a rotation's."""
    return float(charges.sum() if charges.ndim == 1 else charges.trace())


def _text(cell: Any) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
