"""Figure 1 of Li et al. (2022): sharpness and loss through the four phases."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.crossings import HYSTERESIS
from sharpflow.results.curves import finite_prefix, running_mean
from sharpflow.results.edge import entries
from sharpflow.results.phases import phases

from ..claims.phases import SMOOTHING

TITLE = "Four phases of the sharpness"
PUBLISHED = "Figure 1"
READS = ("gauss_newton_sharpness",)

PHASES = {
    1: ("I", "I: below {}, rising", style.SKY),
    2: ("II", "II: at or above, rising", style.ORANGE),
    3: ("III", "III: at or above, falling", style.VERMILION),
    4: ("IV", "IV: below, falling", style.GREEN),
}
STRONG, PALE = 0.55, 0.2
"""Opacity of a phase in its strip and behind the curves; translucent, to suit a dark page."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ and the loss of each network, with the phases of the seed that is drawn in full."""
    chosen = results.networks(tables, *READS)
    unit = edge.unit(chosen)
    figure, stacks = style.panel_grid(len(chosen), heights=(0.5, 3.2, 2.0))
    handles: list[Artist | None] = [
        Patch(facecolor=colour, alpha=STRONG, label=text.format(unit.symbol))
        for _, text, colour in PHASES.values()
    ]
    drawn = []
    for network, (strip, above, below) in zip(chosen, stacks, strict=True):
        sharpness = unit.curves(tables, network)
        loss = style.positive(results.curves(tables, network, "loss"))
        strong = results.strong_seed(tables, network, SHARPNESS)
        ratio = edge.ratio_curve(tables, network, strong)
        for start, stop, phase in spans(ratio.index.to_numpy(), ratio.to_numpy()):
            _shade(strip, above, below, start, stop, phase, span=float(loss.index.max()))
        strip.set(title=base.label(network, chosen), yticks=[], ylim=(0, 1))
        strip.tick_params(bottom=False)
        strip.spines[:].set_visible(False)
        handles += [
            edge.draw_sharpness(above, sharpness, strong, style.BLUE, label="sharpness Λ"),
            _smoothed(above, sharpness[strong].dropna()),
            unit.draw_threshold(above, tables, network, strong),
            style.draw_seeds(below, loss, strong, style.VERMILION, label="loss", width=0.9),
        ]
        drawn.append((sharpness, unit.threshold(tables, network, strong)))
        below.set(yscale="log", xlabel="step", xlim=(0, float(loss.index.max())))
    unit.limit([above for _, above, _ in stacks], *zip(*drawn, strict=True))
    style.common_limits([below for *_, below in stacks])
    for *_, below in stacks:
        style.plain_log_ticks(below)
    style.label_rows(stacks, "phase", unit.label(), "loss")
    for strip, *_ in style.left_column(stacks):
        strip.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=8)
    style.legend_below(figure, handles)
    return figure


def spans(steps: np.ndarray, ratio: np.ndarray) -> list[tuple[float, float, int]]:
    """Stretches (first step, last step, phase) of one curve over its threshold.

    A label stands at the middle of its window, which is that of the claim; a boundary lies halfway
    between two labels. Empty for a curve that is shorter than the window.
    """
    steps, ratio = finite_prefix(steps, ratio)
    window = entries(steps, SMOOTHING)
    labels = phases(ratio, 1.0, window)
    if not labels.size:
        return []
    middle = running_mean(steps, window)
    changes = np.flatnonzero(np.diff(labels))
    edges = np.concatenate([middle[:1], (middle[changes] + middle[changes + 1]) / 2, middle[-1:]])
    kinds = labels[np.concatenate([[0], changes + 1])]
    return [(float(a), float(b), int(k)) for a, b, k in zip(edges, edges[1:], kinds, strict=False)]


def _shade(
    strip: Axes, above: Axes, below: Axes, start: float, stop: float, phase: int, span: float
) -> None:
    numeral, _, colour = PHASES[phase]
    strip.axvspan(start, stop, facecolor=colour, alpha=STRONG, linewidth=0)
    for axes in (above, below):
        axes.axvspan(start, stop, facecolor=colour, alpha=PALE, linewidth=0, zorder=0)
    narrow = stop - start < 0.035 * span
    strip.text(
        (start + stop) / 2,
        0.47,
        numeral,
        ha="center",
        va="center",
        fontsize=6 if narrow else 7.5,
        rotation=90 if narrow else 0,
    )


def _smoothed(axes: Axes, curve: pd.Series) -> Line2D:
    steps, values = finite_prefix(curve.index.to_numpy(), curve.to_numpy())
    window = entries(steps, SMOOTHING)
    return axes.plot(
        running_mean(steps, window),
        running_mean(values, window),
        color=style.BLACK,
        linewidth=0.9,
        linestyle=(0, (1, 1)),
        label=f"mean of {SMOOTHING} steps",
        zorder=4,
    )[0]


def alt(tables: results.Tables) -> str:
    """What is seen, of the lines that are drawn in full."""
    chosen = results.networks(tables, *READS)
    return (
        f"Curves of {len(chosen)} networks over the training steps: the sharpness against a dashed "
        "line at its threshold, the loss below it. Bands of four colours, numbered I to IV, mark "
        f"where it rises and falls above and below the threshold: {_orders(tables, chosen)}."
    )


def _orders(tables: results.Tables, chosen: list[results.Network]) -> str:
    return "; ".join(
        f"{base.label(network, chosen)}, {_order(tables, network) or 'none'}" for network in chosen
    )


def _order(tables: results.Tables, network: results.Network) -> str:
    """The phases of the strong line in their order, `I II III IV I`."""
    ratio = edge.ratio_curve(tables, network, results.strong_seed(tables, network, SHARPNESS))
    found = spans(ratio.index.to_numpy(), ratio.to_numpy())
    return " ".join(PHASES[phase][0] for *_, phase in found)


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The phases of each network's strong line."""
    chosen = results.networks(tables, *READS)
    return base.numbers_table(
        tables, chosen, {"phases of the strong line": lambda n: _order(tables, n)}
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, how phases are defined, and the scale."""
    chosen = results.networks(tables, *READS)
    return base.join(
        f"Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) in units of {base.symbols(chosen)} "
        "(dashed). Below: training loss. Bands: phases of the strong line, found on means over "
        f"{SMOOTHING} steps (dotted); a passage or a turn counts once Λ has moved on by "
        f"{base.percent(HYSTERESIS)} of the threshold.",
        edge.means_sentence(results.curves(tables, n, SHARPNESS) for n in chosen),
        base.seeds_sentence(tables, SHARPNESS),
        base.scale_sentence(tables),
    )
