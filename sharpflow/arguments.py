"""Numbers that a caller gives, as every function of the library checks them."""

import math
from numbers import Integral, Real
from typing import Any


def is_count(value: object, least: int = 1) -> bool:
    """Whether it is a whole number, of Python or NumPy, of at least `least`; a bool is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def as_number(value: Any) -> float:
    """A number, or a tensor of one, as a float; NaN for what is none, as a bool."""
    if isinstance(value, bool):
        return math.nan
    if not isinstance(value, Real):
        tensor = callable(getattr(value, "numel", None))  # told without importing PyTorch
        single = tensor and value.numel() == 1 and not value.is_complex()
        return float(value.detach()) if single else math.nan
    try:
        return float(value)
    except OverflowError:  # of an integer
        return math.inf if value > 0 else -math.inf  # pyright: ignore[reportOperatorIssue]


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise ValueError for what is no whole number of at least `least`."""
    if not is_count(value, least):
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}.")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError for what is no positive, finite number."""
    if not 0 < as_number(value) < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be a positive, finite number.")


def check_not_negative(name: str, value: object) -> None:
    """Raise ValueError for what is no finite number of at least zero."""
    if not 0 <= as_number(value) < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be a finite number of at least zero.")
