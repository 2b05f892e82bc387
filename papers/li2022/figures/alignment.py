"""What the analysis of Li et al. (2022, section 4) assumes of v₁, of M_A and of the spectrum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
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
SECOND = "second eigenvalue Λ₂"


@style.house
def draw(tables: results.Tables) -> Figure:
    """A stack a network: Λ₁ and Λ₂, M_A's part, the turn of v₁, Dᵀv₁ and DᵀF on one step axis."""
    chosen = results.networks(tables, *READS)
    unit = edge.unit(chosen)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.6, 1.8, 1.8, 1.6, 1.6))
    handles: list[Artist | None] = []
    drawn = []
    for network, stack in zip(chosen, stacks, strict=True):
        top, parts, turns, along, dot = stack
        strong = results.strong_seed(tables, network, SHARPNESS)
        first = unit.curves(tables, network)
        handles += edge.draw_crossings(stack, tables, network, strong)
        handles += [
            edge.draw_branches(top, first, strong, style.BLUE, "Λ, even and odd steps"),
            unit.draw_threshold(top, tables, network, strong),
        ]
        drawn.append((first, unit.threshold(tables, network, strong)))
        second = unit.curves(tables, network, SHARPNESS, 1)
        if not second.empty:
            dashes = (0, (3, 1))
            handles.append(style.draw_seeds(top, second, strong, style.ORANGE, dashes, SECOND))
        handles.append(_draw_part(parts, tables, network, strong))
        top.set_title(base.label(network, chosen))
        turn = style.positive(1 - results.curves(tables, network, ALIGNMENT).abs())
        if turn.notna().any(axis=None):
            words = "turn of v₁ in a step"
            handles.append(style.draw_seeds(turns, turn, strong, style.PURPLE, "-", words, 0.8))
            style.log_limits(turns, turn, decades=8)
        for axes, quantity, colour, label in (
            (along, ALONG, style.VERMILION, "Dᵀv₁, even and odd steps"),
            (dot, DOT, style.GREY, "DᵀF, even and odd steps"),
        ):
            values = results.curves(tables, network, quantity)
            edge.draw_zero(axes)
            if not values.empty:
                handles.append(edge.draw_branches(axes, values, strong, colour, label))
                edge.symmetric_limits(axes, values)
        dot.set(xlabel="step", xlim=(0, float(first.index.max())))
    unit.limit([stack[0] for stack in stacks], *zip(*drawn, strict=True))
    for level in (1, 2):
        style.common_limits([stack[level] for stack in stacks])
    labels = (unit.label(), "part in Λ", "1 − |⟨v₁, v₁⁺⟩|", "Dᵀv₁", "DᵀF")
    style.label_rows(stacks, *labels)
    style.legend_below(figure, handles)
    return figure


def part(tables: results.Tables, network: results.Network) -> pd.DataFrame:
    """λ_max of the output layer's part M_A of M over that of M: steps, a column a seed."""
    return results.curves(tables, network, OUTPUT) / results.curves(tables, network, SHARPNESS)


def _draw_part(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> Line2D | None:
    share = style.positive(part(tables, network))
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 1)
    if share.empty or strong not in share:
        return None
    dashes = (0, (5, 1, 1, 1))
    words = "output layer's λₘₐₓ / Λ"
    return style.draw_seeds(axes, share, strong, style.GREEN, dashes, words)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    chosen = results.networks(tables, *READS)
    text = (
        f"{len(chosen)} columns of five panels over the training steps, one a network: the largest "
        "two eigenvalues against a dashed line at the threshold, the output layer's part, the turn "
        "of the top eigenvector, and two panels in which an even and an odd branch swing apart."
    )
    seconds = [value for n in chosen if (value := _second(tables, n))]
    return (
        f"{text} The second eigenvalue reaches {base.several(seconds)} of it." * bool(seconds)
        or text
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """How large the second eigenvalue and M_A's part become, and how far v₁ turns."""
    members = runs_by_network(tables, *READS)
    return base.numbers_table(
        tables,
        list(members),
        {
            "2/η": lambda n: base.number(n.threshold),
            "largest Λ₂ / threshold": lambda n: _second(tables, n),
            "M_A's part in Λ (5th to 95th percentile)": lambda n: _output(tables, n),
            "95th percentile of the turn (mean over seeds)": lambda n: _turn(members[n]),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    chosen = results.networks(tables, *READS)
    odd = any((base.stride(tables, n, ALIGNMENT) or 1) > 1 for n in chosen)
    return base.join(
        "From the top: the two largest eigenvalues of (2/n) J Jᵀ over the threshold; the output "
        "layer's part in the first; how far the top eigenvector v₁ turns between "
        f"{'records' if odd else 'steps'}; the residual D along v₁; DᵀF, which has the sign of "
        "−Δ‖A‖² to first order. Dotted line: Λ first reaches the threshold; thin lines: again.",
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {ALIGNMENT: "v₁", OUTPUT: "the output layer's part"}),
        base.scale_sentence(tables),
    )


def _second(tables: results.Tables, network: results.Network) -> str:
    second = results.relative(tables, network, SHARPNESS, 1)
    return "" if second.empty else f"{second.max().max():.2f}"


def _output(tables: results.Tables, network: results.Network) -> str:
    share = ensemble.finite(part(tables, network).to_numpy().flat)
    if not share.size:
        return ""
    low, high = 100 * np.quantile(share, (0.05, 0.95))
    return f"{low:.1f} to {high:.1f} %"


def _turn(runs: Sequence[Run]) -> str:
    """The 95th percentile of 1 − |⟨v₁(t), v₁(t+1)⟩|, over the seeds that did not diverge."""
    turns = [1 - np.abs(run.curve(ALIGNMENT)[1]) for run in runs if not run.diverged]
    highest = ensemble.finite(np.percentile(turn, 95) for turn in turns if turn.size)
    return f"{highest.mean():.2g}" if highest.size else ""
