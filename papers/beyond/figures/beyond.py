"""Beyond Li et al. (2022): does a network's sharpness reach its threshold, and ‖A‖² track it?

For gradient descent the sharpness is Λ and the threshold 2/η, with heavy-ball momentum
(2 + 2β)/η. For SGD the batch sharpness E[gᵀ H_B g]/E‖g‖² is expected at 2/η instead.
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
DRAWS = ("batch_sharpness", "output_norm_squared")

BATCH, NORM = DRAWS
LEAST_TOP = 1.25
"""Least upper end of an axis over the threshold, so that panels compare."""


def title(tables: results.Tables) -> str:
    """The experiments, and what is drawn of them."""
    titles = [str(table.settings.get("title", name)) for name, table in tables.items()]
    return f"{', '.join(titles)}: {TITLE[0].lower()}{TITLE[1:]}"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ, and the batch sharpness, over the threshold; ‖A‖² below; a stack a network."""
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
    style.label_rows(stacks, "over threshold", "‖A‖²")
    style.legend_below(figure, handles)
    return figure


def _draw_levels(
    axes: Axes, tables: results.Tables, network: results.Network, strong: int
) -> list[Artist | None]:
    """Λ with its averages, or with the batch sharpness, and the band of the claims."""
    ratio = results.relative(tables, network, SHARPNESS)
    batch = results.relative(tables, network, BATCH)
    words = f"{BAND_LOW:g} to {BAND_HIGH:g} of the threshold"
    handles: list[Artist | None] = [
        axes.axhspan(BAND_LOW, BAND_HIGH, color=style.GREY, alpha=0.16, linewidth=0, label=words)
    ]
    if not batch.empty:
        name = "batch sharpness / threshold"
        handles.append(style.draw_seeds(axes, batch, strong, style.ORANGE, (0, (3, 1)), name))
    name = "sharpness Λ / threshold"
    handles.append(style.draw_seeds(axes, ratio, strong, style.BLUE, label=name, width=0.9))
    if batch.empty:
        handles.append(_draw_average(axes, ratio[strong].dropna()))
    handles.append(style.draw_threshold(axes, 1.0, "threshold"))
    top = style.sharpness_top(pd.concat([ratio, batch], axis=1), 1.0)
    axes.set_ylim(0, max(top, LEAST_TOP))
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
        threshold; batch_end, the same of the batch sharpness (not finite: diverged, not measured,
        or it cannot be told); agreement, share of records at which ‖A‖² and Λ move in the same
        direction, on means of two neighbouring records where these are an odd number of steps
        apart, else on raw ones.
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
                    "batch_end": end_level(run, BATCH) if BATCH in run.known else np.nan,
                    "agreement": _agreement(run) if NORM in run.known else np.nan,
                }
            )
    return pd.DataFrame(rows)


def _agreement(run: Run) -> float:
    steps, norm, sharpness = run.together(NORM, SHARPNESS)
    return sign_agreement(norm, sharpness, averaged=resolves_alternation(steps))


def caption(tables: results.Tables) -> str:
    """What is drawn; for each network, where Λ gets to, and how often ‖A‖² moves with it."""
    chosen = results.networks(tables, *READS)
    judged = verdicts(tables)
    notes = [
        f"{base.label(network, chosen)}: {_verdict(judged[judged['network'] == network])}"
        for network in chosen
    ]
    even = any(not resolves_alternation(results.curves(tables, n, SHARPNESS).index) for n in chosen)
    batched = bool(results.networks(tables, SHARPNESS, BATCH))
    return base.join(
        f"Above: Gauss-Newton sharpness Λ over the stability threshold, {base.symbols(chosen)} "
        f"(dashed; grey: {BAND_LOW:g} to {BAND_HIGH:g} of it).",
        ""
        if batched
        else "Red, dashed: mean of each record of the strong line and the one before it.",
        "Dashed orange: the batch sharpness E[gᵀ H_B g]/E‖g‖² over the same threshold, g and H_B "
        "the gradient and the Hessian of the loss of one batch (with all samples there is one, and "
        "before Λ reaches the threshold its gradient hardly points along v₁)."
        if batched
        else "",
        "Below: squared norm ‖A‖² of the output layer. Dotted vertical line: Λ of the strong line "
        "first reaches the threshold. Of each network: the mean over seeds and over the last third "
        "of the records, and the share of records at which ‖A‖² and Λ move in the same direction "
        "(on means of two neighbouring records, where these are an odd number of steps apart; "
        "median over seeds).",
        f"{'; '.join(notes)}.",
        "Where Λ was recorded at an even stride, one branch only of its alternation with period "
        "two is seen, and where it ends cannot be told."
        if even
        else "",
        base.seeds_sentence(tables, SHARPNESS),
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", BATCH: "batch sharpness", NORM: "‖A‖²"}),
        base.scale_sentence(tables),
    )


def _verdict(own: pd.DataFrame) -> str:
    count = f"in {int(own['reached'].sum())} of {len(own)} seeds"
    side = "comes down to" if own["above"].all() else "reaches"
    words = [f"Λ {side} its threshold {count}"]
    for column, what in (("end", "Λ"), ("batch_end", "batch sharpness")):
        if np.isfinite(end := ensemble.mean(own[column])):
            words.append(f"{what} ends at {end:.2f} of it")
    agreement = own["agreement"].median()
    if np.isfinite(agreement):
        words.append(f"‖A‖² moves with Λ at {100 * agreement:.0f} % of records")
    return ", ".join(words)
