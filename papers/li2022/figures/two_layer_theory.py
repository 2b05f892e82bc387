"""The two-layer linear network of the proof (Li et al., 2022, section 5): why Λ rises and returns.

Under gradient descent on ‖D‖²/n the output layer moves by exactly
‖A⁺‖² − ‖A‖² = −(4η/n) DᵀF + (4η²/n²) ‖HᵀD‖².
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_cycle_end
from sharpflow.results.runs import Run, runs_by_network

from ..claims.phases import two_layer_returns

TITLE = "The two-layer linear network of the proof"
READS = ("gauss_newton_sharpness", "output_norm_squared", "residual_dot_outputs")

NORM = "output_norm_squared"
MOST_NORM = 1000
"""Largest ‖A‖² shown, over its start."""
MOST_DECADES = 4
"""Of the logarithmic part of an axis: a run that diverges leaves it."""
DOT = "residual_dot_outputs"


@style.house
def draw(tables: results.Tables) -> Figure:
    """A stack a network: Λ, ‖A‖², DᵀF, and the increment of ‖A‖² beside −(4η/n) DᵀF."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.8, 1.8, 1.7, 2.2), columns=2, width=4)
    handles = []
    for network, stack in zip(chosen, stacks, strict=True):
        above, norms, dots, moves = stack
        strong = results.strong_seed(tables, network, SHARPNESS)
        sharpness, norm, dot = (results.curves(tables, network, quantity) for quantity in READS)
        threshold = edge.threshold(tables, network, strong)
        crossing = edge.crossing_step(tables, network, strong)
        for axes in stack:
            handles += [
                style.draw_moment(axes, crossing, f"Λ reaches {network.threshold_symbol}"),
                _return_line(axes, return_step(tables, network, strong)),
            ]
        handles += [
            style.draw_seeds(above, sharpness, strong, style.BLUE, label="sharpness Λ"),
            style.draw_threshold(above, threshold, network.threshold_symbol),
            style.draw_seeds(norms, norm, strong, style.GREEN, label="‖A‖²"),
            style.draw_seeds(dots, dot, strong, style.BLACK, (0, (4, 1)), "DᵀF"),
        ]
        edge.draw_zero(dots)
        _linear_until(dots, dot[strong], crossing)
        above.set_ylim(0, style.sharpness_top(sharpness, threshold))
        norms.set_ylim(0, min(1.06 * norm.max().max(), MOST_NORM * norm.iloc[0].max()))
        above.set_title(base.label(network, chosen))
        found = increments(tables, network, strong)
        handles += _draw_increments(moves, found)
        _linear_until(moves, found["measured"], crossing)
        moves.set(xlabel="step", xlim=(0, float(sharpness.index.max())))
    style.label_rows(stacks, "sharpness Λ", "‖A‖²", "DᵀF", "‖A⁺‖² − ‖A‖²")
    style.legend_below(figure, handles)
    return figure


def increments(tables: results.Tables, network: results.Network, seed: int) -> pd.DataFrame:
    """Increment of ‖A‖² over each recorded step that follows on the one before.

    Returns:
        By step: measured, ‖A⁺‖² − ‖A‖²; predicted, −(4η/n) DᵀF; remainder, their difference,
        which the identity says is (4η²/n²) ‖HᵀD‖² ≥ 0.
    """
    norm, dot = (results.curves(tables, network, quantity)[seed].dropna() for quantity in READS[1:])
    ahead = norm.copy()
    ahead.index = ahead.index - 1
    both = pd.concat([ahead, norm, dot], axis=1, join="inner", keys=["ahead", "norm", "dot"])
    factor = -4 * network.learning_rate / results.samples(tables, network)
    measured, predicted = both["ahead"] - both["norm"], factor * both["dot"]
    return pd.DataFrame(
        {"measured": measured, "predicted": predicted, "remainder": measured - predicted}
    )


def return_step(tables: results.Tables, network: results.Network, seed: int) -> int | None:
    """Step at which a run is back below 2/η on two-step averages; None if it never is."""
    ratio = edge.ratio_curve(tables, network, seed)
    end = first_cycle_end(ratio, 1.0)
    crossing = edge.crossing_step(tables, network, seed)
    if end is None or int(ratio.index[end]) == crossing:
        return None
    return int(ratio.index[end])


def _linear_until(axes: Axes, values: pd.Series, crossing: int | None) -> None:
    """Scale an axis linearly over the range before the crossing and logarithmically beyond it.

    The spike is a hundred times as high as what drives the sharpness up to it.
    """
    early = values.dropna() if crossing is None else values[values.index <= crossing].dropna()
    linear = float(early.abs().max()) if len(early) else 0.0
    if linear > 0:
        axes.set_yscale("symlog", linthresh=linear, linscale=1.6)
        power = int(np.floor(np.log10(linear)))
        largest = int(np.ceil(np.log10(max(float(values.abs().max()), linear))))
        if largest > power + MOST_DECADES:
            largest = power + MOST_DECADES
            axes.set_ylim(-(10.0**largest), 10.0**largest)
        tens = [10.0**k for k in range(power, largest + 1)]
        tens = [ten for ten in tens if ten >= 0.45 * linear] or [float(f"{linear:.1g}")]
        axes.yaxis.set_major_locator(FixedLocator([*(-ten for ten in tens), 0.0, *tens]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
        )


def _return_line(axes: Axes, step: int | None) -> Line2D | None:
    if step is None:
        return None
    return axes.axvline(
        step, color=style.GREY, linestyle="-.", linewidth=0.9, label="and is below again", zorder=1
    )


def _draw_increments(axes: Axes, moves: pd.DataFrame) -> list[Line2D]:
    edge.draw_zero(axes)
    lines = (
        ("measured", style.GREEN, "-", 1.6, "‖A⁺‖² − ‖A‖²"),
        ("predicted", style.BLACK, (0, (4, 2)), 0.9, "−(4η/n) DᵀF"),
        ("remainder", style.VERMILION, (0, (1, 1)), 1.1, "their difference, O(η²)"),
    )
    handles: list[Line2D] = []
    for name, colour, dashes, width, text in lines:
        handles += axes.plot(
            moves.index, moves[name], color=colour, linestyle=dashes, linewidth=width, label=text
        )
    return handles


def caption(tables: results.Tables) -> str:
    """What is drawn, how well the first order predicts the increment, and the scale."""
    members = runs_by_network(tables, *READS)
    chosen = list(members)
    symbols = base.symbols(chosen)
    notes = [
        _account(tables, network, runs, base.label(network, chosen))
        for network, runs in members.items()
    ]
    return base.join(
        f"From the top: Gauss-Newton sharpness Λ with the stability threshold {symbols} (dashed); "
        "squared norm ‖A‖² of the output layer; DᵀF, with D = F − Y; the increment of ‖A‖² over a "
        "step (full), −(4η/n) DᵀF (dashed) and their difference (dotted), which gradient descent "
        "makes exactly (4η²/n²) ‖HᵀD‖², never negative. The two lower axes are linear over the "
        "range before the crossing and logarithmic beyond it.",
        f"Dotted vertical line: Λ of the strong line first reaches {symbols}; dash-dotted: its "
        "two-step average is back below.",
        *notes,
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", NORM: "‖A‖²", DOT: "DᵀF"}),
        base.scale_sentence(tables),
    )


def _account(
    tables: results.Tables, network: results.Network, runs: Sequence[Run], name: str
) -> str:
    """How often DᵀF has the sign of −Δ‖A‖² before the crossing, and the O(η²) part of the rest."""
    signs, sizes, least = [], [], np.inf
    for run in runs:
        moves = increments(tables, network, run.seed).dropna()
        if moves.empty:
            continue
        crossing = edge.crossing_step(tables, network, run.seed)
        early = moves if crossing is None else moves[moves.index < crossing]
        if len(early):
            signs.append(float((early["predicted"] > 0).mean()))
            sizes.append(float(early["remainder"].sum() / early["measured"].abs().sum()))
        least = min(least, float(moves["remainder"].min() / moves["measured"].abs().max()))
    if not signs:
        return ""
    bound = two_layer_returns.band[1]
    back = sum(two_layer_returns.statistic(run) <= bound for run in runs)
    sign = "never" if least >= -1e-12 else f"{least:.1g} of the largest increment at its lowest"
    return (
        f"{name}: before the crossing DᵀF < 0 in {100 * np.mean(signs):.0f} % of steps (mean over "
        f"seeds) and the O(η²) part is {100 * np.mean(sizes):.1f} % of the growth of ‖A‖²; "
        f"{back} of {len(runs)} seeds return below {bound:g} of {network.threshold_symbol}; "
        f"negative difference: {sign}."
    )
