"""Warm-up: the noise flattens at a low learning rate, and a high one is stable afterwards."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import base, ensemble, style
from sharpflow.figures.by_data import GAUSSIAN, by_data, data, titled
from sharpflow.results import tables as results

TITLE = "Warm-up lets the noise flatten the loss before the learning rate rises"
PUBLISHED = "Figure 4"
READS = ("hessian_trace",)
DRAWS = ("diverged_step", "hessian_trace_equilibrium")

PREDICTED = "hessian_trace_equilibrium"
EQUILIBRIUM = "noise equilibrium of the same UW"

LOOKS: dict[tuple[str, str | None, str | None], tuple[str, str, str | tuple]] = {
    ("SGD", "kaiming", "constant"): ("SGD, Kaiming, constant η", style.BLACK, (0, (2, 1))),
    ("SGD", "kaiming", "warmup"): ("SGD, Kaiming, warm-up", style.BLUE, "-"),
    ("SGD", "xavier", "constant"): ("SGD, Xavier, constant η", style.GREEN, (0, (6, 1.5))),
    ("GD", "kaiming", "constant"): ("GD, Kaiming, constant η", style.VERMILION, (0, (4, 1.5))),
}
"""Words, colour and dashes by method, initialisation and schedule."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Tr H in time (left) and at the end of training (right); a row for each kind of data."""
    groups = by_data(tables, *READS)
    figure = Figure(figsize=(8.8, 3.6 * len(groups) + 0.5), layout="constrained")
    grid = figure.subplots(len(groups), 2, width_ratios=(2.3, 1), sharey="row", squeeze=False)
    style.letter([*grid.flat])
    handles: list[Artist | None] = []
    for (words, networks), (left, right) in zip(groups, grid, strict=True):
        named = _named(networks)
        frames = {n: results.curves(tables, n, "hessian_trace") for n in named}
        handles += _draw_time(left, tables, named, frames)
        _draw_ends(right, tables, named, frames)
        left.set_title(titled(words, "in time"))
        right.set_title("over the last fifth")
    grid[-1, 0].set_xlabel("step")
    grid[-1, 1].set_xlabel("initialisation and schedule")
    style.legend_below(figure, handles)
    return figure


def _draw_time(
    axes: Axes,
    tables: results.Tables,
    named: dict[results.Network, str],
    frames: dict[results.Network, pd.DataFrame],
) -> list[Artist | None]:
    ceiling = 4 * max(frame.iloc[0].max() for frame in frames.values())
    handles: list[Artist | None] = []
    settled = [n for n in _predicted(tables, named) if ensemble.method(n) == "SGD"]
    for place, (network, label) in enumerate(named.items()):
        colour, linestyle = _look(network, place)
        frame = style.positive(frames[network]).clip(upper=10 * ceiling)
        handles.append(ensemble.draw_band(axes, frame, colour, linestyle, label))
        handles.append(_draw_divergence(axes, tables, network, colour, ceiling))
        if network in settled:
            predicted = results.curves(tables, network, PREDICTED)
            handles += axes.plot(
                predicted.index, predicted.mean(axis=1), **ensemble.PREDICTION, label=EQUILIBRIUM
            )
    for until in dict.fromkeys(warmup["until"] for warmup in _warmups(named)):
        handles.append(style.draw_moment(axes, until, "end of warm-up"))
    last = max(float(frame.index.max()) for frame in frames.values())
    low = min(float(frame.min().min()) for frame in frames.values())
    axes.set(ylabel="Tr H", yscale="log")
    axes.set(xlim=(-0.02 * last, last), ylim=(0.7 * low, ceiling))
    return handles


def _predicted(
    tables: results.Tables, networks: Iterable[results.Network]
) -> list[results.Network]:
    """Those whose noise equilibrium was measured, none of whose runs diverged."""
    known = results.networks(tables, PREDICTED)
    return [n for n in networks if n in known and not results.diverged(tables, n)]


def _named(networks: Sequence[results.Network]) -> dict[results.Network, str]:
    """Networks with what they are called, the paper's own first."""
    known = list(LOOKS)
    chosen = sorted(
        networks, key=lambda n: known.index(_kind(n)) if _kind(n) in known else len(known)
    )
    return ensemble.labels(chosen, lambda n: LOOKS.get(_kind(n), (None,))[0])


def _each(tables: results.Tables) -> dict[results.Network, str]:
    """All networks with what they are called, after the words for their data."""
    return {
        network: titled(words, label)
        for words, networks in by_data(tables, *READS)
        for network, label in _named(networks).items()
    }


def _kind(network: results.Network) -> tuple[str, str | None, str | None]:
    return (
        ensemble.method(network),
        network.setting("model.initialisation.kind"),
        network.setting("schedule.kind"),
    )


def _look(network: results.Network, place: int) -> tuple[str, str | tuple]:
    _, colour, linestyle = LOOKS.get(_kind(network), ("", *style.look(place)))
    return colour, linestyle


def _warmups(networks: Iterable[results.Network]) -> list[dict]:
    found = (n.setting("schedule") for n in networks if n.setting("schedule.kind") == "warmup")
    return [schedule for schedule in found if schedule]


def _draw_ends(
    axes: Axes,
    tables: results.Tables,
    named: dict[results.Network, str],
    frames: dict[results.Network, pd.DataFrame],
) -> None:
    """Tr H over the last fifth, of networks none of whose runs diverged."""
    ends = [n for n in named if not results.diverged(tables, n)]
    predictable = _predicted(tables, named)
    for place, network in enumerate(ends):
        colour, _ = _look(network, list(named).index(network))
        values, marker = ensemble.tail(frames[network]), style.MARKERS[place % len(style.MARKERS)]
        confidence = base.confidence(tables)
        ensemble.draw_points(axes, place, values, confidence, colour, marker, None, 0.5)
        if network in predictable:
            predicted = results.curves(tables, network, PREDICTED)
            level = ensemble.mean(ensemble.tail(predicted))
            ends_at = (place - 0.4, place + 0.4)
            axes.plot(ends_at, (level, level), **ensemble.PREDICTION)
    words = [named[n].replace(", constant η", "").replace(", ", ",\n") for n in ends]
    axes.set_xticks(range(len(ends)), words)
    axes.set_xlim(-0.6, len(ends) - 0.4)


def _draw_divergence(
    axes: Axes,
    tables: results.Tables,
    network: results.Network,
    colour: str,
    ceiling: float,
) -> Line2D | None:
    """Crosses, along the top, at the steps at which runs left the finite numbers."""
    steps = results.curves(tables, network, "diverged_step")
    if steps.empty:
        return None
    top = 0.85 * ceiling
    crosses = {"color": colour, "markersize": 6, "linestyle": "none", "clip_on": False}
    (marks,) = axes.plot(
        steps.max(), np.full(steps.shape[1], top), "x", **crosses, label="run diverged"
    )
    return marks


def alt(tables: results.Tables) -> str:
    """What is seen, and who diverged."""
    failed = {
        label: len(results.diverged(tables, n))
        for n, label in _each(tables).items()
        if results.diverged(tables, n)
    }
    words = "; ".join(f"{label}: {count} runs diverge" for label, count in failed.items())
    return (
        "Left, the trace of the Hessian over the steps on a logarithmic axis, a line and a band "
        "for each way of training, crosses where runs diverge and a dotted line where the warm-up "
        "ends. Right, the same at the end as points with intervals."
        + (f" {words}." if words else "")
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Tr H at the start and at the end, and until when runs diverged."""
    confidence = base.confidence(tables)

    def start(network: results.Network) -> str:
        return base.number(float(_trace(tables, network).iloc[0].mean()))

    def end(network: results.Network) -> str:
        if results.diverged(tables, network):
            return ""
        return ensemble.interval_text(ensemble.tail(_trace(tables, network)), confidence)

    def lost(network: results.Network) -> str:
        steps = results.curves(tables, network, "diverged_step")
        return "" if steps.empty else f"{int(steps.max().max()):,}"

    return base.numbers_table(
        tables,
        list(_each(tables)),
        {
            "Tr H at the start": start,
            f"over the last fifth (mean, {base.percent(confidence)} interval)": end,
            "diverged by step": lost,
        },
    )


def _trace(tables: results.Tables, network: results.Network) -> pd.DataFrame:
    return results.curves(tables, network, "hessian_trace")


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    networks = results.networks(tables, *READS)
    schedule = dict.fromkeys(map(_schedule, _warmups(networks)))
    losses = dict.fromkeys("population" if data(n) == GAUSSIAN else "full-batch" for n in networks)
    return base.join(
        f"Trace of the Hessian of the {' and the '.join(losses)} loss of a factorisation. At a low "
        "learning rate the noise of SGD takes Kaiming's unbalanced start towards the noise "
        "equilibrium, where the loss is flatter, before the rate rises.",
        f"Dotted upright: end of warm-up ({'; '.join(schedule)})." if schedule else "",
        "Dotted: Tr H of the layers with the same product UW whose noise is in balance."
        if results.networks(tables, PREDICTED)
        else "",
        ensemble.BAND,
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )


def _schedule(warmup: dict) -> str:
    rises = "rising from" if warmup.get("shape") == "linear" else "="
    return f"η {rises} {base.number(warmup['learning_rate'])} before step {warmup['until']:,}"
