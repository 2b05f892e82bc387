"""Beyond Li et al. (2022): does a network's sharpness reach its threshold, and ‖A‖² track it?

For gradient descent the sharpness is Λ and the threshold 2/η, with heavy-ball momentum
(2 + 2β)/η. For SGD the batch sharpness E[gᵀ H_B g]/E‖g‖² is expected at 2/η instead.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.dynamics import (
    finite_prefix,
    resolves_alternation,
    sharpness_summary,
    sign_agreement,
    two_step_average,
)
from sharpflow.figures import base, style
from sharpflow.figures._edge import SHARPNESS, crossing_step

TITLE = "The sharpness over its threshold, and ‖A‖²"

BATCH = "batch_sharpness"
NORM = "output_norm_squared"
BAND = (0.9, 1.1)
"""What counts as at the threshold in the claims."""
LEAST_TOP = 1.25
"""Least upper end of an axis over the threshold, so that panels compare."""


def title(tables: base.Tables) -> str:
    """The experiments, and what is drawn of them."""
    titles = [str(table.settings.get("title", name)) for name, table in tables.items()]
    return f"{', '.join(titles)}: {TITLE[0].lower()}{TITLE[1:]}"


@style.house
def draw(tables: base.Tables) -> Figure:
    """Λ, and the batch sharpness, over the threshold; ‖A‖² below; a stack a network."""
    chosen = base.networks(tables, SHARPNESS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.0, 1.9))
    handles = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        strong = base.strong_seed(tables, network, SHARPNESS)
        ratio = base.curves(tables, network, SHARPNESS) / network.threshold
        batch = base.curves(tables, network, BATCH) / network.threshold
        norm = base.curves(tables, network, NORM)
        crossing = crossing_step(tables, network, strong)
        handles.append(
            above.axhspan(*BAND, color=style.GREY, alpha=0.16, linewidth=0, label="within 10 %")
        )
        for axes in (above, below) if crossing else ():
            handles.append(style.draw_moment(axes, crossing, "Λ first reaches the threshold"))
        if not batch.empty:
            handles.append(
                style.draw_seeds(
                    above, batch, strong, style.ORANGE, (0, (3, 1)), "batch sharpness / threshold"
                )
            )
        handles.append(
            style.draw_seeds(
                above, ratio, strong, style.BLUE, label="sharpness Λ / threshold", width=0.9
            )
        )
        if batch.empty:
            handles.append(_draw_average(above, ratio[strong].dropna()))
        line = style.draw_threshold(above, 1.0)
        line.set_label("threshold")
        handles.append(line)
        handles.append(style.draw_seeds(below, norm, strong, style.GREEN, label="‖A‖²", width=1.0))
        top = style.sharpness_top(pd.concat([ratio, batch], axis=1), 1.0)
        above.set_ylim(0, max(top, LEAST_TOP))
        above.set_title(base.label(tables, network, chosen))
        below.set(xlabel="step", xlim=(0, float(ratio.index.max())))
    style.label_rows(stacks, "over threshold", "‖A‖²")
    style.legend_below(figure, handles)
    return figure


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


def verdicts(tables: base.Tables) -> pd.DataFrame:
    """One row a run: network, seed and what became of its sharpness.

    Returns
    -------
    DataFrame
        network; seed; above, whether Λ started at the threshold or above; reached, whether it was
        on both sides of it; end, mean over the last third of two-step averages of Λ over the
        threshold; batch_end, the same of the batch sharpness (NaN: not measured); agreement, share
        of records at which ‖A‖² and Λ move in the same direction, on means of two neighbouring
        records where these are an odd number of steps apart, else on raw ones.
    """
    rows = []
    for network in base.networks(tables, SHARPNESS):
        sharpness = base.curves(tables, network, SHARPNESS)
        batch = base.curves(tables, network, BATCH)
        norm = base.curves(tables, network, NORM)
        for seed in sharpness.columns:
            curve = sharpness[seed].dropna()
            summary = sharpness_summary(curve.index, curve, network.threshold)
            both = pd.concat([norm.get(seed), curve], axis=1, join="inner").dropna()
            a, b = finite_prefix(*both.to_numpy().T)
            averaged = resolves_alternation(both.index)
            late = batch[seed].dropna() if seed in batch else pd.Series(dtype=float)
            above = curve >= network.threshold
            rows.append(
                {
                    "network": network,
                    "seed": seed,
                    "above": bool(above.iloc[:1].any()),
                    "reached": bool(above.any() and not above.all()),
                    "end": summary.end_mean,
                    "batch_end": sharpness_summary(late.index, late, network.threshold).end_mean,
                    "agreement": sign_agreement(a, b, averaged=averaged),
                }
            )
    return pd.DataFrame(rows)


def caption(tables: base.Tables) -> str:
    """What is drawn; for each network, where Λ gets to, and how often ‖A‖² moves with it."""
    chosen = base.networks(tables, SHARPNESS)
    judged = verdicts(tables)
    notes = [
        f"{base.label(tables, network, chosen)}: {_verdict(judged[judged['network'] == network])}"
        for network in chosen
    ]
    even = any(not resolves_alternation(base.curves(tables, n, SHARPNESS).index) for n in chosen)
    batched = any(len(base.curves(tables, network, BATCH)) for network in chosen)
    return base.join(
        "Above: Gauss-Newton sharpness Λ over the stability threshold, which is 2/η, and "
        "(2 + 2β)/η with heavy-ball momentum β (dashed; grey: within 10 % of it).",
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
        "two is seen."
        if even
        else "",
        base.seeds_sentence(tables, SHARPNESS),
        base.cut_sentence(tables, SHARPNESS).replace("2/η", "the threshold"),
        base.stride_sentence(tables, {SHARPNESS: "Λ", BATCH: "batch sharpness", NORM: "‖A‖²"}),
        base.scale_sentence(tables),
    )


def _verdict(own: pd.DataFrame) -> str:
    count = f"in {int(own['reached'].sum())} of {len(own)} seeds"
    side = "comes down to" if own["above"].all() else "reaches"
    words = [f"Λ {side} its threshold {count} and ends at {own['end'].mean():.2f} of it"]
    if own["batch_end"].notna().any():
        words.append(f"batch sharpness ends at {own['batch_end'].mean():.2f} of it")
    agreement = own["agreement"].median()
    if np.isfinite(agreement):
        words.append(f"‖A‖² moves with Λ at {100 * agreement:.0f} % of records")
    return ", ".join(words)
