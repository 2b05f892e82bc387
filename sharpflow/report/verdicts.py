"""Rows of `claims.csv` as the page shows them: a claim with its cases under it, and counts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sharpflow.claims.columns import COLUMNS, worst
from sharpflow.report.text import anchor, band, number
from sharpflow.statistics.verdicts import holm

FAMILY = 0.05
"""Chance of one or more wrong `not supported` in the whole of a page."""
FEW = 5
"""So many runs, all in the band, miss a failure in 28 % of runs one time in five, or more often."""
RAW = ("statistic", "low", "high", "median", "least", "largest", "band_low", "band_high")
"""Columns that an entry also has as numbers, under `raw`."""
VERDICTS = {
    "supported": ("yes", "✓"),
    "not supported": ("no", "✗"),
    "straddles": ("open", "?"),
    "undefined": ("other", "–"),
}


def claim_entries(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a (claim, experiment), in order of first appearance.

    An entry has its one row as text, with `only_case`, the name of its case; or that of the first
    of those with the worst verdict, with all as `cases`. `controls` are the rows on which it must
    fail.

    Args:
        claims: columns `sharpflow.claims.columns.COLUMNS`, as `judge` gives them; may be empty.

    Returns:
        Entries for the page's template.

    Raises:
        ValueError: a column is missing, or an entry has nothing but controls.
    """
    if claims.empty:
        return []
    missing = [column for column in COLUMNS if column not in claims.columns]
    if missing:
        raise ValueError(f"claims has no column {', '.join(missing)}, which the page needs")
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in claims.to_dict("records"):
        row = _row({str(key): value for key, value in record.items()})
        key = (row["paper"], row["claim"], row["experiment"], row["figure"])
        groups.setdefault(key, []).append(row)
    return [_entry(rows) for rows in groups.values()]


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows have each verdict, and `all` for the sum."""
    verdicts = [row["verdict"] for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS} | {"all": len(verdicts)}


def single_rows(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that stand for a measurement each: no control."""
    rows: list[Mapping[str, Any]] = []
    for entry in entries:
        rows += entry["cases"] or [entry]
    return rows


def outcome(row: Mapping[str, Any]) -> str:
    """What is held against a band: how many runs lie in it, or a mean with its interval."""
    runs = row["estimand"] == "runs in the band"
    return f"{row['result']} {'runs' if runs else row['interval']}"


def few_runs(entries: Iterable[Mapping[str, Any]]) -> int:
    """How many are supported with `FEW` seeds or fewer in one of their cases."""
    return sum(e["verdict"] == "supported" and e["fewest"] <= FEW for e in entries)


def names(entries: Iterable[Mapping[str, Any]]) -> int:
    """How many claims there are, whatever the number of experiments that each is judged in."""
    return len({entry["claim"] for entry in entries})


def family(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What many verdicts at once say of the family of all claims.

    Args:
        rows: those of `single_rows`.

    Returns:
        `rejected`: rows that are not supported; `remaining`: those that stay so by Holm's procedure
        at a family-wise error of `level`; `by_chance`: the number expected at most if every claim
        held.
    """
    rejected = np.array([row["verdict"] == "not supported" for row in rows], dtype=bool)
    adjusted = holm([row["p_value"] for row in rows])
    return {
        "rejected": int(rejected.sum()),
        "remaining": int((rejected & (adjusted < FAMILY)).sum()),
        "by_chance": f"{sum(row['size'] for row in rows):.1f}",
        "level": f"{100 * FAMILY:g}\u00a0%",
    }


def confidences(entries: Iterable[Mapping[str, Any]]) -> str:
    """The confidence levels in use, "95 %" say; empty if none is stated."""
    return " and ".join(sorted({entry["confidence"] for entry in entries} - {""}))


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    verdict, seeds = str(record["verdict"]), int(record["seeds"])
    style, symbol = VERDICTS[verdict]
    quantity, _, interval_method = str(record["method"]).rpartition("; ")
    runs = record["estimand"] == "runs"
    values = [record[name] for name in ("median", "least", "largest")]
    span = f"{number(values[0])} ({number(values[1])} to {number(values[2])})"
    origin, _, why = str(record["origin"]).partition(": ")
    names = [str(record[name]) for name in ("paper", "experiment", "claim")]
    return {
        "id": anchor("claim", *names),
        "raw": {name: float(record[name]) for name in RAW},
        "count": seeds,
        "inside": int(record["inside"]),
        "undefined": int(record["undefined"]),
        "diverged": int(record["diverged"]),
        "level": float(record["confidence"]),
        "claim": str(record["claim"]),
        "paper": str(record["paper"]),
        "figure": _text(record["figure"]),
        "experiment": str(record["experiment"]),
        "case": str(record["case"]),
        "control": str(record["control"]).lower() == "true",
        "statement": str(record["statement"]),
        "runs": runs,
        "result": f"{int(record['inside'])} of {seeds}" if runs else number(record["statistic"]),
        "estimand": "runs in the band" if runs else "mean",
        "values": span if pd.notna(values[0]) else "",
        "interval": f"[{number(record['low'])}, {number(record['high'])}]",
        "confidence": f"{100 * float(record['confidence']):.4g}\u00a0%",
        "quantity": quantity,
        "interval_method": interval_method,
        "reason": _text(record["reason"]),
        "band": band(record["band_low"], record["band_high"]),
        "origin": origin,
        "why": why,
        "revised": _text(record["revised"]),
        "source": _source(_text(record["source"])),
        "drawn": _text(record["source"]).startswith("drawn here: "),
        "noticed": str(record["noticed"]),
        "p_value": float(record["p_value"]),
        "size": float(record["size"]),
        "verdict": verdict,
        "style": style,
        "symbol": symbol,
        "seeds": number(seeds),
    }


def _text(value: Any) -> str:
    """A text; an empty one is missing where the table was read from a file."""
    return "" if pd.isna(value) else str(value)


def _source(text: str) -> str:
    """Where a claim comes from, as words."""
    kind, _, where = text.partition(": ")
    if kind == "paper":
        return where
    return f"a consequence drawn here, {where}" if where else ""


def _entry(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    controls = [row for row in rows if row["control"]]
    cases = [row for row in rows if not row["control"]]
    if not cases:
        row = rows[0]
        raise ValueError(
            f"claims has only controls of the claim {row['claim']!r} of the experiment "
            f"{row['experiment']!r}."
        )
    several = len(cases) > 1
    decides = worst(row["verdict"] for row in cases)
    shown = next(row for row in cases if row["verdict"] == decides)
    only = "" if several or shown["case"] == "all" else shown["case"]
    return shown | {
        "only_case": only,
        "cases": cases if several else [],
        "controls": controls,
        "case_counts": counts(cases if several else []),
        "fewest": min(row["count"] for row in cases),
    }
