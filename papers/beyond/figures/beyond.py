"""Beyond Li et al. (2022): does a network's sharpness reach its threshold, and ‖A‖² track it?

For gradient descent the sharpness is Λ and the threshold 2/η, with heavy-ball momentum
(2 + 2β)/η. For SGD the batch sharpness E[gᵀ H_B g/‖g‖²] is expected at 2/η instead; beside it
stands E[gᵀ H_B g]/E‖g‖², which weighs batches with large gradients more.
"""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.claims.edge import reaches_threshold
from sharpflow.figures import base, edge, ensemble, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.curves import resolves_alternation, two_step_average
from sharpflow.results.edge import BAND_HIGH, BAND_LOW, end_level
from sharpflow.results.residual import sign_agreement
from sharpflow.results.runs import Run, runs_by_network

TITLE = "The sharpness over its threshold, and ‖A‖²"
READS = ("gauss_newton_sharpness",)
DRAWS = (
    "batch_sharpness_mean_of_ratios",
    "batch_sharpness_ratio_of_means",
    "output_norm_squared",
)

RATIOS, MEANS, NORM = DRAWS
LEAST_TOP = 1.25
"""Least upper end of an axis over the threshold, so that panels compare."""


def title(tables: results.Tables) -> str:
    """The experiments, and what is drawn of them."""
    titles = [str(table.settings.get("title", name)) for name, table in tables.items()]
    return f"{', '.join(titles)}: {TITLE[0].lower()}{TITLE[1:]}"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ, and both means of batch sharpness, over the threshold; ‖A‖² below; a stack a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.0, 1.9))
    handles: list[Artist | None] = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        strong = results.strong_seed(tables, network, SHARPNESS)
        norm = results.curves(tables, network, NORM)
        handles += _draw_levels(above, tables, network, strong)
        crossing = edge.crossing_step(tables, network, strong)
        for axes in (above, below) if crossing else ():
            handles.append(style.draw_moment(axes, crossing, "Λ first reaches the threshold"))
        if not norm.empty:
            handles.append(
                style.draw_seeds(below, norm, strong, style.GREEN, label="‖A‖²", width=1.0)
            )
        above.set_title(base.label(network, chosen))
        last = results.curves(tables, network, SHARPNESS).index.max()
        below.set(xlabel="step", xlim=(0, float(last)))
    style.common_limits([above for above, _ in stacks])
    unit = edge.unit(chosen)
    style.label_rows(stacks, unit.label() if unit.relative else "over threshold", "‖A‖²")
    style.legend_below(figure, handles)
    return figure


def _draw_levels(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Artist | None]:
    """Λ with its averages, or with the batch sharpness, and the band of the claims."""
    ratio = results.relative(tables, network, SHARPNESS)
    batch = results.relative(tables, network, RATIOS)
    means = results.relative(tables, network, MEANS)
    words = f"{BAND_LOW:g} to {BAND_HIGH:g} of the threshold"
    handles: list[Artist | None] = [
        axes.axhspan(BAND_LOW, BAND_HIGH, color=style.GREY, alpha=0.16, linewidth=0, label=words)
    ]
    if not batch.empty:
        name = "batch sharpness, mean of ratios / threshold"
        handles.append(style.draw_apart(axes, batch, strong, style.ORANGE, "o", name))
    if not means.empty and network.batch:
        name = "ratio of means / threshold"
        handles.append(style.draw_apart(axes, means, strong, style.PURPLE, "s", name))
    name = "sharpness Λ / threshold"
    handles.append(edge.draw_sharpness(axes, ratio, strong, style.BLUE, label=name))
    if batch.empty and not edge.means_are_drawn(ratio):
        handles.append(_draw_average(axes, ratio[strong].dropna()))
    handles.append(style.draw_threshold(axes, 1.0, "threshold"))
    drawn = pd.concat([ratio, batch, means], axis=1)
    top = max(style.sharpness_top(drawn, 1.0), LEAST_TOP)
    axes.set_ylim(0, top)
    if drawn.max().max() > top:
        style.note(axes, f"cut at {style.CUT} × the threshold")
    return handles


def _draw_average(axes: Axes, ratio: pd.Series) -> Line2D:
    """The two-step averages of a curve, which show the middle of its alternation."""
    (line,) = axes.plot(
        ratio.index[1:],
        two_step_average(ratio),
        color=style.VERMILION,
        linestyle=(0, (5, 1)),
        linewidth=1.0,
        label="its two-step average",
        zorder=3.2,
    )
    return line


def verdicts(tables: results.Tables) -> pd.DataFrame:
    """What became of the sharpness of every run, as the claims find it.

    Returns:
        One row a run: network; seed; above, whether Λ started at the threshold or above; reached,
        whether it came to it; end, mean over the last third of two-step averages of Λ over the
        threshold; ratios_end and means_end, the same of the two means of batch sharpness (not
        finite: diverged, not measured, or it cannot be told); agreement, share of records at which
        ‖A‖² and Λ move in the same direction, on means of two neighbouring records where these are
        an odd number of steps apart, else on raw ones.
    """
    rows = []
    for network, runs in runs_by_network(tables, *READS).items():
        for run in runs:
            ratio = run.relative(SHARPNESS)[1]
            rows.append(
                {
                    "network": network,
                    "seed": run.seed,
                    "above": bool(ratio.size and ratio[0] >= 1),
                    "reached": reaches_threshold.statistic(run) >= reaches_threshold.band[0],
                    "end": end_level(run),
                    "ratios_end": end_level(run, RATIOS) if RATIOS in run.known else np.nan,
                    "means_end": end_level(run, MEANS) if MEANS in run.known else np.nan,
                    "agreement": _agreement(run) if NORM in run.known else np.nan,
                }
            )
    return pd.DataFrame(rows)


def _agreement(run: Run) -> float:
    steps, norm, sharpness = run.together(NORM, SHARPNESS)
    return sign_agreement(norm, sharpness, averaged=resolves_alternation(steps))


def alt(tables: results.Tables) -> str:
    """What is seen, and how many runs reach the threshold."""
    chosen = results.networks(tables, *READS)
    judged = verdicts(tables)
    return (
        f"{len(chosen)} panels, one a network: above, the sharpness over its threshold with a grey "
        f"band about one; below, the norm of the output layer. {int(judged['reached'].sum())} of "
        f"{len(judged)} runs come to the threshold."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """For each network, where Λ gets to, and how often ‖A‖² moves with it."""
    judged = verdicts(tables)

    def own(network: results.Network) -> pd.DataFrame:
        return judged[judged["network"] == network]

    def end(network: results.Network, column: str) -> str:
        value = ensemble.mean(own(network)[column])
        return f"{value:.2f}" if np.isfinite(value) else ""

    def agreement(network: results.Network) -> str:
        share = own(network)["agreement"].median()
        return f"{100 * share:.0f} %" if np.isfinite(share) else ""

    def reached(network: results.Network) -> str:
        side = "comes down" if own(network)["above"].all() else "comes up"
        return f"{side} in {int(own(network)['reached'].sum())} of {len(own(network))}"

    return base.numbers_table(
        tables,
        results.networks(tables, *READS),
        {
            "threshold": lambda n: base.number(n.threshold),
            "Λ to its threshold": reached,
            "Λ / threshold at the end": lambda n: end(n, "end"),
            "mean of ratios / threshold": lambda n: end(n, "ratios_end"),
            "ratio of means / threshold": lambda n: end(n, "means_end"),
            "records at which ‖A‖² moves with Λ": agreement,
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    chosen = results.networks(tables, *READS)
    even = any(not resolves_alternation(results.curves(tables, n, SHARPNESS).index) for n in chosen)
    batched = bool(results.networks(tables, SHARPNESS, RATIOS))
    return base.join(
        f"Above: Gauss-Newton sharpness Λ over the threshold {base.symbols(chosen)} (dashed)"
        + (", and batch sharpness: E[gᵀ H_B g/‖g‖²] (dots)" if batched else "")
        + (" and E[gᵀ H_B g]/E‖g‖² (squares)." if batched else ".")
        + " Below: ‖A‖² of the output layer. Dotted: Λ of the strong line first reaches the "
        "threshold.",
        "At an even stride one branch of Λ is seen only." if even else "",
        edge.means_sentence(results.curves(tables, n, SHARPNESS) for n in chosen),
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {RATIOS: "batch sharpness"}),
        base.scale_sentence(tables),
    )
