"""Figure 1 of Li et al. (2022): sharpness and loss through the four phases."""

import numpy as np
import pandas as pd
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
READS = ("gauss_newton_sharpness",)

PHASES = {
    1: ("I", "I: below {}, rising", "#E1F0FA"),
    2: ("II", "II: at or above, rising", "#F2C46B"),
    3: ("III", "III: at or above, falling", "#DE9E8C"),
    4: ("IV", "IV: below, falling", "#A9D8BE"),
}


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ and the loss of each network, with the phases of the seed that is drawn in full."""
    chosen = results.networks(tables, *READS)
    symbols = base.symbols(chosen)
    figure, stacks = style.panel_grid(len(chosen), heights=(0.36, 3.2, 2.0))
    handles = [Patch(facecolor=c, label=text.format(symbols)) for _, text, c in PHASES.values()]
    for network, (strip, above, below) in zip(chosen, stacks, strict=True):
        sharpness = results.curves(tables, network, SHARPNESS)
        loss = style.positive(results.curves(tables, network, "loss"))
        strong = results.strong_seed(tables, network, SHARPNESS)
        ratio = edge.ratio_curve(tables, network, strong)
        for start, stop, phase in spans(ratio.index.to_numpy(), ratio.to_numpy()):
            _shade(strip, above, below, start, stop, phase, span=float(loss.index.max()))
        strip.set(title=base.label(network, chosen), yticks=[], ylim=(0, 1))
        strip.tick_params(bottom=False)
        strip.spines[:].set_visible(False)
        threshold = edge.threshold(tables, network, strong)
        handles += [
            style.draw_seeds(above, sharpness, strong, style.BLUE, label="sharpness Λ", width=0.9),
            _smoothed(above, sharpness[strong].dropna()),
            style.draw_threshold(above, threshold, network.threshold_symbol),
            style.draw_seeds(below, loss, strong, style.VERMILION, label="loss", width=0.9),
        ]
        above.set_ylim(0, style.sharpness_top(sharpness, threshold))
        below.set(yscale="log", xlabel="step", xlim=(0, float(loss.index.max())))
        style.plain_log_ticks(below)
    style.label_rows(stacks, "phase", "sharpness Λ", "loss")
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
    strip.axvspan(start, stop, facecolor=colour, linewidth=0)
    for axes in (above, below):
        axes.axvspan(start, stop, facecolor=colour, alpha=0.38, linewidth=0, zorder=0)
    if stop - start > 0.035 * span:
        strip.text((start + stop) / 2, 0.47, numeral, ha="center", va="center", fontsize=7.5)


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


def caption(tables: results.Tables) -> str:
    """What is drawn, how phases are defined, and the scale."""
    symbol = base.symbols(results.networks(tables, *READS))
    dead = f"{100 * HYSTERESIS:.0f} %"
    return base.join(
        "Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) with the stability threshold "
        f"{symbol} (dashed). Below: the training loss (logarithmic).",
        f"Shading and numerals: the phases of the strong line. I: Λ < {symbol} and rising; II: "
        f"Λ ≥ {symbol} and rising; III: Λ ≥ {symbol} and falling; IV: Λ < {symbol} and falling; "
        f"found on the running mean over {SMOOTHING} steps (dotted), where a passage of {symbol} "
        f"counts once Λ has left {symbol} by {dead} on the other side, and a turn once Λ has moved "
        f"away by {dead} of {symbol}. Stretches too short for a numeral are shaded only.",
        base.seeds_sentence(tables, SHARPNESS),
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", "loss": "loss"}),
        base.scale_sentence(tables),
    )
