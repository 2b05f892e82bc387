"""Figure 2 of Li et al. (2022): the norm of the output layer follows the sharpness."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.curves import resolves_alternation, two_step_average
from sharpflow.results.residual import anomaly_points

TITLE = "Norm of the output layer beside the sharpness"
READS = ("gauss_newton_sharpness", "output_norm_squared")

NORM = "output_norm_squared"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ above, anomaly points as a strip, ‖A‖² below; one stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 0.75, 2.2))
    handles = []
    for network, (above, strip, below) in zip(chosen, stacks, strict=True):
        sharpness = results.curves(tables, network, SHARPNESS)
        norm = results.curves(tables, network, NORM)
        strong = results.strong_seed(tables, network, SHARPNESS)
        threshold = edge.threshold(tables, network, strong)
        handles += [
            style.draw_seeds(above, sharpness, strong, style.BLUE, label="sharpness Λ", width=0.9),
            style.draw_threshold(above, threshold, network.threshold_symbol),
            style.draw_seeds(below, norm, strong, style.GREEN, label="‖A‖²", width=1.0),
        ]
        above.set_ylim(0, style.sharpness_top(sharpness, threshold))
        above.set_title(base.label(network, chosen))
        _strip(strip, *anomalies(sharpness[strong], norm[strong]))
        below.set(xlabel="step", xlim=(0, float(norm.index.max())))
    style.label_rows(stacks, "sharpness Λ", "anomaly", "‖A‖²")
    for _, strip, _ in style.left_column(stacks):
        strip.set_yticks([0, 1], ["two-step", "raw"], fontsize=7)
        strip.set_ylabel("")
    style.legend_below(figure, handles)
    return figure


def anomalies(sharpness: pd.Series, norm: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Steps after which Δ‖A‖² and ΔΛ have opposite signs: on raw records, on two-step averages."""
    both = pd.concat([norm, sharpness], axis=1, join="inner").dropna()
    steps, (a, b) = both.index.to_numpy(), both.to_numpy().T
    raw = anomaly_points(a, b)
    averaged = anomaly_points(two_step_average(a), two_step_average(b))
    return steps[: raw.size][raw], steps[: averaged.size][averaged]


def _strip(axes: Axes, raw: np.ndarray, averaged: np.ndarray) -> None:
    for row, (steps, colour) in enumerate([(averaged, style.VERMILION), (raw, style.BLACK)]):
        axes.vlines(steps, row - 0.38, row + 0.38, color=colour, linewidth=0.5)
    axes.set(ylim=(-0.55, 1.55), yticks=[])
    axes.tick_params(left=False, bottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def caption(tables: results.Tables) -> str:
    """What is drawn, how anomalies are defined and how common they are, and the scale."""
    shares, odd = [], True
    chosen = results.networks(tables, *READS)
    for network in chosen:
        sharpness = results.curves(tables, network, SHARPNESS)
        norm = results.curves(tables, network, NORM)
        strong = results.strong_seed(tables, network, SHARPNESS)
        raw, averaged = anomalies(sharpness[strong], norm[strong])
        odd = odd and resolves_alternation(sharpness[strong].dropna().index)
        count = max(len(sharpness[strong].dropna()) - 1, 1)
        shares.append(
            f"{base.label(network, chosen)}: {100 * raw.size / count:.0f} % and "
            f"{100 * averaged.size / count:.0f} %"
        )
    return base.join(
        "Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) with the stability threshold "
        f"{base.symbols(chosen)} (dashed). Below: squared norm ‖A‖² of the output layer's weights.",
        "Between them: anomaly points of the strong lines, where Δ‖A‖² and ΔΛ have opposite signs; "
        "upper row on raw records, lower row on means of two neighbouring records, which cancel "
        "the alternation of Λ with period two at the edge of stability.",
        f"Share of anomalous steps, raw and on two-step means: {'; '.join(shares)}.",
        "" if odd else "Λ was recorded at an even stride, which sees one branch of it only.",
        base.seeds_sentence(tables, SHARPNESS),
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", NORM: "‖A‖²"}),
        base.scale_sentence(tables),
    )
