"""Where batch sharpness settles, and the sharpness below it (Andreyev and Beneventano, 2024)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.edge import BAND_HIGH, BAND_LOW
from sharpflow.results.runs import runs_by_network

from ..claims.levels import level

TITLE = "Batch sharpness and sharpness over 2/η"
READS = ("batch_sharpness_mean_of_ratios", "hessian_sharpness")
DRAWS = ("batch_sharpness_ratio_of_means",)

RATIOS, SHARPNESS = READS
(MEANS,) = DRAWS
LOOKS = {
    RATIOS: (style.ORANGE, "o", "batch sharpness E[gᵀ H_B g/‖g‖²]"),
    MEANS: (style.PURPLE, "s", "E[gᵀ H_B g]/E‖g‖²"),
    SHARPNESS: (style.BLUE, "^", "λ₁ of the loss of all samples"),
}
LEAST_TOP = 1.5


@style.house
def draw(tables: results.Tables) -> Figure:
    """Three curvatures over 2/η above, the loss below; a stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.0, 1.6))
    handles = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        strong = results.strong_seed(tables, network, RATIOS)
        drawn = []
        for quantity, (colour, marker, words) in LOOKS.items():
            if quantity == MEANS and not network.batch:
                continue  # of one batch the two means agree
            ratio = results.relative(tables, network, quantity)
            if not ratio.empty:
                drawn.append(ratio)
                handles.append(style.draw_apart(above, ratio, strong, colour, marker, words))
        band = f"{BAND_LOW:g} to {BAND_HIGH:g} of 2/η"
        handles.append(
            above.axhspan(BAND_LOW, BAND_HIGH, color=style.GREY, alpha=0.16, lw=0, label=band)
        )
        handles.append(style.draw_threshold(above, 1.0, "2/η"))
        top = max(style.sharpness_top(pd.concat(drawn, axis=1), 1.0), LEAST_TOP)
        above.set_ylim(0, top)
        loss = style.positive(results.curves(tables, network, "loss"))
        handles.append(style.draw_seeds(below, loss, strong, style.GREEN, label="loss"))
        below.set_yscale("log")
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(0, float(loss.index.max())))
    style.common_limits([above for above, _ in stacks])
    style.label_rows(stacks, "over 2/η", "loss")
    style.legend_below(figure, handles)
    return figure


def alt(tables: results.Tables) -> str:
    """What is seen."""
    chosen = results.networks(tables, *READS)
    return (
        f"{len(chosen)} panels, one a network: above, both means of batch sharpness and the "
        "largest Hessian eigenvalue over 2/η, which is a dashed line at 1; below, the loss."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The three levels over the last third of each network's runs, means over seeds."""
    runs = runs_by_network(tables, *READS)

    def end(network: results.Network, quantity: str) -> str:
        known = [run for run in runs[network] if quantity in run.known]
        value = ensemble.mean([level(run, quantity) for run in known])
        return f"{value:.2f}" if np.isfinite(value) else ""

    return base.numbers_table(
        tables,
        list(runs),
        {
            "2/η": lambda n: base.number(n.threshold),
            "mean of ratios / (2/η)": lambda n: end(n, RATIOS),
            "ratio of means / (2/η)": lambda n: end(n, MEANS),
            "λ₁ / (2/η)": lambda n: end(n, SHARPNESS),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Above: the batch sharpness, the mean over batches of gᵀ H_B g/‖g‖² (dots), which is "
        "predicted at 2/η (dashed); the mean of gᵀ H_B g over that of ‖g‖² (squares); and the "
        "largest Hessian eigenvalue λ₁ of the loss of all samples (triangles). Below: that loss.",
        base.seeds_sentence(tables, RATIOS),
        base.stride_sentence(tables, {RATIOS: "curvatures"}),
        base.scale_sentence(tables),
    )
