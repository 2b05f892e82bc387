"""The Gauss-Newton sharpness against the top eigenvalue of the Hessian along training."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network

TITLE = "Gauss-Newton sharpness and the Hessian's top eigenvalue"
READS = ("gauss_newton_sharpness", "hessian_sharpness")

HESSIAN = "hessian_sharpness"
TOP = "λₘₐₓ"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Both eigenvalues above, their ratio below; one stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 2.2))
    handles = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        surrogate = results.curves(tables, network, SHARPNESS)
        hessian = results.curves(tables, network, HESSIAN)
        strong = results.strong_seed(tables, network, HESSIAN)
        threshold = edge.threshold(tables, network, strong)
        ratio = surrogate / hessian.where(hessian > 0)
        dashes = (0, (3.5, 1.2))
        handles += [
            style.draw_seeds(above, surrogate, strong, style.SKY, label="Gauss-Newton Λ"),
            style.draw_seeds(
                above, hessian, strong, style.VERMILION, dashes, f"Hessian {TOP}", 1.2
            ),
            style.draw_threshold(above, threshold, network.threshold_symbol),
            style.draw_seeds(below, ratio, strong, style.BLUE, label=f"Λ / {TOP}", width=1.0),
        ]
        below.axhline(1.0, color=style.BLACK, linewidth=0.8, zorder=1)
        for axes in (above, below):
            moment = halved_step(results.curves(tables, network, "loss")[strong])
            handles.append(style.draw_moment(axes, moment, "loss has halved"))
        both = pd.concat([surrogate, hessian])
        lowest = min(0.0, float(hessian.min().min()))
        above.set_ylim(lowest, style.sharpness_top(both, threshold))
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(0, float(both.index.max())), ylim=ratio_limits(ratio))
    style.label_rows(stacks, "sharpness", f"Λ / {TOP}")
    style.legend_below(figure, handles)
    return figure


def halved_step(loss: pd.Series) -> int | None:
    """First recorded step at which a run's loss is at most half of its first value."""
    loss = loss.dropna()
    reached = loss.index[loss <= 0.5 * loss.iloc[0]] if len(loss) else []
    return int(reached[0]) if len(reached) else None


def ratio_limits(ratio: pd.DataFrame) -> tuple[float, float]:
    """Limits of the ratio's axis: its range with 1 in it, within [0, 3]."""
    values = ratio.to_numpy(float)
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if values.size else (0.9, 1.1)
    margin = 0.08 * max(high - low, 0.1)
    return max(min(low, 1.0) - margin, 0.0), min(max(high, 1.0) + margin, 3.0)


def caption(tables: results.Tables) -> str:
    """What is drawn, at which steps the ratio is taken, what did not converge, and the scale."""
    symbols = base.symbols(results.networks(tables, *READS))
    return base.join(
        "Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) (full) and the largest eigenvalue "
        f"{TOP} of the Hessian of the loss (short dashes), with the stability threshold {symbols} "
        "(long dashes). Below: their ratio, at the steps at which both were recorded and "
        f"{TOP} > 0. "
        "Dotted vertical line: first step at which the loss is at most half of its initial value.",
        *_convergence(tables),
        base.seeds_sentence(tables, HESSIAN),
        edge.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", HESSIAN: TOP}),
        base.scale_sentence(tables),
    )


def _convergence(tables: results.Tables) -> list[str]:
    """How many eigenvalues of each matrix reached the solver's tolerance."""
    runs = [run for members in runs_by_network(tables, *READS).values() for run in members]
    sentences = []
    for quantity, matrix in ((HESSIAN, "Hessian"), (SHARPNESS, "Gauss-Newton matrix")):
        counts = [run.unconverged(quantity) for run in runs]
        failed, total = sum(count for count, _ in counts), sum(count for _, count in counts)
        if total:
            rest = "; the others are left out." if failed else "."
            words = f"{total - failed:,} of {total:,} eigenvalues of the {matrix} converged"
            sentences.append(f"{words}{rest}")
    return sentences
