"""One spelling for each number that stands in a path."""

from decimal import Decimal


def canonical(number: float | str) -> str:
    """The shortest decimal that is this double: `0.005`, `5e-3` and `.005` are all `0.005`.

    Numbers below 1e-6 or from 1e16 on are written with an exponent, as `1e-07`.
    """
    value = float(number)
    text = repr(value)
    if "e" in text and 1e-6 <= abs(value) < 1:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
