"""What a claim is, and how it is judged from a run table alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sharpflow.errors import PartError
from sharpflow.parts.loading import explained
from sharpflow.results.runs import Run, runs_of
from sharpflow.statistics.verdicts import (
    REAL,
    Band,
    Failed,
    Judgement,
    Support,
    Undefined,
    check_band,
    judge_mean,
    judge_runs,
)

COLUMNS = (
    "claim", "paper", "figure", "experiment", "case", "summary", "control", "statement", "estimand",
    "statistic", "low", "high", "confidence", "median", "least", "largest", "band_low", "band_high",
    "origin", "verdict", "reason", "seeds", "inside", "undefined", "failed", "p_value", "size",
    "noticed", "method",
)  # fmt: skip
INF = float("inf")

Scope = Literal["run", "case", "experiment"]
Estimand = Literal["runs", "mean"]
Statistic = Callable[[Any], float]
ORIGINS = ("stated", "derived", "chosen")
MOST_UNCONVERGED = 0.1
"""Share of unconverged values of what a claim reads, over which a run says nothing."""


@dataclass(frozen=True)
class Claim:
    """A statement as a statistic with a band; made by the decorator `claim`.

    The statistic gives one number a seed. It gives `Undefined` where there is none, and `Failed`
    for an outright failure, each with its reason; it never leaves a run out.

    Attributes:
        name: of the statistic's function.
        statistic: a function of one `Run`, or of a list of runs of one seed, as `scope` says.
        statement: one sentence, with the bound in it.
        band: where the statistic must lie; one end may be infinite.
        origin: where the band comes from: `stated: …` by the paper, `derived: …` from what, or
            `chosen: …` why.
        method: what the statistic is, in words.
        reads: quantities of the run table that it needs.
        estimand: what the sentence is about. `runs`: every run, judged by the share of runs in the
            band. `mean`: a level, judged by an interval for the mean over seeds.
        cases: shell-style patterns of the cases that it is about.
        controls: patterns of the cases on which it must come out `not supported`; it is about none
            of them. With `scope="experiment"` they are judged together.
        scope: what a row is about. `run`: one (case, width, learning rate), the statistic takes a
            run. `case`: one case with its sweep over widths and learning rates, the statistic takes
            the list of its runs with one seed. `experiment`: all cases, likewise.
        support: the values that a mean's statistic can take: all by default, `(0, inf)` for a
            positive one, or two finite ends.
    """

    name: str
    statistic: Statistic
    statement: str
    band: Band
    origin: str
    method: str
    reads: tuple[str, ...]
    estimand: Estimand = "runs"
    cases: tuple[str, ...] = ("*",)
    controls: tuple[str, ...] = ()
    scope: Scope = "run"
    support: Support = REAL

    def is_control(self, case: str) -> bool:
        """Whether a case is one on which the claim must come out `not supported`."""
        return any(fnmatchcase(case, pattern) for pattern in self.controls)

    def judged(self, values: Sequence[float], confidence: float) -> Judgement:
        """The verdict from one value a seed."""
        if self.estimand == "runs":
            return judge_runs(values, self.band, confidence)
        return judge_mean(values, self.band, self.support, confidence)


def claim(
    *,
    statement: str,
    band: Band,
    origin: str,
    method: str,
    reads: Iterable[str],
    estimand: Estimand = "runs",
    cases: Iterable[str] = ("*",),
    controls: Iterable[str] = (),
    scope: Scope = "run",
    support: Support = REAL,
) -> Callable[[Statistic], Claim]:
    """Make a claim of a statistic; its name is the function's.

    `reads`, `cases`, `controls` and `scope` are read without running the module, to refuse a
    configuration that cannot feed the claim: they have to be texts, or constants of the same
    module.

    Args:
        statement: as for `Claim`, as all others.
        band: where the statistic must lie.
        origin: where the band comes from.
        method: what the statistic is.
        reads: quantities that it needs.
        estimand: `runs` or `mean`.
        cases: those it is about.
        controls: those on which it must come out `not supported`.
        scope: what a row is about.
        support: the values that are possible.

    Raises:
        ValueError: the band is none, its origin does not begin with one of `ORIGINS`, or the
            estimand is neither.
    """
    check_band(band)
    kind, colon, why = origin.partition(": ")
    if kind not in ORIGINS or not (colon and why.strip()):
        raise ValueError(
            f"origin is {origin!r}; it must begin with {', '.join(f'{each}: ' for each in ORIGINS)}"
            "and then say how or why."
        )
    if estimand not in get_args(Estimand):
        raise ValueError(f"estimand is {estimand!r}; it must be runs or mean.")

    def made(statistic: Statistic) -> Claim:
        return Claim(
            statistic.__name__,
            statistic,
            statement,
            band,
            origin,
            method,
            tuple(reads),
            estimand,
            tuple(cases),
            tuple(controls),
            scope,
            support,
        )

    return made


def load_claim(module: str, name: str) -> Claim:
    """A claim by the module that it stands in, and its name.

    Raises:
        PartError: the module cannot be imported, or the name is no claim's.
    """
    with explained(f"the claim {name!r}"):
        found = getattr(import_module(module), name)
    if not isinstance(found, Claim):
        raise PartError(f"{module}: {name!r} is no claim; is its decorator sharpflow's?")
    return found


def judge(
    claim: Claim,
    paper: str,
    figure: str,
    experiment: str,
    run_table: pd.DataFrame,
    cases: Mapping[str, Mapping[str, Any]],
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A claim's rows of `claims.csv`: one a measurement, and a summary where there are several.

    Where a case holds several widths or learning rates and the claim is about runs, each of them is
    a row, named in `case`. Of several rows a further one, with `summary` true and `case="all"`,
    repeats the worst, which its reason names: one `not supported` decides, else one `undefined` or
    `straddles`, and among equals the smallest p-value, then the least share. It is shown and not
    counted: the sentence must hold in every row.

    A control has a row too, with `control` true, which neither counts nor is summed up. Where one
    comes out other than `not supported`, the reason of every row of the claim says so, for then the
    claim does not tell what it is about from its control.

    Args:
        claim: what is judged.
        paper: the experiment's.
        figure: name of the figure of the experiment that draws what the claim reads; may be empty.
        experiment: its name.
        run_table: columns `sharpflow.results.tables.RUN_COLUMNS`.
        cases: settings of each case of the experiment.
        confidence: of the intervals.

    Returns:
        Columns `COLUMNS`, in this order.

    Raises:
        ValueError: the table has no run of a case that the claim is about, or lacks columns.
        PartError: the statistic raised an error, or did not give a number.
    """
    found = runs_of(run_table, cases)
    controls = [run for run in found if claim.is_control(run.case)]
    runs = [
        run
        for run in found
        if not claim.is_control(run.case)
        and any(fnmatchcase(run.case, pattern) for pattern in claim.cases)
    ]
    if not runs:
        raise ValueError(
            f"run_table of {experiment!r} has no run for the claim {claim.name!r}, which is about "
            f"the cases {', '.join(claim.cases)}."
        )
    named = {"claim": claim.name, "paper": paper, "figure": figure, "experiment": experiment}
    beside = _rows(claim, controls, named | {"control": True}, confidence)
    rows = _rows(claim, runs, named | {"control": False}, confidence)
    if untold := [row for row in beside if row["verdict"] != "not supported"]:
        said = ", ".join(f"{row['case']} {row['verdict']}" for row in untold)
        for row in rows:
            kept = (row["reason"], f"its control does not fail: {said}")
            row["reason"] = "; ".join(part for part in kept if part)
    if len(rows) > 1:
        worst = min(rows, key=_rank)
        reason = f"worst case: {worst['case']}" + (f"; {worst['reason']}" * bool(worst["reason"]))
        rows.append(worst | {"case": "all", "summary": True, "reason": reason})
    return pd.DataFrame([*rows, *beside], columns=list(COLUMNS))


def _rows(
    claim: Claim, runs: list[Run], named: Mapping[str, Any], confidence: float
) -> list[dict[str, Any]]:
    """A row a measurement, of the runs that the claim is about or of its controls."""
    groups = _groups(runs, claim.scope, "control" if named["control"] else "all")
    values = {case: _values(claim, members) for case, members in groups.items()}
    return [
        {**named, **_row(claim, case, own, claim.judged(own, confidence))}
        for case, own in values.items()
    ]


def _row(claim: Claim, case: str, values: Sequence[float], found: Judgement) -> dict[str, Any]:
    interval = found.interval
    finite = np.array([value for value in values if np.isfinite(value)])
    middle = np.quantile(finite, [0.5, 0, 1]) if finite.size else np.full(3, np.nan)
    return {
        "case": case,
        "summary": False,
        "statement": claim.statement,
        "estimand": claim.estimand,
        "statistic": interval.statistic,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        **dict(zip(("median", "least", "largest"), map(float, middle), strict=True)),
        "band_low": float(claim.band[0]),
        "band_high": float(claim.band[1]),
        "origin": claim.origin,
        "verdict": found.verdict,
        "reason": found.reason,
        "seeds": len(values),
        "inside": found.inside,
        "undefined": found.undefined,
        "failed": found.failed,
        "p_value": found.p_value,
        "size": found.size,
        "noticed": found.noticed,
        "method": f"{claim.method}; {interval.method}",
    }


def _groups(runs: list[Run], scope: Scope, whole: str) -> dict[str, list[Run]]:
    if scope == "experiment":
        return {whole: runs} if runs else {}
    settings: dict[str, set[tuple[int, float]]] = {}
    for run in runs:
        settings.setdefault(run.case, set()).add((run.width, run.learning_rate))
    groups: dict[str, list[Run]] = {}
    for run in runs:
        name = run.case
        if scope == "run" and len(settings[run.case]) > 1:
            name += f" (width {run.width}, learning rate {run.learning_rate:g})"
        groups.setdefault(name, []).append(run)
    return groups


def _values(claim: Claim, runs: Iterable[Run]) -> list[float]:
    if claim.scope == "run":
        return [_value(claim, run) for run in runs]
    seeds: dict[int, list[Run]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(run)
    return [_value(claim, seeds[seed]) for seed in sorted(seeds)]


def _value(claim: Claim, runs: Run | list[Run]) -> float:
    members = runs if isinstance(runs, list) else [runs]
    for run in members:
        for quantity in claim.reads:
            bad, whole = run.unconverged(quantity)
            if bad > MOST_UNCONVERGED * whole:
                return Undefined(f"{bad} of {whole} values of {quantity} did not converge")
    with explained(f"the claim {claim.name!r}"):
        value = claim.statistic(runs)
        return value if isinstance(value, (Undefined, Failed)) else float(value)


def _rank(row: Mapping[str, Any]) -> tuple[int, float, float]:
    order = ("not supported", "undefined", "straddles", "supported").index(row["verdict"])
    room = min(row["low"] - row["band_low"], row["band_high"] - row["high"])
    return order, row["p_value"], row["statistic"] if row["estimand"] == "runs" else room
