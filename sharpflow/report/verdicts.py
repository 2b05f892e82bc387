"""Rows of `claims.csv` as the page shows them: a claim with its cases under it, and counts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sharpflow.report.text import band, number

CLAIM_COLUMNS = (
    "claim", "paper", "figure", "experiment", "case", "statement", "statistic", "low", "high",
    "confidence", "method", "band_low", "band_high", "verdict", "seeds",
)  # fmt: skip

ALL = "all"
"""The case of the row that gives a claim's verdict for one experiment."""

VERDICTS = {
    "supported": ("yes", "✓"),
    "not supported": ("no", "✗"),
    "inconclusive": ("open", "?"),
}


def claim_entries(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a (claim, experiment), in order of first appearance.

    An entry is the row `all` as text, with `cases`, the rows of the single cases in their order:
    none for a claim about a whole experiment, nor for a single case that `all` only repeats
    (`only_case` is its name). `worst` names the case that decided, where the row names it.

    Args:
        claims: columns `CLAIM_COLUMNS`, as `sharpflow.claims.base.judge` gives them; may be empty.

    Returns:
        Entries for the page's template.

    Raises:
        ValueError: a column is missing, or the row `all` of a claim.
    """
    if claims.empty:
        return []
    missing = [column for column in CLAIM_COLUMNS if column not in claims.columns]
    if missing:
        raise ValueError(f"claims has no column {', '.join(missing)}, which the page needs")
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in claims.to_dict("records"):
        row = _row(record)
        key = (row["paper"], row["claim"], row["experiment"], row["figure"])
        groups.setdefault(key, []).append(row)
    return [_entry(rows) for rows in groups.values()]


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows have each verdict; `other` for unknown ones, `all` for the sum."""
    verdicts = [row["verdict"] for row in rows]
    known = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    return known | {"other": len(verdicts) - sum(known.values()), "all": len(verdicts)}


def case_rows(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that judge a single case, whether they are listed or stand for the claim."""
    rows: list[Mapping[str, Any]] = []
    for entry in entries:
        rows += entry["cases"] or ([entry] if entry["only_case"] else [])
    return rows


def confidences(entries: Iterable[Mapping[str, Any]]) -> str:
    """The confidence levels in use, "95 %" say; empty if none is stated."""
    return " and ".join(sorted({entry["confidence"] for entry in entries} - {""}))


def _row(record: Mapping[Any, Any]) -> dict[str, Any]:
    verdict = str(record["verdict"])
    style, symbol = VERDICTS.get(verdict, ("other", "–"))
    stated = pd.notna(record["low"]) and pd.notna(record["high"])
    confidence = record["confidence"]
    method, _, worst = number(record["method"]).partition("; worst case: ")
    quantity, _, interval_method = method.rpartition("; ")
    failing = re.search(r"(undefined for|outright failure of) \d+", interval_method)
    return {
        "claim": str(record["claim"]),
        "paper": str(record["paper"]),
        "figure": str(record["figure"]),
        "experiment": number(record["experiment"]),
        "case": number(record["case"]),
        "statement": str(record["statement"]),
        "statistic": number(record["statistic"]),
        "interval": f"[{number(record['low'])}, {number(record['high'])}]" if stated else "–",
        "confidence": f"{100 * float(confidence):.4g}\u00a0%" if pd.notna(confidence) else "",
        "quantity": quantity,
        "interval_method": interval_method,
        "failing": f"{failing[0]} of\u00a0{number(record['seeds'])}" if failing else "",
        "worst": worst,
        "band": band(record["band_low"], record["band_high"]),
        "verdict": verdict,
        "style": style,
        "symbol": symbol,
        "seeds": number(record["seeds"]),
    }


def _entry(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    decisive = [row for row in rows if row["case"] == ALL]
    if not decisive:
        row = rows[0]
        raise ValueError(
            f"claims has no row with case {ALL!r} for the claim {row['claim']!r} of the experiment "
            f"{row['experiment']!r}; each claim must have one."
        )
    # The last one: a case of the experiment may itself have this name.
    head = decisive[-1]
    cases = [row for row in rows if row is not head]
    shown = ("statistic", "interval", "confidence", "band", "verdict", "seeds")
    repeated = len(cases) == 1 and all(cases[0][key] == head[key] for key in shown)
    return head | {
        "only_case": cases[0]["case"] if repeated else "",
        "cases": [] if repeated else cases,
        "case_counts": counts(cases),
    }
