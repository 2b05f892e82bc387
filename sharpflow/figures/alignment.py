"""What the analysis of Li et al. (2022, section 4) assumes of v₁, of M_A and of the spectrum."""

import numpy as np
from matplotlib.figure import Figure

from sharpflow.figures import base, style
from sharpflow.figures._edge import SHARPNESS, draw_crossings, draw_zero, symmetric_limits

TITLE = "The top eigenvector, the second eigenvalue and the output layer's part"

ALIGNMENT = "eigenvector_alignment"
ALONG = "residual_along_v1"
DOT = "residual_dot_outputs"
OUTPUT = "output_layer_sharpness"


@style.house
def draw(tables: base.Tables) -> Figure:
    """A stack a network: Λ₁ and Λ₂, λ_max(M_A), the turn of v₁, Dᵀv₁ and DᵀF on one step axis."""
    chosen = base.networks(tables, ALIGNMENT)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.6, 1.8, 1.8, 1.6, 1.6))
    handles = []
    for network, stack in zip(chosen, stacks, strict=True):
        top, parts, turns, along, dot = stack
        strong = base.strong_seed(tables, network, SHARPNESS)
        first = base.curves(tables, network, SHARPNESS)
        second = base.curves(tables, network, SHARPNESS, 1)
        output = base.curves(tables, network, OUTPUT)
        turn = style.positive(1 - base.curves(tables, network, ALIGNMENT).abs())
        handles += draw_crossings(stack, tables, network, strong)
        handles.append(style.draw_seeds(top, first, strong, style.BLUE, label="Λ", width=0.9))
        handles.append(style.draw_threshold(top, network.threshold))
        style.draw_seeds(parts, style.positive(first), strong, style.BLUE, width=0.9)
        if not second.empty:
            dashes = (0, (3, 1))
            handles.append(style.draw_seeds(top, second, strong, style.ORANGE, dashes, "second Λ₂"))
        if not output.empty:
            label = "(2/n) λ_max(M_A)"
            handles.append(
                style.draw_seeds(
                    parts, style.positive(output), strong, style.GREEN, (0, (5, 1, 1, 1)), label
                )
            )
        parts.set_yscale("log")
        top.set_ylim(0, style.sharpness_top(first, network.threshold))
        top.set_title(base.label(tables, network, chosen))
        if turn.notna().any(axis=None):
            style.draw_seeds(turns, turn, strong, style.PURPLE, width=0.8)
            style.log_limits(turns, turn, decades=8)
        for axes, quantity, colour in ((along, ALONG, style.VERMILION), (dot, DOT, style.BLACK)):
            values = base.curves(tables, network, quantity)
            draw_zero(axes)
            if not values.empty:
                style.draw_seeds(axes, values, strong, colour, width=0.8)
                symmetric_limits(axes, values)
        dot.set(xlabel="step", xlim=(0, float(first.index.max())))
    style.label_rows(stacks, "Λ and Λ₂", "Λ, part of M_A", "turn of v₁", "Dᵀv₁", "DᵀF")
    style.legend_below(figure, handles)
    return figure


def caption(tables: base.Tables) -> str:
    """What is drawn, how large the second eigenvalue and M_A's become, and the scale."""
    chosen = base.networks(tables, ALIGNMENT)
    notes = []
    for network in chosen:
        words = [*_second(tables, network), *_output(tables, network), *_turn(tables, network)]
        if words:
            notes.append(f"{base.label(tables, network, chosen)}: {', '.join(words)}")
    odd = any((base.stride(tables, n, ALIGNMENT) or 1) > 1 for n in chosen)
    return base.join(
        "From the top: the two largest eigenvalues of (2/n) M, M = J Jᵀ, Λ and Λ₂, with the "
        "stability threshold (dashed); Λ beside the largest eigenvalue of the output layer's part "
        "(2/n) M_A (logarithmic); the turn 1 − |⟨v₁(t), v₁(t+1)⟩| of the top eigenvector between "
        f"{'neighbouring records' if odd else 'steps'} (logarithmic, eight decades at most); the "
        "component Dᵀv₁ of the residual D = F − Y; DᵀF, whose sign is that of −Δ‖A‖² to first "
        "order.",
        "Dotted vertical line: first step at which Λ of the strong line reaches the threshold; "
        "thin lines: its two-step average passes the threshold upwards again.",
        f"Over all seeds: {'; '.join(notes)}." if notes else "",
        base.seeds_sentence(tables, SHARPNESS),
        base.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {ALIGNMENT: "v₁", OUTPUT: "M_A"}),
        base.scale_sentence(tables),
    )


def _second(tables: base.Tables, network: base.Network) -> list[str]:
    second = base.curves(tables, network, SHARPNESS, 1)
    if second.empty:
        return []
    return [f"Λ₂ at most {second.max().max() / network.threshold:.2f} of the threshold"]


def _output(tables: base.Tables, network: base.Network) -> list[str]:
    output = base.curves(tables, network, OUTPUT)
    if output.empty:
        return []
    share = output / base.curves(tables, network, SHARPNESS).loc[output.index]
    low, high = (100 * share.stack().quantile(q) for q in (0.05, 0.95))
    return [f"M_A's part {low:.1f} to {high:.1f} % of Λ (5th to 95th percentile)"]


def _turn(tables: base.Tables, network: base.Network) -> list[str]:
    turn = (1 - base.curves(tables, network, ALIGNMENT).abs()).stack()
    turn = turn[np.isfinite(turn)]
    return [f"turn at most {turn.quantile(0.95):.2g} at its 95th percentile"] if len(turn) else []
