"""What a claim is, and how it is judged from a run table alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpflow.dynamics import finite_prefix
from sharpflow.statistics import Interval, check_run_table, t_interval, verdict

COLUMNS = (
    "claim", "paper", "figure", "experiment", "case", "statement", "statistic", "low", "high",
    "confidence", "method", "band_low", "band_high", "verdict", "seeds",
)  # fmt: skip
_RUN = ["case", "width", "learning_rate", "seed"]
_NOTHING = np.empty(0)


@dataclass(frozen=True, eq=False)
class Run:
    """One run's rows of a run table.

    Attributes:
        case, width, learning_rate, seed: which run; `learning_rate` is the nominal one.
        rows: columns step, quantity, index and value of the run table, this run's rows only.
        known: quantities that any run of the table has.
    """

    case: str
    width: int
    learning_rate: float
    seed: int
    rows: pd.DataFrame = field(repr=False)
    known: frozenset[str] = field(repr=False)

    @property
    def threshold(self) -> float:
        """Stability threshold: `stability_threshold` where the table has it, else 2/η."""
        if "stability_threshold" in self.known:
            stated = self.curve("stability_threshold")[1]
            if stated.size:
                return float(stated[0])
        return 2 / self.learning_rate

    @property
    def samples(self) -> int:
        """n, the number of training samples; ValueError if the run does not have it."""
        values = self.curve("samples")[1]
        if not values.size:
            raise ValueError(f"The run {self} has no value of the quantity 'samples'.")
        return int(values[0])

    @property
    def diverged(self) -> bool:
        """Whether the run left the finite numbers (`diverged_step` present, or a loss that did)."""
        loss = self.curve("loss")[1] if "loss" in self.known else _NOTHING
        return bool(self.indices("diverged_step")) or not np.all(np.isfinite(loss))

    def curve(self, quantity: str, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one quantity, each of shape (n,), in order of the steps.

        Empty arrays if only this run lacks it (it diverged at once, say). ValueError, which names
        what there is, if no run of the table has it: that is an experiment that did not measure it.
        """
        if quantity not in self.known:
            raise ValueError(
                f"quantity is {quantity!r}, which no run of the table has; it must be one of "
                f"{', '.join(sorted(self.known))}."
            )
        return self._curves(quantity).get(index, (_NOTHING, _NOTHING))

    def indices(self, quantity: str) -> list[int]:
        """The indices under which the run has a quantity, ascending."""
        return sorted(self._curves(quantity))

    def together(self, *quantities: str | tuple[str, int]) -> tuple[np.ndarray, ...]:
        """Steps that all quantities were recorded at, and their values there.

        Args:
            quantities: names, or (name, index).
        Returns:
            Steps and one array a quantity, all of shape (n,), cut before the first non-finite
            entry of any of them.
        """
        named = [(item, 0) if isinstance(item, str) else item for item in quantities]
        curves = [self.curve(*item) for item in named]
        steps = curves[0][0]
        for other, _ in curves[1:]:
            steps = steps[np.isin(steps, other)]
        return finite_prefix(
            steps, *(values[np.searchsorted(times, steps)] for times, values in curves)
        )

    def _curves(self, quantity: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """A quantity's steps and values by index; arranged when first asked for."""
        if quantity not in self._arranged:
            rows = self.rows.iloc[self._positions.get(quantity, [])]
            ordered = rows.sort_values("step", kind="stable")
            self._arranged[quantity] = {
                int(index): (part["step"].to_numpy(), part["value"].to_numpy(float))
                for index, part in ordered.groupby("index", sort=False)
            }
        return self._arranged[quantity]

    @cached_property
    def _positions(self) -> dict[str, np.ndarray]:
        return self.rows.groupby("quantity", sort=False).indices

    @cached_property
    def _arranged(self) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
        return {}


def runs_of(run_table: pd.DataFrame) -> list[Run]:
    """The runs of a run table, sorted by case, width, learning rate and seed."""
    check_run_table(run_table)
    known = frozenset(map(str, run_table["quantity"].unique()))
    columns = ["step", "quantity", "index", "value"]
    return [
        Run(str(case), int(width), float(learning_rate), int(seed), rows[columns], known)
        for (case, width, learning_rate, seed), rows in run_table.groupby(_RUN, sort=True)
    ]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper as a statistic with a band.

    The statistic gives one number a seed. It returns NaN where it is undefined, which makes the
    claim inconclusive, and an infinity for an outright failure (see `statistics.t_interval`); it
    never leaves a run out.

    Attributes:
        paper, figure: where the claim is from, "li2022" and "output_norm", say.
        statement: one sentence, with the bound in it.
        statistic: a function of one `Run`, or of a list of runs of one seed, as `scope` says.
        band_low, band_high: where the statistic must lie; one of them may be infinite.
        method: what the statistic is, in words.
        scope: what a row is about. "run": one (case, width, learning rate), the statistic takes a
            run. "case": one case with its sweep over widths and learning rates, the statistic takes
            the list of its runs with one seed. "experiment": all cases, likewise.
        cases: shell-style patterns of the cases that the claim is about.
    """

    paper: str
    figure: str
    statement: str
    statistic: Callable[[Any], float]
    band_low: float
    band_high: float
    method: str
    scope: Literal["run", "case", "experiment"] = "run"
    cases: tuple[str, ...] = ("*",)

    def judged_in(self, paper: str, figures: Mapping[str, str]) -> "Claim":
        """The claim as the verdicts of an experiment list it.

        It stands at the figure that the module of its own figure draws there. On an experiment of
        another paper it is a question about that experiment and no verdict on the claim's own
        paper: it stands under the experiment's paper, at the experiment's first figure if that
        module draws none.

        Args:
            paper: the experiment's.
            figures: module of each figure that shows the experiment, by the figure's name.
        """
        drawn = [name for name, module in figures.items() if module == self.figure]
        others = [] if paper == self.paper else list(figures)
        return replace(self, paper=paper, figure=[*drawn, *others, self.figure][0])


def judge(
    claim_name: str,
    claim: Claim,
    experiment: str,
    run_table: pd.DataFrame,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """A claim's rows of `claims.csv`: one a case, and one for all of them.

    Where a case holds several widths or learning rates and the claim is about runs, each of them is
    a row, named in `case`. The row `case="all"` repeats the interval and the verdict of the worst
    row, named in `method`: one `not supported` decides, else one `inconclusive`, and among equals
    the smallest margin to the band. All must hold at once, so `supported` for all keeps the
    confidence of the single intervals; nothing corrects for the number of chances to fail.

    Returns:
        Columns `COLUMNS`, in this order.
    Raises:
        ValueError: the table has no run of a case that the claim is about, or lacks columns.
    """
    runs = [
        run
        for run in runs_of(run_table)
        if any(fnmatchcase(run.case, pattern) for pattern in claim.cases)
    ]
    if not runs:
        raise ValueError(
            f"run_table of {experiment!r} has no run for the claim {claim_name!r}, which is about "
            f"the cases {', '.join(claim.cases)}."
        )
    judged = []
    for case, members in _groups(runs, claim.scope).items():
        interval = t_interval(_values(claim, members), confidence)
        judged.append((case, interval, verdict(interval, claim.band_low, claim.band_high)))
    worst_case, worst, outcome = min(judged, key=lambda row: _rank(row[1], row[2], claim))

    def row(case: str, interval: Interval, decision: str, note: str = "") -> dict[str, object]:
        return {
            "claim": claim_name,
            "paper": claim.paper,
            "figure": claim.figure,
            "experiment": experiment,
            "case": case,
            "statement": claim.statement,
            "statistic": interval.statistic,
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
            "method": f"{claim.method}; {interval.method}{note}",
            "band_low": float(claim.band_low),
            "band_high": float(claim.band_high),
            "verdict": decision,
            "seeds": interval.seeds,
        }

    rows = [] if claim.scope == "experiment" else [row(*entry) for entry in judged]
    note = "" if claim.scope == "experiment" else f"; worst case: {worst_case}"
    rows.append(row("all", worst, outcome, note))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(runs: list[Run], scope: str) -> dict[str, list[Run]]:
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
        return [float(claim.statistic(run)) for run in runs]
    seeds: dict[int, list[Run]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(run)
    return [float(claim.statistic(seeds[seed])) for seed in sorted(seeds)]


def _rank(interval: Interval, decision: str, claim: Claim) -> tuple[int, float]:
    order = ("not supported", "inconclusive", "supported").index(decision)
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return order, -np.inf
    return order, min(interval.low - claim.band_low, claim.band_high - interval.high)
