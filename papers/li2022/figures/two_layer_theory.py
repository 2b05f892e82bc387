"""The two-layer linear network of the proof (Li et al., 2022, section 5): why Λ rises and returns.

Under gradient descent on ‖D‖²/n the output layer moves by exactly
‖A⁺‖² − ‖A‖² = −(4η/n) DᵀF + (4η²/n²) ‖HᵀD‖².
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
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
    unit = edge.unit(chosen)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.6, 1.7, 1.7, 2.0))
    handles: list[Artist | None] = []
    drawn = []
    for network, stack in zip(chosen, stacks, strict=True):
        above, norms, dots, moves = stack
        strong = results.strong_seed(tables, network, SHARPNESS)
        norm, dot = (results.curves(tables, network, quantity) for quantity in READS[1:])
        sharpness = unit.curves(tables, network)
        crossing = edge.crossing_step(tables, network, strong)
        for axes in stack:
            handles += [
                style.draw_moment(axes, crossing, f"Λ reaches {network.threshold_symbol}"),
                _return_line(axes, return_step(tables, network, strong)),
            ]
        handles += [
            edge.draw_sharpness(above, sharpness, strong, style.BLUE, label="sharpness Λ"),
            unit.draw_threshold(above, tables, network, strong),
            style.draw_seeds(norms, norm, strong, style.GREEN, label="‖A‖²"),
            style.draw_seeds(dots, dot, strong, style.PURPLE, (0, (4, 1)), "DᵀF"),
        ]
        drawn.append((sharpness, unit.threshold(tables, network, strong)))
        edge.draw_zero(dots)
        _linear_until(dots, dot[strong], crossing)
        norms.set_ylim(0, min(1.06 * norm.max().max(), MOST_NORM * norm.iloc[0].max()))
        above.set_title(_title(network, chosen), fontsize=9)
        found = increments(tables, network, strong)
        handles += _draw_increments(moves, found)
        _linear_until(moves, found["measured"], crossing)
        moves.set(xlabel="step", xlim=(0, float(sharpness.index.max())))
    unit.limit([stack[0] for stack in stacks], *zip(*drawn, strict=True))
    style.label_rows(stacks, unit.label(), "‖A‖²", "DᵀF", "‖A⁺‖² − ‖A‖²")
    style.legend_below(figure, handles)
    return figure


def _title(network: results.Network, chosen: list[results.Network]) -> str:
    """Name of a network's panel, without the experiment where the case tells it."""
    cases = {(n.experiment, n.case) for n in chosen}
    alone = len({case for _, case in cases}) == len(cases)
    text = base.label(network, chosen)
    return text.partition(": ")[2] if alone and ": " in text else text


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

    The spike is a hundred times as high as what drives the sharpness up to it. The linear range is
    shaded, and the scale is said in the panel.
    """
    early = values.dropna() if crossing is None else values[values.index <= crossing].dropna()
    linear = float(early.abs().max()) if len(early) else 0.0
    if linear <= 0:
        return
    digit = 10.0 ** np.floor(np.log10(linear))
    linear = float(f"{digit * np.ceil(linear / digit):.1g}")
    largest = max(float(values.abs().max()), linear)
    if largest <= 2 * linear:  # nothing is beyond it
        return
    axes.set_yscale("symlog", linthresh=linear, linscale=1.6)
    if largest > linear * 10.0**MOST_DECADES:
        largest = linear * 10.0**MOST_DECADES
        axes.set_ylim(-largest, largest)
    powers = range(int(np.ceil(np.log10(4 * linear))), int(np.floor(np.log10(largest))) + 1)
    ticks = [linear, *(10.0**power for power in powers)]
    axes.yaxis.set_major_locator(FixedLocator([*(-tick for tick in ticks), 0.0, *ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axes.axhspan(-linear, linear, color=style.GREY, alpha=0.12, linewidth=0, zorder=0)
    style.note(axes, "log beyond the grey band", outside=True)


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


def alt(tables: results.Tables) -> str:
    """What is seen, and how many networks return."""
    members = runs_by_network(tables, *READS)
    back = sum(_returned(runs) for runs in members.values())
    count = sum(len(runs) for runs in members.values())
    return (
        f"{len(members)} columns of four panels over the training steps, one a network: the "
        "sharpness against a dashed line at the threshold, the norm of the output layer, DᵀF, and "
        f"the change of the norm in a step. {back} of {count} runs end a rise above the threshold "
        "below it, where the norm falls."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """How well the first order predicts the increment, and how many seeds return."""
    members = runs_by_network(tables, *READS)
    found = {network: _account(tables, network, runs) for network, runs in members.items()}
    bound = two_layer_returns.band[1]
    headings = (
        "DᵀF < 0 before the crossing",
        "O(η²) part of the growth of ‖A‖²",
        f"seeds that return below {bound:g} of the threshold",
        "negative difference",
    )
    columns = {
        heading: lambda network, place=place: found[network][place]
        for place, heading in enumerate(headings)
    }
    return base.numbers_table(
        tables, list(members), {"2/η": lambda n: base.number(n.threshold)} | columns
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    chosen = results.networks(tables, *READS)
    return base.join(
        f"From the top: Gauss-Newton sharpness Λ in units of {base.symbols(chosen)} (dashed); "
        "‖A‖² of the output layer; DᵀF with D = F − Y; the increment of ‖A‖², −(4η/n) DᵀF, and "
        "their difference, which gradient descent makes exactly (4η²/n²) ‖HᵀD‖². Lowest two: "
        "linear in the grey band, logarithmic beyond. Λ first crosses (dotted), and is back below "
        "(dash-dotted).",
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ"}),
        base.scale_sentence(tables),
    )


def _returned(runs: Sequence[Run]) -> int:
    """How many runs return below the claim's bound."""
    return sum(two_layer_returns.statistic(run) <= two_layer_returns.band[1] for run in runs)


def _account(
    tables: results.Tables, network: results.Network, runs: Sequence[Run]
) -> tuple[str, str, str, str]:
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
        return "", "", "", ""
    sign = "never" if least >= -1e-12 else f"{least:.1g} of the largest increment"
    return (
        f"{100 * np.mean(signs):.0f} % of steps",
        f"{100 * np.mean(sizes):.1f} %",
        f"{_returned(runs)} of {len(runs)}",
        sign,
    )
