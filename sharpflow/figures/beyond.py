"""Beyond Li et al. (2022): does a network's sharpness reach its threshold, and ‖A‖² track it?

For gradient descent the sharpness is Λ and the threshold 2/η, with heavy-ball momentum
(2 + 2β)/η. For SGD the batch sharpness E[gᵀ H_B g]/E‖g‖² is expected at 2/η instead.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpflow.dynamics import (
    finite_prefix,
    resolves_alternation,
    sharpness_summary,
    sign_agreement,
)
from sharpflow.figures import base, style
from sharpflow.figures._edge import SHARPNESS, crossing_step

TITLE = "Beyond the paper: the sharpness over its threshold, and ‖A‖²"

BATCH = "batch_sharpness"
NORM = "output_norm_squared"
TRACKS = 2 / 3


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
        for axes in (above, below):
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
        line = style.draw_threshold(above, 1.0)
        line.set_label("threshold")
        handles.append(line)
        handles.append(style.draw_seeds(below, norm, strong, style.GREEN, label="‖A‖²", width=1.0))
        above.set_ylim(0, style.sharpness_top(pd.concat([ratio, batch], axis=1), 1.0))
        above.set_title(base.label(tables, network, chosen))
        below.set(xlabel="step", xlim=(0, float(ratio.index.max())))
    style.label_rows(stacks, "over threshold", "‖A‖²")
    style.legend_below(figure, handles)
    return figure


def verdicts(tables: base.Tables) -> pd.DataFrame:
    """One row a run: network, seed and what became of its sharpness.

    Returns
    -------
    DataFrame
        network; seed; reached, whether Λ reached the threshold; end, mean of Λ over the threshold
        in the last third; batch_end, the same of the batch sharpness (NaN: not measured);
        agreement, share of records at which ‖A‖² and Λ move in the same direction, on means of
        two neighbouring records where these are an odd number of steps apart, else on raw ones.
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
            late = late.iloc[2 * len(late) // 3 :]
            rows.append(
                {
                    "network": network,
                    "seed": seed,
                    "reached": bool(np.isfinite(summary.first_crossing)),
                    "end": summary.end_mean,
                    "batch_end": late.mean() / network.threshold if len(late) else np.nan,
                    "agreement": sign_agreement(a, b, averaged=averaged),
                }
            )
    return pd.DataFrame(rows)


def caption(tables: base.Tables) -> str:
    """What is drawn; for each network, whether Λ gets to its threshold and ‖A‖² follows it."""
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
        "(2 + 2β)/η with heavy-ball momentum β.",
        "Dashed orange: the batch sharpness E[gᵀ H_B g]/E‖g‖² over the same threshold, g and H_B "
        "the gradient and the Hessian of the loss of one batch."
        if batched
        else "",
        "Below: squared norm ‖A‖² of the output layer. Dotted vertical line: Λ of the strong line "
        "first reaches the threshold. The end is the last third of the records, as a mean over "
        "seeds; ‖A‖² is said to track Λ where both move in the same direction at two records in "
        "three or more (means of two neighbouring records, where these are an odd number of steps "
        "apart; median over seeds).",
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
    words = [
        f"reaches its threshold in {int(own['reached'].sum())} of {len(own)} seeds, end "
        f"{own['end'].mean():.2f} of it"
    ]
    if own["batch_end"].notna().any():
        words.append(f"batch sharpness ends at {own['batch_end'].mean():.2f} of it")
    agreement = own["agreement"].median()
    if np.isfinite(agreement):
        verb = "tracks" if agreement >= TRACKS else "does not track"
        words.append(f"‖A‖² {verb} Λ ({100 * agreement:.0f} % of records)")
    return ", ".join(words)
