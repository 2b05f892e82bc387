"""Runs of a run table, each with its settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd

from sharpflow.parts.processes import DISCRETE
from sharpflow.results.curves import finite_prefix
from sharpflow.results.tables import (
    RUN_COLUMNS,
    Network,
    Tables,
    by_process,
    check_run_table,
    comparable,
    networks,
    usable,
)

_RUN = ["case", "width", "learning_rate", "seed"]
_NOTHING = np.empty(0)
_Group = tuple[tuple[str, int, float, int], pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Run:
    """One run's rows of a run table.

    Attributes:
        case, width, learning_rate, seed: which run; `learning_rate` is the nominal one.
        rows: columns step, quantity, index and value of the run table, this run's rows only.
        known: quantities that any run of the table has.
        setup: settings of the run's case: data, model, loss, optimiser, schedule, training, ….
        read: is told what is asked of the run: case, width, learning rate and quantity.
        beside: the same run of each process beside training, by its name.
    """

    case: str
    width: int
    learning_rate: float
    seed: int
    rows: pd.DataFrame = field(repr=False)
    known: frozenset[str] = field(repr=False)
    setup: Mapping[str, Any] = field(repr=False, default_factory=dict)
    read: set[tuple[str, int, float, str]] = field(repr=False, default_factory=set)
    beside: Mapping[str, "Run"] = field(repr=False, default_factory=dict)

    def process(self, name: str) -> "Run":
        """What ran beside the run under a name.

        Raises:
            ValueError: nothing did.
        """
        if name not in self.beside:
            raise ValueError(
                f"Beside the run of {self.case!r} no process {name!r} ran, only "
                f"{', '.join(self.beside) or 'none'}."
            )
        return self.beside[name]

    def setting(self, key: str) -> Any:
        """A setting of the run's case by its dotted key, `training.batch` say.

        Raises:
            ValueError: the case has no such setting.
        """
        value: Any = self.setup
        for name in key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                raise ValueError(f"The case {self.case!r} has no setting {key!r}.")
            value = value[name]
        return value

    @property
    def batch(self) -> int | None:
        """S, the samples a step; None for gradient descent."""
        return self.setting("training.batch")

    @property
    def samples(self) -> int:
        """n, the number of training samples; ValueError if the run does not have it."""
        values = self.curve("samples")[1]
        if not values.size:
            raise ValueError(f"The run {self} has no value of the quantity 'samples'.")
        return int(values[0])

    @property
    def threshold(self) -> float:
        """The stability threshold at the last record that has one."""
        values = self.curve("stability_threshold")[1]
        known = values[np.isfinite(values)]
        if not known.size:
            raise ValueError(f"The run {self} has no finite stability threshold.")
        return float(known[-1])

    @property
    def diverged(self) -> bool:
        """Whether the run left the finite numbers."""
        return self.diverged_step is not None

    @property
    def diverged_step(self) -> int | None:
        """The recorded step at which the run left the finite numbers, or the first loss that did.

        None for a run that did not.
        """
        if self.indices("diverged_step"):
            return int(self.curve("diverged_step")[1][0])
        steps, loss = self.curve("loss") if "loss" in self.known else (_NOTHING, _NOTHING)
        gone = steps[~np.isfinite(loss)]
        return int(gone[0]) if gone.size else None

    def curve(self, quantity: str, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one quantity, each of shape (n,), in order of the steps.

        Empty arrays if only this run lacks it (it diverged at once, say).

        Raises:
            ValueError: no run of the table has it, for the experiment did not measure it; the
                message names what there is.
        """
        if quantity not in self.known:
            raise ValueError(
                f"quantity is {quantity!r}, which no run of the table has; it must be one of "
                f"{', '.join(sorted(self.known))}."
            )
        return self._curves(quantity).get(index, (_NOTHING, _NOTHING))

    def threshold_at(self, steps: np.ndarray, quantity: str) -> np.ndarray:
        """What a curvature compares with at each step: the threshold as it was last recorded.

        NaN for a curvature that does not compare with it (`results.tables.comparable`).
        """
        times, thresholds = self.curve("stability_threshold")
        if not times.size or not comparable(quantity, self.setup):
            return np.full(len(steps), np.nan)
        return thresholds[np.clip(np.searchsorted(times, steps, side="right") - 1, 0, None)]

    def relative(self, quantity: str, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a curvature over the stability threshold of the same step."""
        steps, values = self.curve(quantity, index)
        return steps, values / self.threshold_at(steps, quantity)

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
            if not np.array_equal(steps, other):  # as a rule they are, of many units
                steps = steps[np.isin(steps, other)]
        return finite_prefix(
            steps,
            *(
                values if len(times) == len(steps) else values[np.searchsorted(times, steps)]
                for times, values in curves
            ),
        )

    def unconverged(self, quantity: str) -> tuple[int, int]:
        """How many values of a quantity did not converge, and of how many."""
        flags = f"{quantity}_converged"
        if flags not in self.known:
            return 0, 0
        values = [self.curve(flags, index)[1] for index in self.indices(flags)]
        whole = np.concatenate(values) if values else _NOTHING
        return int((whole == 0).sum()), int(whole.size)

    def _curves(self, quantity: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """A quantity's steps and values by index; arranged when first asked for."""
        self.read.add((self.case, self.width, self.learning_rate, quantity))
        if quantity not in self._arranged:
            rows = self.rows.iloc[self._positions.get(quantity, [])]
            ordered = rows.sort_values("step", kind="stable")
            groups = ordered.groupby("index", sort=False)
            self._arranged[quantity] = {
                int(index): (part["step"].to_numpy(), part["value"].to_numpy(float))
                for index, part in cast("Iterable[tuple[int, pd.DataFrame]]", groups)
            }
        return self._arranged[quantity]

    @cached_property
    def _positions(self) -> Mapping[str, np.ndarray]:
        found = self.rows.groupby("quantity", sort=False).indices
        return cast("Mapping[str, np.ndarray]", found)

    @cached_property
    def _arranged(self) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
        return {}


def runs_of(
    run_table: pd.DataFrame,
    cases: Mapping[str, Mapping[str, Any]],
    read: set[tuple[str, int, float, str]] | None = None,
) -> list[Run]:
    """The runs of a run table, sorted by case, width, learning rate and seed.

    Values that did not converge are left out.

    Args:
        run_table: columns `RUN_COLUMNS`, and `process` where something ran beside training: then
            each run has what ran beside it.
        cases: settings of each case.
        read: is told what is asked of the runs.
    """
    return _runs(by_process(run_table), cases, set() if read is None else read)


def _runs(
    rows_of: Mapping[str, pd.DataFrame],
    cases: Mapping[str, Mapping[str, Any]],
    read: set[tuple[str, int, float, str]],
) -> list[Run]:
    """The runs of training, with those of what ran beside it, from the rows of each process."""
    found: dict[tuple[str, int, float, int], dict[str, Run]] = {}
    columns = [name for name in RUN_COLUMNS if name not in _RUN]
    for process, table in sorted(rows_of.items(), key=lambda item: item[0] == DISCRETE):
        check_run_table(table)
        known = frozenset(map(str, table["quantity"].unique()))
        groups = usable(table).groupby(_RUN, sort=True)
        for (case, width, rate, seed), rows in cast("Iterable[_Group]", groups):
            key = str(case), int(width), float(rate), int(seed)
            setup, beside = cases.get(key[0], {}), found.setdefault(key, {})
            beside[process] = Run(*key, rows[columns], known, setup, read, dict(beside))
    return [runs[DISCRETE] for _, runs in sorted(found.items()) if DISCRETE in runs]


def runs_by_network(tables: Tables, *quantities: str) -> dict[Network, list[Run]]:
    """The runs of each network for which all of the quantities were recorded, sorted by seed."""
    found: dict[Network, list[Run]] = {network: [] for network in networks(tables, *quantities)}
    for experiment, table in tables.items():
        rows_of = {DISCRETE: table.runs, **table.beside}
        for run in _runs(rows_of, table.settings.get("cases") or {}, table.read):
            key = Network(experiment, run.case, run.width, run.learning_rate)
            if key in found:
                found[key].append(run)
    return found
