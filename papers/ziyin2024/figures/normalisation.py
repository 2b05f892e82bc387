"""Norms of scale-invariant nets: they grow as the root of time under SGD, hardly under GD."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.figures.by_data import by_data
from sharpflow.results import tables as results
from sharpflow.results.noise import U, W, total_norm
from sharpflow.results.rates import accumulated
from sharpflow.results.runs import Run, runs_by_network

from ..claims.scale_invariance import decayed_level, norm_growth_exponent

TITLE = "The norms of scale-invariant nets grow as the root of time under SGD"
PUBLISHED = "Figures 5 and 7"
READS = ("norm_squared", "norm_increment_predicted")
SCATTER = (0.95, 1.05)
"""What the held-out samples and the rule between states leave of a law that holds exactly."""

NETS = {
    "global": "Net-A: only the global scale is a symmetry",
    "layer": "Net-B: each layer's scale is a symmetry",
}
"""By the setting `model.normalisation`."""
BALANCE = "noise balances decay"
LAYERS = {
    U: ("‖U‖²", style.PURPLE, (0, (6, 1.5))),
    W: ("‖W‖²", style.GREEN, (0, (2, 1))),
}
LOOKS = {
    "SGD": ensemble.SGD,
    "GD": ensemble.GD,
    "SGD, weight decay": {"colour": style.SKY, "linestyle": (0, (5, 1, 1, 1))},
}

Stack = tuple[str, list[results.Network]]
Members = dict[results.Network, list[Run]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Total norm, layers' norms, growth over its prediction; one stack of panels a net."""
    runs = runs_by_network(tables, *READS)
    nets = stacks_of(tables)
    figure, stacks = style.panel_grid(len(nets), (3.4, 3.0, 2.2), columns=2, width=4.6)
    handles = []
    for (title, members), (total, layers, ratios) in zip(nets, stacks, strict=True):
        handles += _draw_total(total, members, runs)
        handles += _draw_layers(layers, tables, members[0])
        handles += _draw_ratio(ratios, tables, members[0], runs)
        total.set_title(title)
        ratios.set_xlabel("step")
    for level in range(3):
        style.common_limits([stack[level] for stack in stacks])
    style.label_rows(stacks, "‖θ‖² / start", "‖U‖², ‖W‖² / start", "growth / predicted")
    style.legend_below(figure, handles)
    return figure


def stacks_of(tables: results.Tables) -> list[Stack]:
    """A stack for each network under SGD, or GD alone: its title, and its networks.

    One with weight decay comes last in the stack of its model, and has none of its own.
    """
    return [stack for words, own in by_data(tables, *READS) for stack in _stacks(words, own)]


def _stacks(words: str, known: Sequence[results.Network]) -> list[Stack]:
    decaying = [network for network in known if _decays(network)]
    found = [
        [network for network in pair if network]
        for pair in ensemble.pairs([network for network in known if network not in decaying])
    ]
    titles = ensemble.labels(
        [members[0] for members in found], lambda n: NETS.get(n.setting("model.normalisation"))
    )
    return [
        (
            _titled(titles[members[0]], words),
            members + [n for n in decaying if _model(n) == _model(members[0])],
        )
        for members in found
    ]


def _titled(title: str, words: str) -> str:
    """A stack's title, with the words for its data, if any, after the net's name."""
    name, colon, rest = title.partition(":")
    return f"{name}, {words}{colon}{rest}" if words else title


def _decays(network: results.Network) -> bool:
    return bool(network.batch and network.setting("training.weight_decay"))


def _model(network: results.Network) -> tuple[str, int, Any]:
    return network.experiment, network.width, network.setting("model")


def _look(network: results.Network) -> str:
    return ensemble.method(network) + (", weight decay" if _decays(network) else "")


def _relative(frame: pd.DataFrame) -> pd.DataFrame:
    return (frame / frame.iloc[0])[frame.index > 0]


def _draw_total(axes: Axes, members: Sequence[results.Network], runs: Members) -> list[Artist]:
    handles: list[Artist] = []
    for network in members:
        method = _look(network)
        growth = _relative(ensemble.by_seed(runs[network], total_norm))
        label = f"‖θ‖², {method}"
        handles.append(ensemble.draw_band(axes, growth, **LOOKS[method], label=label))
        if _decays(network):
            start = ensemble.by_seed(runs[network], total_norm).iloc[0]
            pairs = zip(runs[members[0]], runs[network], strict=False)
            level = np.median([np.sqrt(decayed_level(*pair)) for pair in pairs]) / start.median()
            line = axes.axhline(level, color=style.BLACK, linewidth=0.8, label=BALANCE)
            handles.append(line)
        elif network.batch:
            times = np.geomspace(growth.index[-1] / 100, growth.index[-1], 30)
            line = 1.35 * growth.iloc[-1].median() * np.sqrt(times / times[-1])
            handles += axes.plot(times, line, **ensemble.PREDICTION, label="slope ½")
    axes.set(xscale="log", yscale="log")
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def _draw_layers(axes: Axes, tables: results.Tables, network: results.Network) -> list[Artist]:
    handles: list[Artist] = []
    for index, (label, colour, linestyle) in LAYERS.items():
        frame = results.curves(tables, network, "norm_squared", index)
        if not frame.empty:
            words = f"{label}, {ensemble.method(network)}"
            handles.append(ensemble.draw_band(axes, _relative(frame), colour, linestyle, words))
    axes.set(xscale="log", yscale="log")
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def growth_ratio(
    tables: results.Tables, network: results.Network, runs: Sequence[Run], groups: int = 8
) -> pd.DataFrame:
    """Growth of ‖θ‖² over the accumulated predictions, by groups of steps of equal log length.

    From the second measured state on: the first steps change Σ too fast for the rule.

    Args:
        tables: of the experiments.
        network: whose growth.
        runs: of the network.
        groups: number of groups.

    Returns:
        One column a seed; the index is the middle of each group.
    """
    norm = ensemble.by_seed(runs, total_norm)
    predicted = results.curves(tables, network, "norm_increment_predicted")
    shared = norm.index.intersection(predicted.index)[1:]
    if len(shared) < 2:
        return pd.DataFrame()
    steps = shared.to_numpy(float)
    grown = norm.loc[shared].diff().iloc[1:]
    expected = pd.DataFrame(
        accumulated(steps, predicted.loc[shared]), grown.index, predicted.columns
    )
    middles = np.sqrt(steps[1:] * steps[:-1])
    edges = np.geomspace(steps[0], steps[-1], groups + 1)
    group = np.clip(np.digitize(middles, edges) - 1, 0, groups - 1)
    ratio = grown.groupby(group).sum() / expected.groupby(group).sum()
    ratio.index = [np.exp(np.log(middles[group == g]).mean()) for g in ratio.index]
    return ratio


def _draw_ratio(
    axes: Axes, tables: results.Tables, network: results.Network, runs: Members
) -> list[Artist | None]:
    label = f"growth / predicted, {ensemble.method(network)}"
    confidence = base.confidence(tables)
    ratios = growth_ratio(tables, network, runs[network]).iterrows()
    handles = [
        ensemble.draw_points(axes, step, values, confidence, style.BLUE, "o", label, spread=0.12)
        for step, values in cast("Iterable[tuple[float, pd.Series]]", ratios)
    ]
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    axes.axhspan(*SCATTER, color=style.GREY, alpha=0.18, linewidth=0, zorder=0)
    return handles


def _growth(network: results.Network, runs: Sequence[Run], confidence: float) -> str:
    """How far ‖θ‖² grew."""
    norm = ensemble.by_seed(runs, total_norm)
    return f"{ensemble.interval_text(norm.iloc[-1] / norm.iloc[0], confidence)} ×"


def _slope(network: results.Network, runs: Sequence[Run], confidence: float) -> str:
    """The exponent of ‖θ‖⁴ in time over the last decade, under SGD without decay."""
    if not network.batch or _decays(network):
        return ""
    return ensemble.interval_text([norm_growth_exponent.statistic(run) for run in runs], confidence)


def alt(tables: results.Tables) -> str:
    """What is seen, with the growth."""
    runs = runs_by_network(tables, *READS)
    confidence = base.confidence(tables)
    grown = [
        f"{title.split(':')[0]} {_look(n)} {_growth(n, runs[n], confidence)}"
        for title, members in stacks_of(tables)
        for n in members
    ]
    return (
        "Columns of three panels on logarithmic step axes, one a net: the squared norm of all "
        "parameters, that of the layers, and the growth over its prediction as points about one. "
        f"Growth: {'; '.join(grown)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Growth of ‖θ‖² and its exponent, of each network."""
    runs = runs_by_network(tables, *READS)
    confidence = base.confidence(tables)
    return base.numbers_table(
        tables,
        [network for _, members in stacks_of(tables) for network in members],
        {
            "weight decay": lambda n: base.number(n.setting("training.weight_decay") or np.nan),
            "growth of ‖θ‖²": lambda n: _growth(n, runs[n], confidence),
            "slope of log(‖θ‖⁴ − ‖θ₀‖⁴) on log t": lambda n: _slope(n, runs[n], confidence),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    low, high = SCATTER
    return base.join(
        "Above: ‖θ‖² over its start, and slope ½ (dotted), which Σ ∝ 1/‖θ‖² gives. Middle: the "
        "layers' norms under SGD. Below: growth of ‖θ‖² over the sum of η²(Tr Σ/S + ‖∇L‖²), by "
        f"stretches of steps (grey: {low:g} to {high:g}). That ‖θ‖ never shrinks is an identity, "
        "which GD shares.",
        ensemble.BAND,
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )
