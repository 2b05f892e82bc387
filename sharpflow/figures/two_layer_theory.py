"""The two-layer linear network of the proof (Li et al., 2022, section 5): why Λ rises and returns.

Under gradient descent on ‖D‖²/n the output layer moves by exactly
‖A⁺‖² − ‖A‖² = −(4η/n) DᵀF + (4η²/n²) ‖HᵀD‖².
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sharpflow.dynamics import first_cycle_end
from sharpflow.figures import base, style
from sharpflow.figures._edge import (
    SHARPNESS,
    crossing_step,
    draw_zero,
    sharpness_curve,
)

TITLE = "The two-layer linear network of the proof"

NORM = "output_norm_squared"
DOT = "residual_dot_outputs"


@style.house
def draw(tables: base.Tables) -> Figure:
    """A stack a network: Λ, ‖A‖², DᵀF, and the increment of ‖A‖² beside −(4η/n) DᵀF."""
    chosen = base.networks(tables, DOT)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.8, 1.8, 1.7, 2.2), columns=2, width=4)
    handles = []
    for network, stack in zip(chosen, stacks, strict=True):
        above, norms, dots, moves = stack
        strong = base.strong_seed(tables, network, SHARPNESS)
        sharpness = base.curves(tables, network, SHARPNESS)
        dot = base.curves(tables, network, DOT)
        for axes in stack:
            handles += [
                style.draw_moment(axes, crossing_step(tables, network, strong), "Λ reaches 2/η"),
                _return_line(axes, return_step(tables, network, strong)),
            ]
        norm = base.curves(tables, network, NORM)
        handles += [
            style.draw_seeds(above, sharpness, strong, style.BLUE, label="sharpness Λ"),
            style.draw_threshold(above, network.threshold),
            style.draw_seeds(norms, norm, strong, style.GREEN, label="‖A‖²"),
            style.draw_seeds(dots, dot, strong, style.BLACK, (0, (4, 1)), "DᵀF"),
        ]
        draw_zero(dots)
        crossing = crossing_step(tables, network, strong)
        _linear_until(dots, dot[strong], crossing)
        above.set_ylim(0, style.sharpness_top(sharpness, network.threshold))
        above.set_title(base.label(tables, network, chosen))
        found = increments(tables, network, strong)
        handles += _draw_increments(moves, found)
        _linear_until(moves, found["measured"], crossing)
        moves.set(xlabel="step", xlim=(0, float(sharpness.index.max())))
    style.label_rows(stacks, "sharpness Λ", "‖A‖²", "DᵀF", "‖A⁺‖² − ‖A‖²")
    style.legend_below(figure, handles)
    return figure


def increments(tables: base.Tables, network: base.Network, seed: int) -> pd.DataFrame:
    """Increment of ‖A‖² over each recorded step that follows on the one before.

    Returns
    -------
    DataFrame
        By step: measured, ‖A⁺‖² − ‖A‖²; predicted, −(4η/n) DᵀF; remainder, their difference,
        which the identity says is (4η²/n²) ‖HᵀD‖² ≥ 0.
    """
    norm = base.curves(tables, network, NORM)[seed].dropna()
    dot = base.curves(tables, network, DOT)[seed].dropna()
    ahead = norm.copy()
    ahead.index = ahead.index - 1
    both = pd.concat([ahead, norm, dot], axis=1, join="inner", keys=["ahead", "norm", "dot"])
    factor = -4 * network.learning_rate / base.samples(tables, network)
    measured, predicted = both["ahead"] - both["norm"], factor * both["dot"]
    return pd.DataFrame(
        {"measured": measured, "predicted": predicted, "remainder": measured - predicted}
    )


def return_step(tables: base.Tables, network: base.Network, seed: int) -> int | None:
    """Step at which a run is back below 2/η on two-step averages; None if it never is."""
    sharpness = sharpness_curve(tables, network, seed)
    end = first_cycle_end(sharpness, network.threshold)
    crossing = crossing_step(tables, network, seed)
    if end is None or int(sharpness.index[end]) == crossing:
        return None
    return int(sharpness.index[end])


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
        tens = [10.0**k for k in range(power, largest + 1)]
        tens = [ten for ten in tens if ten >= 0.45 * linear]
        axes.yaxis.set_major_locator(FixedLocator([*(-ten for ten in tens), 0.0, *tens]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
        )


def _return_line(axes, step):
    if step is None:
        return None
    return axes.axvline(
        step, color=style.GREY, linestyle="-.", linewidth=0.9, label="and is below again", zorder=1
    )


def _draw_increments(axes, moves: pd.DataFrame) -> list:
    draw_zero(axes)
    lines = (
        ("measured", style.GREEN, "-", 1.6, "‖A⁺‖² − ‖A‖²"),
        ("predicted", style.BLACK, (0, (4, 2)), 0.9, "−(4η/n) DᵀF"),
        ("remainder", style.VERMILION, (0, (1, 1)), 1.1, "their difference, O(η²)"),
    )
    handles = []
    for name, colour, dashes, width, text in lines:
        handles += axes.plot(
            moves.index, moves[name], color=colour, linestyle=dashes, linewidth=width, label=text
        )
    return handles


def caption(tables: base.Tables) -> str:
    """What is drawn, how well the first order predicts the increment, and the scale."""
    chosen = base.networks(tables, DOT)
    notes = [_account(tables, n, base.label(tables, n, chosen)) for n in chosen]
    return base.join(
        "From the top: Gauss-Newton sharpness Λ with the stability threshold 2/η (dashed); squared "
        "norm ‖A‖² of the output layer; DᵀF, with D = F − Y; the increment of ‖A‖² over a step "
        "(full), −(4η/n) DᵀF (dashed) and their difference (dotted), which gradient descent makes "
        "exactly (4η²/n²) ‖HᵀD‖², never negative. The two lower axes are linear over the range "
        "before the crossing and logarithmic beyond it.",
        "Dotted vertical line: Λ of the strong line first reaches 2/η; dash-dotted: its two-step "
        "average is back below.",
        *notes,
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", NORM: "‖A‖²", DOT: "DᵀF"}),
        base.scale_sentence(tables),
    )


def _account(tables: base.Tables, network: base.Network, name: str) -> str:
    """How often DᵀF has the sign of −Δ‖A‖² before the crossing, and the O(η²) part of the rest."""
    signs, sizes, least, back = [], [], np.inf, 0
    for seed in base.curves(tables, network, DOT).columns:
        moves = increments(tables, network, int(seed)).dropna()
        if moves.empty:
            continue
        crossing = crossing_step(tables, network, int(seed))
        early = moves if crossing is None else moves[moves.index < crossing]
        if len(early):
            signs.append(float((early["predicted"] > 0).mean()))
            sizes.append(float(early["remainder"].sum() / early["measured"].abs().sum()))
        least = min(least, float(moves["remainder"].min() / moves["measured"].abs().max()))
        back += return_step(tables, network, int(seed)) is not None
    if not signs:
        return ""
    sign = "never" if least >= -1e-12 else f"{least:.1g} of the largest increment at its lowest"
    return (
        f"{name}: before the crossing DᵀF < 0 in {100 * np.mean(signs):.0f} % of steps (mean over "
        f"seeds) and the O(η²) part is {100 * np.mean(sizes):.1f} % of the growth of ‖A‖²; "
        f"{back} of {len(signs)} seeds return below 2/η; negative difference: {sign}."
    )
