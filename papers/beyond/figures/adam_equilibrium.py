"""What gradient noise balances between layers: its power under SGD, its root under Adam."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network

from ..claims.adam_equilibrium import BALANCED, power_gap, root_gap

TITLE = "SGD balances the power of the noise between layers, Adam its root"
READS = (
    "symmetry_noise_outer",
    "symmetry_noise_inner",
    "symmetry_root_outer",
    "symmetry_root_inner",
)
POWER, ROOT = READS[:2], READS[2:]
FAMILIES = {"sgd": ("SGD", style.BLUE, "o"), "adam": ("Adam", style.VERMILION, "s")}
OTHER = ("RMSprop", style.GREEN, "D")
LARGE = 0.01
"""An ε above which Adam is no longer drawn as Adam."""
MIDDLE = ("Adam, large ε", style.PURPLE, "^")
NAMES = {
    "sgd_small_outer": "SGD, small outer start",
    "sgd_large_outer": "SGD, large outer start",
    "adam_small_outer": "Adam, small outer start",
    "adam_large_outer": "Adam, large outer start",
    "adam_half_rate": "Adam, half of η",
    "adam_batch_4": "Adam, S = 4",
    "adam_batch_64": "Adam, S = 64",
    "adam_no_momentum": "Adam, β₁ = 0",
    "adam_short_memory": "Adam, β₂ = 0.99",
    "adam_60_inputs": "Adam, 60 inputs",
    "adam_linear": "Adam, linear",
    "rmsprop": "RMSprop",
    "between_small": "Adam, ε = 0.1",
    "between_large": "Adam, ε = 0.3",
    "epsilon_large": "Adam, ε = 3",
    "forgetful": "Adam, β₂ = 0.5, β₁ = 0",
    "square": "Adam, 20 outputs",
    "sgd_small_values": "SGD, small values",
    "sgd_large_values": "SGD, large values",
    "adam_small_values": "Adam, small values",
    "adam_large_values": "Adam, large values",
}
"""Words for the cases of the experiments that it is drawn for."""


def family(network: results.Network) -> tuple[str, str, str]:
    """Name, colour and marker of the network's optimiser."""
    if (network.setting("optimiser.epsilon") or 0) > LARGE:
        return MIDDLE
    return FAMILIES.get(network.setting("optimiser.kind"), OTHER)


def whole(runs: Sequence[Run], sides: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and (outer − inner)/(outer + inner) of the sums over all units, a mean over runs."""
    gaps, steps = [], np.empty(0)
    for run in runs:
        outer, inner = (
            sum(run.curve(side, index)[1] for index in run.indices(side)) for side in sides
        )
        steps = run.curve(sides[0])[0]
        gaps.append((outer - inner) / (outer + inner))
    return steps, np.mean(gaps, axis=0)


@style.house
def draw(tables: results.Tables) -> Figure:
    """Left: the way of each run in the plane of both imbalances. Right: where all of them end."""
    found = runs_by_network(tables, *READS)
    chosen = list(found)
    figure = Figure(figsize=(11.0, max(4.2, 0.8 + 0.25 * len(chosen))), layout="constrained")
    left, right = figure.subplots(1, 2)
    style.letter([left, right])
    starts = Counter(n.setting("model.initialisation.shift") for n in chosen)
    usual = starts.most_common(1)[0]
    apart = [n for n in chosen if n.setting("model.initialisation.shift") != usual[0]]
    handles = _draw_ways(left, {n: found[n] for n in (apart if usual[1] > 2 and apart else chosen)})
    handles += _draw_ends(right, found)
    style.legend_below(figure, handles)
    return figure


def _draw_ways(axes: Axes, found: Mapping[results.Network, list[Run]]) -> list[Artist | None]:
    handles: list[Artist | None] = []
    axes.axvline(0, color=style.VERMILION, linestyle=":", linewidth=1.2, zorder=1)
    axes.axhline(0, color=style.BLUE, linestyle=":", linewidth=1.2, zorder=1)
    for network, runs in found.items():
        label, colour, marker = family(network)
        (steps, x), (_, y) = whole(runs, ROOT), whole(runs, POWER)
        axes.plot(x, y, color=colour, linewidth=1.0, alpha=0.7)
        axes.plot(x[0], y[0], marker, color=colour, fillstyle="none", markersize=8)
        late = steps >= steps[-1] / 2
        handles += axes.plot(
            x[late].mean(), y[late].mean(), marker, color=colour, markersize=8, label=label
        )
    look: dict[str, Any] = {"fontsize": 8, "zorder": 4}
    sgd, adam = "SGD's law:\nequal powers", "Adam's law:\nequal roots "
    across, up = axes.get_yaxis_transform(), axes.get_xaxis_transform()
    axes.text(0.02, 0.0, sgd, color=style.BLUE, va="bottom", transform=across, **look)
    axes.text(0.0, 0.98, adam, color=style.VERMILION, ha="right", va="top", transform=up, **look)
    axes.set(
        xlabel="imbalance of the roots Σ√E[ĝ²]: outer − inner, over their sum",
        ylabel="imbalance of the powers ΣE[ĝ²]",
        title="the way from starts (open) to ends (filled)",
    )
    return handles


def _draw_ends(axes: Axes, found: Mapping[results.Network, list[Run]]) -> list[Artist | None]:
    handles: list[Artist | None] = []
    chosen = list(found)
    axes.axvspan(0, BALANCED, color=style.GREY, alpha=0.18, linewidth=0)
    for place, runs in enumerate(found.values()):
        for gap, filled, word in ((root_gap, True, "roots"), (power_gap, False, "powers")):
            values = ensemble.finite(gap(run) for run in runs)
            handles += axes.plot(
                values,
                np.full(len(values), place),
                "o" if filled else "s",
                color=style.GREEN if filled else style.PURPLE,
                fillstyle="full" if filled else "none",
                markersize=5,
                label=f"imbalance of the {word}, a mark a seed",
            )
    names = [NAMES.get(n.case, base.case(n, chosen)) for n in chosen]
    axes.set_yticks(range(len(chosen)), names)
    axes.invert_yaxis()
    axes.set(
        xlim=(0, None),
        xlabel="imbalance of the units at the end",
        title=f"grey: below {BALANCED:g}, balanced",
    )
    return handles


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Both imbalances of every case."""
    columns = {"imbalance of the roots": root_gap, "imbalance of the powers": power_gap}
    return ensemble.numbers_of_runs(tables, READS, columns)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "Left, a plane of two imbalances: the ways of SGD end on the horizontal line where the "
        "powers are balanced, those of Adam on the vertical line where the roots are, from either "
        "start. Right, a row a setting: Adam's filled marks lie near zero and its open ones far "
        "from it, SGD's the other way round."
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Noise of the weights that read each hidden unit (outer) and of those that make it "
        "(inner): ΣE[ĝ²], the power, and Σ√E[ĝ²], the root, ĝ the gradient of a batch. Left: sums "
        "over all units, means over seeds. Right: Σ|outer − inner|/Σ(outer + inner) over units, "
        "of means over the last half of each run.",
        ensemble.scale_sentence(tables),
    )
