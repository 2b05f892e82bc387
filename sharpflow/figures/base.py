"""What every figure module shares: the tables it is given, the runs in them, and its caption.

A figure is a module of this package with a ``TITLE``, a function ``draw(tables)`` that returns a
matplotlib figure, and a function ``caption(tables)`` that returns plain text; one that is drawn of
several experiments, each by itself, may have a function ``title(tables)`` too. ``tables`` maps the
name of an experiment to its :class:`ExperimentTable`. Everything a figure or its caption says
about scale comes from the tables and settings.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

_SHARED = frozenset({"base", "style"})


@dataclass(frozen=True)
class ExperimentTable:
    """Results of one experiment.

    Attributes
    ----------
    runs : DataFrame
        One row a scalar: case, width, learning_rate, seed, step, quantity, index, value.
    summary : DataFrame
        The same without seed, and with mean, low, high and seeds in place of value.
    settings : dict
        The experiment's configuration: title, paper, seeds, data, model, training, cases. Any key
        may be absent.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    settings: dict


Tables = Mapping[str, ExperimentTable]


class FigureModule(Protocol):
    """Face of a figure module."""

    TITLE: str

    def draw(self, tables: Tables) -> Figure: ...

    def caption(self, tables: Tables) -> str: ...


def names() -> list[str]:
    """Names of all figures, in alphabetical order, found without importing any."""
    folder = str(Path(__file__).parent)
    found = (module.name for module in pkgutil.iter_modules([folder]))
    return sorted(n for n in found if n not in _SHARED and not n.startswith("_"))


def load(name: str) -> FigureModule:
    """Import the one figure module that is called ``name``.

    Raises
    ------
    ValueError
        If there is no such figure; the message lists the names and the nearest.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"figure is {name!r}, and must be one of {', '.join(known)}{hint}")
    return importlib.import_module(f"sharpflow.figures.{name}")


def title(figure: FigureModule, tables: Tables) -> str:
    """Title of a figure on the page: what its ``title`` makes of the tables, or its ``TITLE``."""
    own = getattr(figure, "title", None)
    return own(tables) if own else figure.TITLE


@dataclass(frozen=True)
class Network:
    """One setting that was trained from several seeds.

    ``stability_threshold`` is that of the tables, where they state one (momentum has its own).
    """

    experiment: str
    case: str
    width: int
    learning_rate: float
    stability_threshold: float | None = field(default=None, compare=False)

    @property
    def threshold(self) -> float:
        """Stability threshold: the stated one, or else 2/η."""
        if self.stability_threshold is not None:
            return self.stability_threshold
        return 2.0 / self.learning_rate

    @property
    def threshold_symbol(self) -> str:
        """How the threshold is written: 2/η, or (2 + 2β)/η where the tables state it."""
        return "2/η" if self.stability_threshold is None else "(2 + 2β)/η"


def networks(tables: Tables, quantity: str | None = None) -> list[Network]:
    """Networks in the tables, by experiment, case (in the order of the settings), width and 2/η.

    With ``quantity``, only those for which it was recorded.
    """
    found = []
    for experiment, table in tables.items():
        runs = table.runs if quantity is None else table.runs[table.runs["quantity"] == quantity]
        order = list(table.settings.get("cases") or {})
        keys = runs[["case", "width", "learning_rate"]].drop_duplicates()
        rows = [(str(c), int(w), float(r)) for c, w, r in keys.itertuples(index=False)]
        rows.sort(key=lambda r: (order.index(r[0]) if r[0] in order else len(order), *r[:2], -r[2]))
        stated = table.runs[table.runs["quantity"] == "stability_threshold"]
        values = stated.groupby(["case", "width", "learning_rate"])["value"].first().to_dict()
        found += [Network(experiment, *row, values.get(row)) for row in rows]
    return found


def curves(tables: Tables, network: Network, quantity: str, index: int = 0) -> pd.DataFrame:
    """One quantity of a network: steps as the index, one column a seed, NaN where unmeasured.

    Infinite values are returned as NaN. The frame is empty if nothing was recorded.
    """
    runs = tables[network.experiment].runs
    chosen = runs[
        (runs["quantity"] == quantity)
        & (runs["index"] == index)
        & (runs["case"] == network.case)
        & (runs["width"] == network.width)
        & (runs["learning_rate"] == network.learning_rate)
    ]
    frame = chosen.pivot(index="step", columns="seed", values="value").sort_index()
    return frame.astype(float).replace([np.inf, -np.inf], np.nan)


def samples(tables: Tables, network: Network) -> int:
    """Number of training samples n of a network.

    Raises
    ------
    ValueError
        If neither the tables nor the settings say it.
    """
    frame = curves(tables, network, "samples")
    if not frame.empty:
        return int(frame.iloc[0].dropna().iloc[0])
    stated = (tables[network.experiment].settings.get("data") or {}).get("samples")
    if stated is None:
        raise ValueError(
            f"tables of {network.experiment!r} have no quantity 'samples', and its settings "
            "no data.samples: one of them must give n"
        )
    return int(stated)


def strong_seed(tables: Tables, network: Network, quantity: str = "loss") -> int:
    """Seed to draw in full: the lowest that stayed finite, or the lowest if none did."""
    frame = curves(tables, network, quantity)
    if frame.empty:
        raise ValueError(f"quantity {quantity!r} was not recorded for {network}")
    failed = set(diverged(tables, network))
    return int(next((seed for seed in frame.columns if seed not in failed), frame.columns[0]))


def diverged(tables: Tables, network: Network) -> list[int]:
    """Seeds of the runs that left the finite numbers."""
    return [int(seed) for seed in curves(tables, network, "diverged_step").columns]


def label(tables: Tables, network: Network, others: Sequence[Network]) -> str:
    """Title of a network's panel: its case, 2/η, and whatever tells it from ``others``.

    Momentum β is named where the settings state it.
    """
    settings = tables[network.experiment].settings
    spec = (settings.get("cases") or {}).get(network.case)
    stated = spec.get("title") or spec.get("label") if isinstance(spec, Mapping) else None
    parts = [str(stated or network.case.replace("_", " "))]
    if len({n.experiment for n in others}) > 1:
        parts[0] = f"{network.experiment.replace('_', ' ')}: {parts[0]}"
    if len({n.width for n in others if n.experiment == network.experiment}) > 1:
        parts.append(f"width {network.width}")
    training = spec.get("training") if isinstance(spec, Mapping) else None
    if training and training.get("momentum"):
        parts.append(f"β = {number(training['momentum'])}")
    parts.append(f"{network.threshold_symbol} = {number(network.threshold)}")
    return ", ".join(parts)


def number(value: float) -> str:
    """A number as text: at most four significant digits, thousands separated."""
    if not np.isfinite(value):
        return str(value)
    rounded = float(f"{value:.4g}")
    if abs(rounded) < 1e7 and rounded == int(rounded):
        return f"{int(rounded):,}"
    return f"{rounded:g}"


def several(values: Sequence[float | str]) -> str:
    """Distinct values as text: a few are listed, many are given as a range."""
    unique = list(dict.fromkeys(values))
    if all(isinstance(value, str) for value in unique):
        return ", ".join(unique)
    unique = sorted(unique)
    if len(unique) > 5:
        return f"{number(unique[0])} to {number(unique[-1])} ({len(unique)} values)"
    return ", ".join(number(value) for value in unique)


def stride(tables: Tables, network: Network, quantity: str) -> int | None:
    """Commonest number of steps between two records of a quantity; None if there are not two."""
    steps = curves(tables, network, quantity).index.to_numpy()
    if len(steps) < 2:
        return None
    values, counts = np.unique(np.diff(steps), return_counts=True)
    return int(values[counts.argmax()])


def stride_sentence(tables: Tables, quantities: Mapping[str, str]) -> str:
    """Say how often each quantity was recorded; ``quantities`` maps its name to its symbol."""
    phrases = []
    for quantity, symbol in quantities.items():
        strides = {stride(tables, n, quantity) for n in networks(tables, quantity)} - {None}
        if strides == {1}:
            phrases.append(f"{symbol} at every step")
        elif strides:
            phrases.append(f"{symbol} every {several(list(strides))} steps")
    return f"Recorded: {'; '.join(phrases)}." if phrases else ""


def scale_sentence(tables: Tables) -> str:
    """Say at which scale the experiments were made: n, data, width, steps, 2/η and seeds."""
    clauses = []
    for experiment, table in tables.items():
        chosen = networks({experiment: table})
        if not chosen:
            continue
        settings = table.settings
        data = settings.get("data") or {}
        losses = table.runs[table.runs["quantity"] == "loss"]
        records = losses if len(losses) else table.runs
        words = [f"n = {several([samples(tables, n) for n in chosen])} samples"]
        if data.get("source"):
            words[0] += f" of {data['source']}"
        if data.get("scaling"):
            words[0] += f" (pixels {data['scaling']})"
        if (settings.get("training") or {}).get("method"):
            words.append(f"method {settings['training']['method']}")
        words.append(f"width {several([n.width for n in chosen])}")
        for symbol in dict.fromkeys(n.threshold_symbol for n in chosen):
            own = [n.threshold for n in chosen if n.threshold_symbol == symbol]
            words.append(f"{symbol} = {several(own)}")
        count = records["seed"].nunique()
        words.append(f"steps 0 to {int(records['step'].max()):,}")
        words.append(f"{count} seed{'s' if count != 1 else ''}")
        clauses.append(f"{settings.get('title', experiment)}: {', '.join(words)}")
    return f"Scale: {'; '.join(clauses)}." if clauses else ""


def seeds_sentence(tables: Tables, quantity: str) -> str:
    """Say which seed is drawn in full, how the others are shown, and which runs diverged."""
    chosen = networks(tables, quantity)
    strong = {strong_seed(tables, n, quantity) for n in chosen}
    counts = [len(curves(tables, n, quantity).columns) for n in chosen]
    failed = sum(len(diverged(tables, n)) for n in chosen)
    which = f"seed {min(strong)}" if len(strong) == 1 else "the lowest seed that stayed finite"
    text = f"Strong line: {which}"
    text += "; faint lines: the other seeds (not averaged)." if max(counts, default=1) > 1 else "."
    if failed:
        text += f" {failed} of {sum(counts)} runs diverged and are drawn until they did."
    return text


def cut_sentence(tables: Tables, quantity: str) -> str:
    """Say that an axis of sharpness is cut at four times 2/η, where it is."""
    chosen = networks(tables, quantity)
    cut = any(curves(tables, n, quantity).max().max() > 4 * n.threshold for n in chosen)
    return "The axis of the sharpness is cut at four times 2/η." if cut else ""


def join(*sentences: str) -> str:
    """Caption from its sentences; empty ones are left out."""
    return " ".join(sentence for sentence in sentences if sentence)
