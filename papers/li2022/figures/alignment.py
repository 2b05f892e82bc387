"""What the analysis of Li et al. (2022, section 4) assumes of v₁, of M_A and of the spectrum."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import base, edge, ensemble, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network

TITLE = "The top eigenvector, the second eigenvalue and the output layer's part"
READS = ("gauss_newton_sharpness", "eigenvector_alignment")
DRAWS = ("output_layer_sharpness", "residual_along_v1", "residual_dot_outputs")

ALIGNMENT = "eigenvector_alignment"
OUTPUT, ALONG, DOT = DRAWS


@style.house
def draw(tables: results.Tables) -> Figure:
    """A stack a network: Λ₁ and Λ₂, λ_max(M_A), the turn of v₁, Dᵀv₁ and DᵀF on one step axis."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.6, 1.8, 1.8, 1.6, 1.6))
    handles = []
    for network, stack in zip(chosen, stacks, strict=True):
        top, parts, turns, along, dot = stack
        strong = results.strong_seed(tables, network, SHARPNESS)
        first = results.curves(tables, network, SHARPNESS)
        handles += edge.draw_crossings(stack, tables, network, strong)
        handles += _draw_eigenvalues(top, tables, network, strong)
        handles += _draw_parts(parts, tables, network, strong)
        top.set_title(base.label(network, chosen))
        turn = style.positive(1 - results.curves(tables, network, ALIGNMENT).abs())
        if turn.notna().any(axis=None):
            style.draw_seeds(turns, turn, strong, style.PURPLE, width=0.8)
            style.log_limits(turns, turn, decades=8)
        for axes, quantity, colour in ((along, ALONG, style.VERMILION), (dot, DOT, style.BLACK)):
            values = results.curves(tables, network, quantity)
            edge.draw_zero(axes)
            if not values.empty:
                style.draw_seeds(axes, values, strong, colour, width=0.8)
                edge.symmetric_limits(axes, values)
        dot.set(xlabel="step", xlim=(0, float(first.index.max())))
    style.label_rows(stacks, "Λ and Λ₂", "Λ, part of M_A", "turn of v₁", "Dᵀv₁", "DᵀF")
    style.legend_below(figure, handles)
    return figure


def _draw_eigenvalues(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Line2D | None]:
    first, second = (results.curves(tables, network, SHARPNESS, index) for index in (0, 1))
    threshold = edge.threshold(tables, network, strong)
    handles = [
        style.draw_seeds(axes, first, strong, style.BLUE, label="Λ", width=0.9),
        style.draw_threshold(axes, threshold, network.threshold_symbol),
    ]
    if not second.empty:
        dashes = (0, (3, 1))
        handles.append(style.draw_seeds(axes, second, strong, style.ORANGE, dashes, "second Λ₂"))
    axes.set_ylim(0, style.sharpness_top(first, threshold))
    return handles


def _draw_parts(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Line2D]:
    first = style.positive(results.curves(tables, network, SHARPNESS))
    output = style.positive(results.curves(tables, network, OUTPUT))
    style.draw_seeds(axes, first, strong, style.BLUE, width=0.9)
    axes.set_yscale("log")
    if output.empty:
        return []
    dashes = (0, (5, 1, 1, 1))
    return [style.draw_seeds(axes, output, strong, style.GREEN, dashes, "(2/n) λ_max(M_A)")]


def caption(tables: results.Tables) -> str:
    """What is drawn, how large the second eigenvalue and M_A's become, and the scale."""
    members = runs_by_network(tables, *READS)
    chosen = list(members)
    notes = []
    for network, runs in members.items():
        words = [*_second(tables, network), *_output(tables, network), *_turn(runs)]
        if words:
            notes.append(f"{base.label(network, chosen)}: {', '.join(words)}")
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
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {ALIGNMENT: "v₁", OUTPUT: "M_A"}),
        base.scale_sentence(tables),
    )


def _second(tables: results.Tables, network: results.Network) -> list[str]:
    second = results.relative(tables, network, SHARPNESS, 1)
    return [] if second.empty else [f"Λ₂ at most {second.max().max():.2f} of the threshold"]


def _output(tables: results.Tables, network: results.Network) -> list[str]:
    output = results.curves(tables, network, OUTPUT)
    share = ensemble.finite((output / results.curves(tables, network, SHARPNESS)).to_numpy().flat)
    if not share.size:
        return []
    low, high = 100 * np.quantile(share, (0.05, 0.95))
    return [f"M_A's part {low:.1f} to {high:.1f} % of Λ (5th to 95th percentile)"]


def _turn(runs: Sequence[Run]) -> list[str]:
    """The 95th percentile of 1 − |⟨v₁(t), v₁(t+1)⟩|, over the seeds that did not diverge."""
    turns = [1 - np.abs(run.curve(ALIGNMENT)[1]) for run in runs if not run.diverged]
    highest = ensemble.finite(np.percentile(turn, 95) for turn in turns if turn.size)
    if not highest.size:
        return []
    return [f"turn at most {highest.mean():.2g} at its 95th percentile (mean over seeds)"]
