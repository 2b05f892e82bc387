"""What every figure shares: its words, its numbers as text, and its caption's sentences.

A figure is a module with a `TITLE`, a function `draw(tables)` that returns a matplotlib figure, and
a function `caption(tables)` that returns plain text. It may say more (see `words`): `PUBLISHED`,
`ALT`, and `numbers(tables)`, what is too long for a caption; for the texts, a function of the same
name in small letters (`title(tables)`) stands in for the constant where they depend on the tables.
`tables` maps the name of an experiment to its `results.tables.ExperimentTable`; everything a figure
or its caption says about scale comes from it.

Three literal constants say what a figure draws, and are read without running it: `READS`, the
quantities without which it cannot be drawn; `DRAWS`, those that it draws too where they were
measured; `CASES`, patterns of the only cases that it can draw, if they are not all.
"""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from sharpflow.errors import PartError
from sharpflow.results import tables as results


def checked(figure: object, module: str) -> Figure:
    """What the function `draw` of a module returned.

    Raises:
        PartError: it is no matplotlib figure.
    """
    if not isinstance(figure, Figure):
        raise PartError(
            f"{module}: draw returned {type(figure).__name__!r}; it must return a "
            "matplotlib.figure.Figure."
        )
    return figure


def words(figure: ModuleType, tables: results.Tables) -> dict[str, Any]:
    """What stands around a figure on the page, in plain text.

    Returns:
        `title`; `caption`; `published`, the number of the paper's figure that it is (`Figure 3,
        left`), empty where it is none; `alt`, what is seen, for who cannot see it (the title, if
        the module says no more); `numbers`, a small table as `columns` and `rows` of texts, or
        None.

    Raises:
        PartError: the numbers are not such a table.
    """
    numbers = _said(figure, "numbers", tables, None)
    if numbers is not None:
        numbers = _checked_numbers(numbers, figure.__name__)
    title = _said(figure, "title", tables)
    return {
        "title": title,
        "caption": figure.caption(tables),
        "published": _said(figure, "published", tables, ""),
        "alt": _said(figure, "alt", tables, title),
        "numbers": numbers,
    }


def _said(figure: ModuleType, name: str, tables: results.Tables, instead: Any = None) -> Any:
    """What a module's function of this name makes of the tables, or its constant, or `instead`."""
    own = getattr(figure, name, None)
    return own(tables) if own else getattr(figure, name.upper(), instead)


def _checked_numbers(numbers: Any, module: str) -> dict[str, list]:
    try:
        columns = [str(text) for text in numbers["columns"]]
        rows = [[str(text) for text in row] for row in numbers["rows"]]
    except (KeyError, TypeError):
        columns, rows = [], [[""]]
    if any(len(row) != len(columns) for row in rows):
        raise PartError(
            f"{module}: numbers must return {{'columns': [...], 'rows': [[...]]}}, each row as "
            "long as the columns, or None."
        )
    return {"columns": columns, "rows": rows}


def confidence(tables: results.Tables) -> float:
    """Confidence of every interval, which all tables share."""
    return next(iter(tables.values())).confidence


def percent(share: float) -> str:
    """A share as a percentage, `95 %`."""
    return f"{100 * share:g} %"


def name(network: results.Network, others: Sequence[results.Network]) -> str:
    """A network's case, with its experiment and its width where others differ in them."""
    own = [n for n in others if n.experiment == network.experiment]
    text = network.case.replace("_", " ")
    if len({n.experiment for n in others}) > 1:
        text = f"{network.experiment.replace('_', ' ')}: {text}"
    return f"{text}, width {network.width}" if len({n.width for n in own}) > 1 else text


def label(network: results.Network, others: Sequence[results.Network]) -> str:
    """Title of a network's panel: its name, momentum β if it has one, and its threshold."""
    parts = [name(network, others)]
    if momentum := network.setting("optimiser.momentum"):
        parts.append(f"β = {number(momentum)}")
    if np.isfinite(network.threshold):
        parts.append(f"{network.threshold_symbol} = {number(network.threshold)}")
    return ", ".join(parts)


def symbols(chosen: Sequence[results.Network]) -> str:
    """How the stability thresholds of networks are written: `2/η`."""
    return " or ".join(dict.fromkeys(network.threshold_symbol for network in chosen))


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
        return ", ".join(map(str, unique))
    numbers = sorted(cast("list[float]", unique))
    if len(numbers) > 5:
        return f"{number(numbers[0])} to {number(numbers[-1])} ({len(numbers)} values)"
    return ", ".join(number(value) for value in numbers)


def stride(tables: results.Tables, network: results.Network, quantity: str) -> int | None:
    """Commonest number of steps between two records of a quantity; None if there are not two."""
    steps = results.curves(tables, network, quantity).index.to_numpy()
    if len(steps) < 2:
        return None
    values, counts = np.unique(np.diff(steps), return_counts=True)
    return int(values[counts.argmax()])


def stride_sentence(tables: results.Tables, quantities: Mapping[str, str]) -> str:
    """Say how often each quantity was recorded; `quantities` maps its name to its symbol."""
    phrases = []
    for quantity, symbol in quantities.items():
        found = (stride(tables, n, quantity) for n in results.networks(tables, quantity))
        strides = {steps for steps in found if steps is not None}
        if strides == {1}:
            phrases.append(f"{symbol} at every step")
        elif strides:
            phrases.append(f"{symbol} every {several(list(strides))} steps")
    return f"Recorded: {'; '.join(phrases)}." if phrases else ""


def scale_sentence(tables: results.Tables) -> str:
    """Say at which scale the experiments were made: n, data, width, threshold, steps and seeds."""

    def describe(table: results.Tables, chosen: list[results.Network]) -> list[str]:
        data = f"n = {several([results.samples(table, n) for n in chosen])} samples"
        if sources := results.settings_of(table, "data.source"):
            data += f" of {several(sources)}"
        if scalings := results.settings_of(table, "data.scaling"):
            data += f" (pixels {several(scalings)})"
        words = [data, f"width {several([n.width for n in chosen])}"]
        known = [n for n in chosen if np.isfinite(n.threshold)]
        for symbol in dict.fromkeys(n.threshold_symbol for n in known):
            own = [n.threshold for n in known if n.threshold_symbol == symbol]
            words.append(f"{symbol} = {several(own)}")
        return words

    return scale(tables, describe)


def scale(
    tables: results.Tables, describe: Callable[[results.Tables, list[results.Network]], list[str]]
) -> str:
    """The sentence on the scale of each experiment.

    Args:
        tables: of the experiments.
        describe: what to say, before batches, steps and seeds, of one experiment's table and
            networks.

    Returns:
        One sentence; empty without networks.
    """
    clauses = []
    for experiment, table in tables.items():
        chosen = results.networks({experiment: table})
        if not chosen:
            continue
        words = describe({experiment: table}, chosen)
        if batches := [n.batch for n in chosen if n.batch]:
            words.append(f"S = {several(batches)}")
        losses = table.runs[table.runs["quantity"] == "loss"]
        records = losses if len(losses) else table.runs
        if last := int(records["step"].max()):
            words.append(f"steps 0 to {last:,}")
        count = records["seed"].nunique()
        words.append(f"{count} seed{'s' if count != 1 else ''}")
        clauses.append(f"{table.settings.get('title', experiment)}: {', '.join(words)}")
    return f"Scale: {'; '.join(clauses)}." if clauses else ""


def seeds_sentence(tables: results.Tables, quantity: str) -> str:
    """Say which seed is drawn in full, how the others are shown, and which runs diverged."""
    chosen = results.networks(tables, quantity)
    strong = {results.strong_seed(tables, n, quantity) for n in chosen}
    counts = [len(results.curves(tables, n, quantity).columns) for n in chosen]
    failed = sum(len(results.diverged(tables, n)) for n in chosen)
    which = f"seed {min(strong)}" if len(strong) == 1 else "the lowest seed that stayed finite"
    text = f"Strong line: {which}"
    text += "; faint lines: the other seeds (not averaged)." if max(counts, default=1) > 1 else "."
    if failed:
        text += f" {failed} of {sum(counts)} runs diverged and are drawn until they did."
    return text


def points_sentence(tables: results.Tables) -> str:
    """Say what small and large markers are."""
    return (
        "Small points: seeds; large markers: their mean with its "
        f"{percent(confidence(tables))} t-interval."
    )


def join(*sentences: str) -> str:
    """Caption from its sentences; empty ones are left out."""
    return " ".join(sentence for sentence in sentences if sentence)
