"""How classes are shared out among targets; light to import."""

from collections.abc import Sequence
from typing import Literal, TypeVar

Targets = Literal["signs", "one_hot"]
T = TypeVar("T")


def groups(classes: Sequence[T], targets: Targets) -> list[list[T]]:
    """The classes that get one label each: every class, or, for signs, each half of them.

    Args:
        classes: in their order; an even number for signs.
        targets: what the labels become.

    Returns:
        For signs the classes of +1 and those of -1; else a list for each class.
    """
    if targets == "signs":
        half = len(classes) // 2
        return [list(classes[:half]), list(classes[half:])]
    return [[each] for each in classes]


def check(classes: int | None, samples: int | None, targets: Targets) -> None:
    """Refuse what cannot be balanced.

    Args:
        classes: their number; None where only the data can tell.
        samples: their number; None for as many as there are.
        targets: what the labels become.

    Raises:
        ValueError: the classes cannot be halved, or the samples not be shared out evenly.
    """
    if classes is not None and classes < 2:
        raise ValueError(f"there must be two classes or more, not {classes}")
    if targets == "signs" and classes is not None and classes % 2:
        raise ValueError(
            f"targets = signs needs an even number of classes, half of them for +1 and half for "
            f"-1, not {classes}; list such a number under classes, or use one_hot"
        )
    count = 2 if targets == "signs" else classes
    if count is not None and samples is not None and samples % count:
        raise ValueError(
            f"samples = {samples} is not a multiple of {count}, the number of "
            f"{'signs' if targets == 'signs' else 'classes'}, each of which gets as many samples"
        )
