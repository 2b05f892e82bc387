"""What a claim is, and how it is judged from a run table alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpflow.errors import PartError
from sharpflow.parts.loading import explained
from sharpflow.results.runs import Run, runs_of
from sharpflow.statistics.intervals import Interval, t_interval, verdict

COLUMNS = (
    "claim", "paper", "figure", "experiment", "case", "statement", "statistic", "low", "high",
    "confidence", "method", "band_low", "band_high", "verdict", "seeds",
)  # fmt: skip
INF = float("inf")

Scope = Literal["run", "case", "experiment"]
Statistic = Callable[[Any], float]


@dataclass(frozen=True)
class Claim:
    """A statement as a statistic with a band; made by the decorator `claim`.

    The statistic gives one number a seed. It returns NaN where it is undefined, which makes the
    claim inconclusive, and an infinity for an outright failure (see `statistics.t_interval`); it
    never leaves a run out.

    Attributes:
        name: of the statistic's function.
        statistic: a function of one `Run`, or of a list of runs of one seed, as `scope` says.
        statement: one sentence, with the bound in it.
        band: where the statistic must lie; one end may be infinite.
        method: what the statistic is, in words.
        reads: quantities of the run table that it needs.
        cases: shell-style patterns of the cases that it is about.
        scope: what a row is about. `run`: one (case, width, learning rate), the statistic takes a
            run. `case`: one case with its sweep over widths and learning rates, the statistic takes
            the list of its runs with one seed. `experiment`: all cases, likewise.
    """

    name: str
    statistic: Statistic
    statement: str
    band: tuple[float, float]
    method: str
    reads: tuple[str, ...]
    cases: tuple[str, ...] = ("*",)
    scope: Scope = "run"


def claim(
    *,
    statement: str,
    band: tuple[float, float],
    method: str,
    reads: Iterable[str],
    cases: Iterable[str] = ("*",),
    scope: Scope = "run",
) -> Callable[[Statistic], Claim]:
    """Make a claim of a statistic; its name is the function's.

    `reads`, `cases` and `scope` are read without running the module, to refuse a configuration that
    cannot feed the claim: they have to be texts, or constants of the same module.

    Args:
        statement: one sentence, with the bound in it.
        band: lowest and highest value of the statistic that support it; one end may be infinite.
        method: what the statistic is, in words.
        reads: quantities of the run table that it needs.
        cases: shell-style patterns of the cases that it is about.
        scope: what a row is about, `run`, `case` or `experiment`, as for `Claim`.
    """

    def made(statistic: Statistic) -> Claim:
        name = statistic.__name__
        return Claim(name, statistic, statement, band, method, tuple(reads), tuple(cases), scope)

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
    """A claim's rows of `claims.csv`: one a case, and one for all of them.

    Where a case holds several widths or learning rates and the claim is about runs, each of them is
    a row, named in `case`. The row `case="all"` repeats the interval and the verdict of the worst
    row, named in `method`: one `not supported` decides, else one `inconclusive`, and among equals
    the smallest margin to the band. All must hold at once, so `supported` for all keeps the
    confidence of the single intervals; nothing corrects for the number of chances to fail.

    Args:
        claim: what is judged.
        paper: the experiment's.
        figure: name of the figure of the experiment that draws what the claim reads; may be empty.
        experiment: name of the experiment whose runs decide.
        run_table: the experiment's runs, with the columns `RUN_COLUMNS`.
        cases: settings of each case of the experiment.
        confidence: nominal coverage of the intervals over seeds, in (0, 1).

    Returns:
        Columns `COLUMNS`, in this order.

    Raises:
        ValueError: the table has no run of a case that the claim is about, or lacks columns.
        PartError: the statistic raised an error, or did not give a number.
    """
    runs = [
        run
        for run in runs_of(run_table, cases)
        if any(fnmatchcase(run.case, pattern) for pattern in claim.cases)
    ]
    if not runs:
        raise ValueError(
            f"run_table of {experiment!r} has no run for the claim {claim.name!r}, which is about "
            f"the cases {', '.join(claim.cases)}."
        )
    low, high = claim.band
    judged = []
    for case, members in _groups(runs, claim.scope).items():
        interval = t_interval(_values(claim, members), confidence)
        judged.append((case, interval, verdict(interval, low, high)))
    worst_case, worst, outcome = min(judged, key=lambda row: _rank(row[1], row[2], claim))

    def row(case: str, interval: Interval, decision: str, note: str = "") -> dict[str, object]:
        return {
            "claim": claim.name,
            "paper": paper,
            "figure": figure,
            "experiment": experiment,
            "case": case,
            "statement": claim.statement,
            "statistic": interval.statistic,
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
            "method": f"{claim.method}; {interval.method}{note}",
            "band_low": float(low),
            "band_high": float(high),
            "verdict": decision,
            "seeds": interval.seeds,
        }

    rows = [] if claim.scope == "experiment" else [row(*entry) for entry in judged]
    note = "" if claim.scope == "experiment" else f"; worst case: {worst_case}"
    rows.append(row("all", worst, outcome, note))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(runs: list[Run], scope: Scope) -> dict[str, list[Run]]:
    if scope == "experiment":
        return {"all": runs}
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
    with explained(f"the claim {claim.name!r}"):
        return float(claim.statistic(runs))


def _rank(interval: Interval, decision: str, claim: Claim) -> tuple[int, float]:
    order = ("not supported", "inconclusive", "supported").index(decision)
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return order, -np.inf
    return order, min(interval.low - claim.band[0], claim.band[1] - interval.high)
