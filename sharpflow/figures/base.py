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

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure

from sharpflow.errors import PartError
from sharpflow.parts.loading import PAPERS
from sharpflow.results import tables as results

_SPELLINGS = {
    **{name: name.upper() for name in ("cnn", "elu", "gd", "mlp", "mse", "sam", "sgd")},
    **{"adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW", "gelu": "GELU", "gpt": "GPT"},
    **{"kaiming": "Kaiming", "lora": "LoRA", "lstm": "LSTM", "nesterov": "Nesterov"},
    **{"relu": "ReLU", "resnet": "ResNet", "rmsprop": "RMSprop", "vit": "ViT", "xavier": "Xavier"},
    **{"beta": "β", "epsilon": "ε", "eta": "η", "phi": "φ"},
}


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


def words(figure: ModuleType, tables: results.Tables, paper: str = "") -> dict[str, Any]:
    """What stands around a figure on the page, in plain text.

    Args:
        figure: its module.
        tables: what it draws.
        paper: key of the paper that it is drawn for; another paper's figure has no number there.

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
    own = is_own(figure.__name__, paper)
    return {
        "title": title,
        "caption": figure.caption(tables),
        "published": _said(figure, "published", tables, "") if own else "",
        "alt": _said(figure, "alt", tables, title),
        "numbers": numbers,
    }


def is_own(module: str, paper: str) -> bool:
    """Whether a figure's module is of the paper that it is drawn for, or of one that is not told.

    Args:
        module: its dotted name.
        paper: key of the paper that it is drawn for; empty where that is not told.
    """
    return not paper or module.startswith(f"{PAPERS}.{paper}.")


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
    text = case(network, others)
    return f"{text}, width {network.width}" if len({n.width for n in own}) > 1 else text


def case(network: results.Network, others: Sequence[results.Network]) -> str:
    """A network's case, with its experiment where there are several."""
    text = spelled(network.case)
    if len({n.experiment for n in others}) > 1:
        text = f"{spelled(network.experiment)}: {text}"
    return text


def spelled(name: str) -> str:
    """The name of a case or an experiment as the field writes it: `sgd_k_0_5` is "SGD k 0.5"."""
    decimal = re.sub(r"(?<=_)(?:(\d)_|0(?=\d))(\d+)(?=_|$)", _decimal, name)
    return " ".join(_SPELLINGS.get(word, word) for word in decimal.split("_"))


def _decimal(digits: re.Match[str]) -> str:
    return f"{digits[1] or 0}.{digits[2]}"


def label(network: results.Network, others: Sequence[results.Network]) -> str:
    """Title of a network's panel: its name, momentum β if it has one, and its threshold."""
    parts = [name(network, others)]
    if momentum := network.setting("optimiser.momentum"):
        parts.append(f"β = {number(momentum)}")
    if network.rate_symbol != results.ETA:
        parts.append(f"{network.rate_symbol} = {number(network.learning_rate)}")
    elif np.isfinite(network.threshold):
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
    """Say what was not recorded at every step; `quantities` maps a name to its symbol."""
    phrases = []
    for quantity, symbol in quantities.items():
        found = (stride(tables, n, quantity) for n in results.networks(tables, quantity))
        strides = {steps for steps in found if steps is not None}
        if strides - {1}:
            phrases.append(f"{symbol} every {several(sorted(strides))} steps")
    return f"Recorded: {'; '.join(phrases)}." if phrases else ""


def scale_sentence(tables: results.Tables) -> str:
    """Say at which scale the experiments were made: n, data, width, threshold, steps and seeds.

    Learning rates that are multiples of each run's unit are said in the place of thresholds.
    """
    chosen = results.networks(tables)
    words = []
    if counts := [n for network in chosen if (n := _samples(tables, network))]:
        data = f"n = {several(counts)} samples"
        if sources := results.settings_of(tables, "data.source"):
            data += f" of {several(sources)}"
        if scalings := results.settings_of(tables, "data.scaling"):
            data += f" (pixels {several(scalings)})"
        words.append(data)
    words.append(f"width {several([n.width for n in chosen])}")
    known = [n for n in chosen if np.isfinite(n.threshold)]
    for symbol in dict.fromkeys(n.threshold_symbol for n in known):
        own = [n.threshold for n in known if n.threshold_symbol == symbol]
        words.append(f"{symbol} = {several(own)}")
    words += rates([n for n in chosen if n.rate_symbol != results.ETA])
    return scale(tables, words)


def _samples(tables: results.Tables, network: results.Network) -> int | None:
    try:
        return results.samples(tables, network)
    except ValueError:
        return None


def scale(tables: results.Tables, words: Sequence[str]) -> str:
    """The sentence on the scale of all that was drawn, from the smallest to the largest.

    Args:
        tables: of the experiments.
        words: what to say before batches, steps and seeds.

    Returns:
        One sentence; empty without networks.
    """
    chosen = results.networks(tables)
    if not chosen:
        return ""
    said = list(words)
    if batches := [n.batch for n in chosen if n.batch]:
        said.append(f"S = {several(batches)}")
    lasts = sorted({_last_step(table) for table in tables.values() if len(table.runs)})
    said.append(f"steps 0 to {' or '.join(f'{last:,}' for last in lasts)}")
    counts = sorted({table.runs["seed"].nunique() for table in tables.values()})
    said.append(f"{' or '.join(map(str, counts))} seed{'s' if counts != [1] else ''}")
    return f"Scale: {', '.join(said)}."


def _last_step(table: results.ExperimentTable) -> int:
    losses = table.runs[table.runs["quantity"] == "loss"]
    return int((losses if len(losses) else table.runs)["step"].max())


def numbers_table(
    tables: results.Tables,
    chosen: Sequence[results.Network],
    columns: Mapping[str, Callable[[results.Network], str]],
) -> dict[str, list] | None:
    """What a figure says of each network, as the table below its caption.

    Args:
        tables: of the experiments.
        chosen: the networks, a row each.
        columns: what to say of one, by the heading; one that is empty everywhere is left out.

    Returns:
        `columns` and `rows`: the network, n, width, η, S, steps and seeds as far as they are known,
        then `columns`; None without networks.
    """
    extents = _extents(tables, chosen)
    known: dict[str, Callable[[results.Network], str]] = {
        "network": lambda n: case(n, chosen),
        "n": lambda n: number(_samples(tables, n) or np.nan),
        "width": lambda n: str(n.width),
        **{s: partial(_rate, s) for s in dict.fromkeys(n.rate_symbol for n in chosen)},
        "S": lambda n: str(n.batch or "all") if any(m.batch for m in chosen) else "",
        "steps": lambda n: f"{extents[n].last:,}",
        "seeds": lambda n: str(extents[n].seeds),
        "diverged": lambda n: str(len(results.diverged(tables, n)) or ""),
    }
    cells = {
        heading: ["" if text in ("nan", "") else text for text in map(say, chosen)]
        for heading, say in (known | dict(columns)).items()
    }
    shown = {heading: own for heading, own in cells.items() if any(own)}
    rows = [[text or "–" for text in row] for row in zip(*shown.values(), strict=True)]
    return {"columns": list(shown), "rows": rows} if chosen else None


def _rate(symbol: str, network: results.Network) -> str:
    return number(network.learning_rate) if network.rate_symbol == symbol else ""


def rates(chosen: Sequence[results.Network]) -> list[str]:
    """The learning rates of networks as text, `η = 0.1, 0.2`, for each way to write them."""
    symbols = dict.fromkeys(network.rate_symbol for network in chosen)
    return [
        f"{symbol} = {several([n.learning_rate for n in chosen if n.rate_symbol == symbol])}"
        for symbol in symbols
    ]


class _Extent(NamedTuple):
    """Last recorded step of a network, and how many seeds it has."""

    last: int
    seeds: int


def _extents(
    tables: results.Tables, chosen: Sequence[results.Network]
) -> dict[results.Network, _Extent]:
    found = {}
    for experiment in {network.experiment for network in chosen}:
        grouped = tables[experiment].runs.groupby(["case", "width", "learning_rate"])
        for key, own in grouped:
            found[experiment, *key] = _Extent(int(own["step"].max()), own["seed"].nunique())
    return {n: found[n.experiment, n.case, n.width, n.learning_rate] for n in chosen}


def seeds_sentence(tables: results.Tables, quantity: str) -> str:
    """Say which seed is drawn in full, how the others are shown, and which runs diverged."""
    chosen = results.networks(tables, quantity)
    strong = {results.strong_seed(tables, n, quantity) for n in chosen}
    counts = [len(results.curves(tables, n, quantity).columns) for n in chosen]
    failed = sum(len(results.diverged(tables, n)) for n in chosen)
    which = f"seed {min(strong)}" if len(strong) == 1 else "the lowest finite seed"
    text = f"Strong: {which}; faint: the others." if max(counts, default=1) > 1 else ""
    if failed:
        text += f" {failed} of {sum(counts)} runs diverged and are drawn until they did."
    return text.strip()


def points_sentence(tables: results.Tables) -> str:
    """Say what small and large markers are."""
    return f"Small points: seeds; large: their mean, {percent(confidence(tables))} t-interval."


def join(*sentences: str) -> str:
    """Caption from its sentences; empty ones are left out."""
    return " ".join(sentence for sentence in sentences if sentence)
