"""The Gauss-Newton sharpness against the top eigenvalue of the Hessian along training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import base, style

TITLE = "Gauss-Newton sharpness and the Hessian's top eigenvalue"

SHARPNESS = "gauss_newton_sharpness"
HESSIAN = "hessian_sharpness"
TOP = "λₘₐₓ"


@style.house
def draw(tables: base.Tables) -> Figure:
    """Both eigenvalues above, their ratio below; one stack of panels a network."""
    chosen = base.networks(tables, HESSIAN)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 2.2))
    handles = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        surrogate = base.curves(tables, network, SHARPNESS)
        hessian = base.curves(tables, network, HESSIAN)
        strong = base.strong_seed(tables, network, HESSIAN)
        ratio = surrogate / hessian.where(hessian > 0)
        dashes = (0, (3.5, 1.2))
        handles += [
            style.draw_seeds(above, surrogate, strong, style.SKY, label="Gauss-Newton Λ"),
            style.draw_seeds(
                above, hessian, strong, style.VERMILION, dashes, f"Hessian {TOP}", 1.2
            ),
            style.draw_threshold(above, network.threshold),
            style.draw_seeds(below, ratio, strong, style.BLUE, label=f"Λ / {TOP}", width=1.0),
            _unconverged(above, tables, network, hessian, strong),
        ]
        below.axhline(1.0, color=style.BLACK, linewidth=0.8, zorder=1)
        for axes in (above, below):
            moment = halved_step(base.curves(tables, network, "loss")[strong])
            handles.append(style.draw_moment(axes, moment, "loss has halved"))
        both = pd.concat([surrogate, hessian])
        lowest = min(0.0, float(hessian.min().min()))
        above.set_ylim(lowest, style.sharpness_top(both, network.threshold))
        above.set_title(base.label(tables, network, chosen))
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


def _unconverged(
    axes: Axes, tables: base.Tables, network: base.Network, hessian: pd.DataFrame, strong: int
) -> Line2D | None:
    """Crosses on the eigenvalues of the strong seed that did not reach the solver's tolerance."""
    converged = base.curves(tables, network, "hessian_converged").get(strong)
    if converged is None:
        return None
    doubtful = hessian[strong][converged.reindex(hessian.index) == 0]
    if doubtful.empty:
        return None
    crosses = {"color": style.BLACK, "markersize": 5, "label": "not converged", "zorder": 5}
    return axes.plot(doubtful.index, doubtful, "x", **crosses)[0]


def caption(tables: base.Tables) -> str:
    """What is drawn, at which steps the ratio is taken, what did not converge, and the scale."""
    values = [base.curves(tables, n, "hessian_converged") for n in base.networks(tables, HESSIAN)]
    total = sum(int(frame.count().sum()) for frame in values)
    failed = sum(int((frame == 0).sum().sum()) for frame in values)
    solver = ""
    if total:
        solver = f"{total - failed:,} of {total:,} eigenvalues of the Hessian converged"
        solver += "; crosses mark those of the strong line that did not." if failed else "."
    return base.join(
        "Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) (full) and the largest eigenvalue "
        f"{TOP} of the Hessian of the loss (short dashes), with the stability threshold 2/η (long "
        "dashes). Below: their ratio, at the steps at which both were recorded and "
        f"{TOP} > 0. "
        "Dotted vertical line: first step at which the loss is at most half of its initial value.",
        solver,
        base.seeds_sentence(tables, HESSIAN),
        base.cut_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "Λ", HESSIAN: TOP}),
        base.scale_sentence(tables),
    )
