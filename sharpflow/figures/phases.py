"""Figure 1 of Li et al. (2022): sharpness and loss through the four phases."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sharpflow.dynamics import HYSTERESIS, WINDOW, finite_prefix, phases, running_mean
from sharpflow.figures import base, style

TITLE = "Four phases of the sharpness"

SHARPNESS = "gauss_newton_sharpness"
PHASES = {
    1: ("I", "I: below 2/η, rising", "#E1F0FA"),
    2: ("II", "II: at or above, rising", "#F2C46B"),
    3: ("III", "III: at or above, falling", "#DE9E8C"),
    4: ("IV", "IV: below, falling", "#A9D8BE"),
}


@style.house
def draw(tables: base.Tables) -> Figure:
    """Λ and the loss of each network, with the phases of the seed that is drawn in full."""
    chosen = base.networks(tables, SHARPNESS)
    figure, stacks = style.panel_grid(len(chosen), heights=(0.36, 3.2, 2.0))
    handles = [Patch(facecolor=colour, label=text) for _, text, colour in PHASES.values()]
    for network, (strip, above, below) in zip(chosen, stacks, strict=True):
        sharpness = base.curves(tables, network, SHARPNESS)
        loss = base.curves(tables, network, "loss")
        strong = base.strong_seed(tables, network, SHARPNESS)
        curve = sharpness[strong].dropna()
        for start, stop, phase in spans(curve.index.to_numpy(), curve, network.threshold):
            _shade(strip, above, below, start, stop, phase, span=float(loss.index.max()))
        strip.set(title=base.label(tables, network, chosen), yticks=[], ylim=(0, 1))
        strip.tick_params(bottom=False)
        strip.spines[:].set_visible(False)
        handles += [
            style.draw_seeds(above, sharpness, strong, style.BLUE, label="sharpness Λ", width=0.9),
            _smoothed(above, curve),
            style.draw_threshold(above, network.threshold),
        ]
        above.set_ylim(0, style.sharpness_top(sharpness, network.threshold))
        loss = style.positive(loss)
        handles.append(
            style.draw_seeds(below, loss, strong, style.VERMILION, label="loss", width=0.9)
        )
        below.set(yscale="log", xlabel="step", xlim=(0, float(loss.index.max())))
        style.plain_log_ticks(below)
    style.label_rows(stacks, "phase", "sharpness Λ", "loss")
    for strip, *_ in style.left_column(stacks):
        strip.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=8)
    style.legend_below(figure, handles)
    return figure


def spans(steps: np.ndarray, values: np.ndarray, threshold: float) -> list[tuple]:
    """Stretches (first step, last step, phase) of one curve.

    A label stands at the middle of its window of ``WINDOW`` records; a boundary lies halfway
    between two labels. Empty for a curve that is shorter than the window.
    """
    steps, values = finite_prefix(steps, values)
    labels = phases(values, threshold)
    if not labels.size:
        return []
    middle = running_mean(steps, WINDOW)
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


def _smoothed(axes: Axes, curve):
    steps, values = finite_prefix(curve.index.to_numpy(), curve.to_numpy())
    return axes.plot(
        running_mean(steps, WINDOW),
        running_mean(values, WINDOW),
        color=style.BLACK,
        linewidth=0.9,
        linestyle=(0, (1, 1)),
        label=f"mean of {WINDOW} records",
        zorder=4,
    )[0]


def caption(tables: base.Tables) -> str:
    """What is drawn, how phases are defined, and the scale."""
    return base.join(
        "Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) under full-batch gradient descent, "
        "with the stability threshold 2/η (dashed). Below: the training loss ‖D‖²/n (logarithmic).",
        "Shading and numerals: the phases of the strong line. I: Λ < 2/η and rising; II: Λ ≥ 2/η "
        "and rising; III: Λ ≥ 2/η and falling; IV: Λ < 2/η and falling; found on the running mean "
        f"over {WINDOW} records (dotted), where a passage of 2/η counts once Λ has left 2/η by "
        f"{100 * HYSTERESIS:.0f} % on the other side, and a turn once Λ has moved away by "
        f"{100 * HYSTERESIS:.0f} % of 2/η. Stretches too short for a numeral are shaded only.",
        base.seeds_sentence(tables, SHARPNESS),
        base.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", "loss": "loss"}),
        base.scale_sentence(tables),
    )
