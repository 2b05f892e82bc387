"""Values as the page writes them: numbers, bands, settings, fragment identifiers."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd


def number(value: Any) -> str:
    """A value as text: numbers with four significant digits, a dash for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        if np.isinf(value):
            return "∞" if value > 0 else "−∞"
        rounded = float(f"{float(value):.4g}")
        if abs(rounded) < 1e7 and rounded == int(rounded):
            return f"{int(rounded):,}".replace("-", "−")
        return f"{rounded:g}".replace("-", "−")
    return str(value)


def band(low: float, high: float) -> str:
    """A claim's band as text; a missing or infinite end makes it one-sided."""
    below, above = pd.notna(low) and np.isfinite(low), pd.notna(high) and np.isfinite(high)
    if below and above:
        return f"{number(float(low))} to {number(float(high))}"
    if below:
        return f"≥ {number(float(low))}"
    return f"≤ {number(float(high))}" if above else "–"


def many(count: int, noun: str) -> str:
    """A number of things: `1 claim`, `3 claims`."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def times(count: int) -> str:
    """How often claims were judged."""
    return "once" if count == 1 else f"{count:,} times (each in an experiment)"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings as (dotted key, value) pairs, in the order given."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(_setting(entry) for entry in value) or "(none)"
        else:
            yield name, _setting(value)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of an experiment's settings as sorted JSON."""
    text = json.dumps(settings, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def anchor(*parts: str) -> str:
    """Fragment identifier, safe in a link, and different for different parts."""
    text = "-".join(parts)
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _setting(value: Any) -> str:
    if value is None or value == {}:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
