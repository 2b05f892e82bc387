"""What a claim is, and how it is judged from a run table alone."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sharpflow.claims.columns import COLUMNS, SEED_COLUMNS
from sharpflow.errors import PartError
from sharpflow.parts.loading import explained
from sharpflow.results.runs import Run, runs_of
from sharpflow.statistics.verdicts import (
    REAL,
    Band,
    Diverged,
    Failed,
    Judgement,
    Support,
    Undefined,
    check_band,
    judge_mean,
    judge_runs,
)

INF = float("inf")

Scope = Literal["run", "case", "experiment"]
Estimand = Literal["runs", "mean"]
OfDiverged = Literal["fails", "counts", "topic"]
Statistic = Callable[[Any], float]
ORIGINS = ("stated", "derived", "chosen")
MOST_UNCONVERGED = 0.1
"""Share of unconverged values of what a claim reads, over which a run says nothing."""


@dataclass(frozen=True)
class Claim:
    """A statement as a statistic with a band; made by the decorator `claim`.

    The statistic gives one number a seed. It gives `Undefined` where there is none, and `Failed`
    for an outright failure, each with its reason; it never leaves a run out. It is not asked of a
    diverged run, unless `diverged` says so.

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
        foils: other statistics of the runs that it is about, by what they are, with which it must
            come out `not supported`: the level over another threshold, say.
        scope: what a row is about. `run`: one (case, width, learning rate), the statistic takes a
            run. `case`: one case with its sweep over widths and learning rates, the statistic takes
            the list of its runs with one seed. `experiment`: all cases, likewise.
        support: the values that a mean's statistic can take: all by default, `(0, inf)` for a
            positive one, or two finite ends.
        diverged: what a seed with a diverged run is. `fails`: an outright failure, and the
            statistic is not asked. `counts`: the statistic is about what the run did until then;
            where it gives no finite number, the seed fails all the same. `topic`: it is about
            divergence itself, and what it gives is taken as it is.
        revised: how the band was changed after verdicts had been seen; empty where it was not.
        beside: quantities that it needs of processes beside training, by the process; the
            statistic asks for `run.process(name)`.
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
    diverged: OfDiverged = "fails"
    revised: str = ""
    foils: Mapping[str, Statistic] = field(default_factory=dict)
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
    diverged: OfDiverged = "fails",
    revised: str = "",
    foils: Mapping[str, Statistic] | None = None,
    beside: Mapping[str, Iterable[str]] | None = None,
) -> Callable[[Statistic], Claim]:
    """Make a claim of a statistic; its name is the function's.

    `reads`, `cases`, `controls`, `scope` and `beside` are read without running the module, to
    refuse a configuration that cannot feed the claim: they have to be texts, or constants of the
    same module.

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
        diverged: `fails`, `counts` or `topic`.
        revised: what became of an earlier band.
        foils: other statistics with which it must come out `not supported`, by what they are.
        beside: quantities of processes beside training, by the process.

    Raises:
        ValueError: the band is none, its origin does not begin with one of `ORIGINS`, or
            `estimand` or `diverged` is none of its words.
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
    if diverged not in get_args(OfDiverged):
        raise ValueError(f"diverged is {diverged!r}; it must be fails, counts or topic.")

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
            diverged,
            revised,
            dict(foils or {}),
            {process: tuple(quantities) for process, quantities in (beside or {}).items()},
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


@dataclass(frozen=True)
class Measurement:
    """What a row of the table of verdicts rests on.

    Attributes:
        case: what it is about.
        control: whether the claim must fail on it.
        seeds: ascending.
        values: one a seed; a NaN is `Undefined`, an infinity `Failed`.
        method: what the values are, where they are not the claim's statistic.
    """

    case: str
    control: bool
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    method: str = ""


def measure(
    claim: Claim,
    experiment: str,
    run_table: pd.DataFrame,
    cases: Mapping[str, Mapping[str, Any]],
) -> list[Measurement]:
    """A claim's statistic of every seed: the measurements, then the controls.

    Where a case holds several widths or learning rates and the claim is about runs, each of them is
    a measurement, named in `case`. A seed with a diverged run is `Diverged`, unless the claim
    counts such runs and has a finite number for it. A foil is measured as a control of each case,
    whose name it has behind that of the case.

    Args:
        claim: whose statistic it is.
        experiment: its name, for messages.
        run_table: columns `sharpflow.results.tables.RUN_COLUMNS`.
        cases: settings of each case of the experiment.

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
    foils = (
        replace(each, case=f"{each.case}, {name}", control=True, method=name)
        for name, statistic in claim.foils.items()
        for each in _measurements(replace(claim, statistic=statistic), runs, False)
    )
    return [*_measurements(claim, runs, False), *_measurements(claim, controls, True), *foils]


def by_seed(
    claim: Claim, paper: str, experiment: str, found: Iterable[Measurement]
) -> pd.DataFrame:
    """Measurements as a table, a row a seed: columns `SEED_COLUMNS`, in this order."""
    low, high = claim.band
    rows = [
        {
            "paper": paper,
            "experiment": experiment,
            "claim": claim.name,
            "case": each.case,
            "control": each.control,
            "seed": seed,
            "value": value if math.isfinite(value) else math.nan,
            "inside": math.isfinite(value) and low <= value <= high,
            "reason": _why(value),
        }
        for each in found
        for seed, value in zip(each.seeds, each.values, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(SEED_COLUMNS))


def verdicts(
    claim: Claim,
    paper: str,
    figure: str,
    experiment: str,
    found: Iterable[Measurement],
    confidence: float = 0.95,
    source: str = "",
) -> pd.DataFrame:
    """A claim's rows of `claims.csv`, one a measurement.

    A control has a row too, with `control` true, which does not count. Where one comes out other
    than `not supported`, the reason of every row of the claim says so, for then the claim does not
    tell what it is about from its control.

    Args:
        claim: what is judged.
        paper: the experiment's.
        figure: name of the figure of the experiment that draws what the claim reads; may be empty.
        experiment: its name.
        found: as `measure` gives them.
        confidence: of the intervals.
        source: where the claim comes from, as the paper's folder says.

    Returns:
        Columns `COLUMNS`, in this order.
    """
    named = {"claim": claim.name, "paper": paper, "figure": figure, "experiment": experiment}
    rows = [{**named, "source": source, **_row(claim, each, confidence)} for each in found]
    untold = [row for row in rows if row["control"] and row["verdict"] != "not supported"]
    if untold:
        said = ", ".join(f"{row['case']} {row['verdict']}" for row in untold)
        for row in rows:
            if not row["control"]:
                kept = (row["reason"], f"its control does not fail: {said}")
                row["reason"] = "; ".join(part for part in kept if part)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def judge(
    claim: Claim,
    paper: str,
    figure: str,
    experiment: str,
    run_table: pd.DataFrame,
    cases: Mapping[str, Mapping[str, Any]],
    confidence: float = 0.95,
    source: str = "",
) -> pd.DataFrame:
    """The `verdicts` on what a claim's `measure` gives.

    Raises:
        ValueError: as `measure`.
        PartError: likewise.
    """
    found = measure(claim, experiment, run_table, cases)
    return verdicts(claim, paper, figure, experiment, found, confidence, source)


def _measurements(claim: Claim, runs: list[Run], control: bool) -> Iterator[Measurement]:
    groups = _groups(runs, claim.scope, "control" if control else "all")
    for case, members in groups.items():
        seeds: dict[int, list[Run]] = {}
        for run in members:
            seeds.setdefault(run.seed, []).append(run)
        kept = tuple(sorted(seeds))
        yield Measurement(case, control, kept, tuple(_value(claim, seeds[seed]) for seed in kept))


def _row(claim: Claim, each: Measurement, confidence: float) -> dict[str, Any]:
    found = claim.judged(each.values, confidence)
    interval = found.interval
    finite = np.array([value for value in each.values if np.isfinite(value)])
    middle = np.quantile(finite, [0.5, 0, 1]) if finite.size else np.full(3, np.nan)
    return {
        "case": each.case,
        "control": each.control,
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
        "revised": claim.revised,
        "verdict": found.verdict,
        "reason": found.reason,
        "seeds": len(each.values),
        "inside": found.inside,
        "undefined": found.undefined,
        "failed": found.failed,
        "diverged": sum(isinstance(value, Diverged) for value in each.values),
        "p_value": found.p_value,
        "size": found.size,
        "noticed": found.noticed,
        "method": f"{each.method or claim.method}; {interval.method}",
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


def _value(claim: Claim, runs: list[Run]) -> float:
    """The statistic of one seed."""
    lost = [step for run in runs if (step := run.diverged_step) is not None]
    if lost and claim.diverged == "fails":
        return Diverged(min(lost))
    value = _statistic(claim, runs)
    gone = lost and claim.diverged == "counts" and not math.isfinite(value)
    return Diverged(min(lost)) if gone else value


def _statistic(claim: Claim, runs: list[Run]) -> float:
    needed = [(run, claim.reads) for run in runs]
    needed += [(r.process(name), read) for r in runs for name, read in claim.beside.items()]
    for run, quantities in needed:
        for quantity in quantities:
            bad, whole = run.unconverged(quantity)
            if bad > MOST_UNCONVERGED * whole:
                return Undefined(f"{bad} of {whole} values of {quantity} did not converge")
    with explained(f"the claim {claim.name!r}"):
        value = claim.statistic(runs[0] if claim.scope == "run" else runs)
        return value if isinstance(value, (Undefined, Failed)) else float(value)


def _why(value: float) -> str:
    if math.isfinite(value):
        return ""
    kind = "undefined" if math.isnan(value) else "failed"
    why = getattr(value, "reason", "")
    return f"{kind}: {why}" if why else kind
