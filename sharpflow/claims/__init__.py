"""The registry of claims: one module a claim, loaded by name, judged from run tables alone."""

import pkgutil
from difflib import get_close_matches
from importlib import import_module

from sharpflow.claims.base import COLUMNS, Claim, Run, judge, runs_of

__all__ = ["COLUMNS", "Claim", "Run", "available", "judge", "load", "runs_of"]


def available() -> list[str]:
    """Names of the claims, sorted; no claim's module is imported for it."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(name: str) -> Claim:
    """The claim of that name: `CLAIM` of `sharpflow.claims.<name>`.

    Raises:
        ValueError: there is none; the message has the names and the nearest.
    """
    names = available()
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"claim is {name!r}; it must be one of {', '.join(names)}.{hint}")
    return import_module(f"{__name__}.{name}").CLAIM
