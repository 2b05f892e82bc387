"""Run tables and networks: the one way in which numbers leave a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

RUN_COLUMNS = ("case", "width", "learning_rate", "seed", "step", "quantity", "index", "value")
CONVERGED = "_converged"
"""Ends the name of the quantity that says of another's values whether they converged."""


ETA = "η"
"""How a learning rate is written that is the same for all runs of a network."""
IN_THE_METRIC = frozenset({"preconditioned_sharpness"})
"""Curvatures in an optimiser's metric; only they compare with its threshold, where it has one."""


def comparable(quantity: str, setup: Mapping[str, Any]) -> bool:
    """Whether a curvature compares with the stability threshold of a case's optimiser.

    The threshold of RMSprop, Adam and their like is one of the preconditioned Hessian.
    """
    return not setup.get("preconditioned", False) or quantity in IN_THE_METRIC


def check_run_table(run_table: pd.DataFrame) -> None:
    """ValueError unless the table has the columns of a run table."""
    missing = [name for name in RUN_COLUMNS if name not in run_table.columns]
    if missing:
        raise ValueError(
            f"run_table lacks {', '.join(missing)}; its columns must be {', '.join(RUN_COLUMNS)}."
        )


def usable(run_table: pd.DataFrame) -> pd.DataFrame:
    """The table without the values that did not converge.

    Those are the rows of a quantity whose `<quantity>_converged` is 0 for the same run, step and
    index.
    """
    flags = run_table["quantity"].astype(str).str.endswith(CONVERGED)
    failed = run_table[flags & (run_table["value"] == 0)]
    if failed.empty:
        return run_table
    names = failed["quantity"].astype(str).str.removesuffix(CONVERGED)
    keys = ["case", "width", "learning_rate", "seed", "step", "quantity", "index"]
    wanted = pd.MultiIndex.from_frame(failed.assign(quantity=names)[keys])
    suspects = run_table["quantity"].isin(names.unique())
    found = pd.MultiIndex.from_frame(run_table.loc[suspects, keys]).isin(wanted)
    keep = np.ones(len(run_table), dtype=bool)
    keep[np.flatnonzero(suspects)[found]] = False
    return run_table[keep]


@dataclass(frozen=True)
class ExperimentTable:
    """Results of one experiment.

    Attributes:
        runs: one row a scalar: case, width, learning_rate, seed, step, quantity, index, value;
            values that did not converge are left out.
        summary: the same without seed, and with mean, low, high and seeds in place of value.
        settings: the experiment's: title, paper, seeds, …, and `cases`, each a whole set-up.
        confidence: of intervals over seeds.
        read: what was asked of the runs so far: case, width, learning rate and quantity.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    settings: Mapping[str, Any]
    confidence: float = 0.95
    read: set[tuple[str, int, float, str]] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "runs", usable(self.runs))


Tables = Mapping[str, ExperimentTable]
"""Results by the experiment's name."""


@dataclass(frozen=True)
class Network:
    """One setting that was trained from several seeds.

    Attributes:
        threshold: the stability threshold at the last record that has one; NaN where learning rates
            are multiples of each run's own unit.
        setup: settings of the case.
    """

    experiment: str
    case: str
    width: int
    learning_rate: float
    threshold: float = field(default=np.nan, compare=False)
    setup: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def threshold_symbol(self) -> str:
        """How the threshold is written: 2/η, or (2 + 2β)/η with heavy-ball momentum."""
        return str(self.setup.get("threshold_symbol", "2/η"))

    @property
    def rate_symbol(self) -> str:
        """How `learning_rate` is written: η, or ηλ₀/2 where that is what it says."""
        return str(self.setup.get("rate_symbol", ETA))

    @property
    def batch(self) -> int | None:
        """S, the samples a step; None for gradient descent."""
        return self.setting("training.batch")

    def setting(self, key: str) -> Any:
        """A setting of the case by its dotted key, `training.frozen` say; None if it has none."""
        return _setting(self.setup, key)


def networks(tables: Tables, *quantities: str) -> list[Network]:
    """Networks in the tables, by experiment, case (in the order of the settings), width and 2/η.

    With `quantities`, only those for which all of them were recorded.
    """
    found = []
    for experiment, table in tables.items():
        keys = _keys(table.runs)
        for quantity in quantities:
            keys &= _keys(table.runs[table.runs["quantity"] == quantity])
        cases = table.settings.get("cases") or {}
        order = list(cases)
        rows = [(str(c), int(w), float(r)) for c, w, r in keys]
        rows.sort(key=lambda r: (order.index(r[0]) if r[0] in order else len(order), *r[:2], -r[2]))
        thresholds = _last_thresholds(table.runs)
        for row in rows:
            setup = cases.get(row[0], {})
            shared = setup.get("rate_symbol", ETA) == ETA
            threshold = thresholds.get(row, np.nan) if shared else np.nan
            found.append(Network(experiment, *row, threshold, setup))
    return found


def _keys(runs: pd.DataFrame) -> set[tuple[str, int, float]]:
    keys = runs[["case", "width", "learning_rate"]].drop_duplicates()
    return set(keys.itertuples(index=False, name=None))


def _last_thresholds(runs: pd.DataFrame) -> dict[tuple[str, int, float], float]:
    """Last finite stability threshold of each network, of its first seed that has one."""
    stated = runs[
        (runs["quantity"] == "stability_threshold") & np.isfinite(runs["value"].astype(float))
    ]
    ordered = stated.sort_values(["seed", "step"], kind="stable")
    ordered = ordered.drop_duplicates(["case", "width", "learning_rate", "seed"], keep="last")
    first = ordered.drop_duplicates(["case", "width", "learning_rate"])
    keys = zip(first["case"], first["width"], first["learning_rate"], strict=True)
    values = zip(keys, first["value"], strict=True)
    return {(str(c), int(w), float(r)): float(value) for (c, w, r), value in values}


def curves(tables: Tables, network: Network, quantity: str, index: int = 0) -> pd.DataFrame:
    """One quantity of a network: steps as the index, one column a seed, NaN where unmeasured.

    Infinite values are returned as NaN. The frame is empty if nothing was recorded.
    """
    return _recorded(tables, network, quantity, index).replace([np.inf, -np.inf], np.nan)


def _recorded(tables: Tables, network: Network, quantity: str, index: int = 0) -> pd.DataFrame:
    table = tables[network.experiment]
    table.read.add((network.case, network.width, network.learning_rate, quantity))
    runs = table.runs
    chosen = runs[
        (runs["quantity"] == quantity)
        & (runs["index"] == index)
        & (runs["case"] == network.case)
        & (runs["width"] == network.width)
        & (runs["learning_rate"] == network.learning_rate)
    ]
    frame = chosen.pivot(index="step", columns="seed", values="value").sort_index()
    return frame.astype(float)


def relative(tables: Tables, network: Network, quantity: str, index: int = 0) -> pd.DataFrame:
    """A curvature of a network over the stability threshold of the same run and step.

    NaN for one that does not compare with it (`comparable`).
    """
    frame = curves(tables, network, quantity, index)
    if not comparable(quantity, network.setup):
        return frame * np.nan
    thresholds = _recorded(tables, network, "stability_threshold")
    steps = thresholds.index.union(frame.index)
    known = thresholds.reindex(steps).ffill().reindex(index=frame.index, columns=frame.columns)
    return frame / known


def samples(tables: Tables, network: Network) -> int:
    """Number of training samples n of a network.

    Raises:
        ValueError: neither the tables nor the settings say it.
    """
    frame = curves(tables, network, "samples")
    if not frame.empty:
        return int(frame.iloc[0].dropna().iloc[0])
    stated = network.setting("data.samples")
    if stated is None:
        raise ValueError(
            f"tables of {network.experiment!r} have no quantity 'samples', and its settings "
            "no data.samples: one of them must give n"
        )
    return int(stated)


def diverged(tables: Tables, network: Network) -> list[int]:
    """Seeds of the runs that left the finite numbers."""
    return [int(seed) for seed in curves(tables, network, "diverged_step").columns]


def strong_seed(tables: Tables, network: Network, quantity: str = "loss") -> int:
    """Seed to draw in full: the lowest that stayed finite, or the lowest if none did.

    Raises:
        ValueError: the quantity was not recorded for the network.
    """
    frame = curves(tables, network, quantity)
    if frame.empty:
        raise ValueError(f"quantity {quantity!r} was not recorded for {network}")
    failed = set(diverged(tables, network))
    return int(next((seed for seed in frame.columns if seed not in failed), frame.columns[0]))


def settings_of(tables: Tables, key: str) -> list[Any]:
    """Distinct values of a dotted setting over all cases of all tables, without None."""
    found: list[Any] = []
    for table in tables.values():
        for setup in (table.settings.get("cases") or {}).values():
            value = _setting(setup, key)
            if value is not None and value not in found:
                found.append(value)
    return found


def _setting(setup: Any, key: str) -> Any:
    for name in key.split("."):
        setup = setup.get(name) if isinstance(setup, Mapping) else None
    return setup
