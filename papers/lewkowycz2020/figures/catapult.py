"""The loss and the curvature through a catapult (Lewkowycz et al., 2020)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "Loss and curvature below and above 2/λ₀"
READS = ("hessian_sharpness",)

SHARPNESS = "hessian_sharpness"
ROOM = 1.3
"""Factor by which a logarithmic axis goes beyond what it shows."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Loss over its initial value above, λ₁ over 2/η below; a stack of panels a network.

    All panels have the limits of the runs that came back; one that diverged leaves them.
    """
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.4, 2.4))
    handles = []
    losses, ratios = [], []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        strong = results.strong_seed(tables, network, SHARPNESS)
        loss = results.curves(tables, network, "loss")
        grown = style.positive(loss / loss.iloc[0])
        ratio = results.relative(tables, network, SHARPNESS)
        gone = results.diverged(tables, network)
        losses.append(grown.drop(columns=gone))
        ratios.append(ratio.drop(columns=gone, errors="ignore"))
        handles += [
            style.draw_seeds(above, grown, strong, style.VERMILION, label="loss / initial loss"),
            style.draw_seeds(below, ratio, strong, style.BLUE, label="λ₁ / (2/η)"),
            style.draw_threshold(above, 1.0, "initial loss; 2/η"),
            style.draw_threshold(below, 1.0, "initial loss; 2/η"),
        ]
        above.set_yscale("log")
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(0, float(loss.index.max())))
        if gone:
            style.note(above, "diverges")
    _limit([above for above, _ in stacks], losses, log=True)
    _limit([below for _, below in stacks], ratios, log=False)
    style.label_rows(stacks, "loss / initial", "λ₁ / (2/η)")
    style.legend_below(figure, handles)
    return figure


def _limit(panels: list[Axes], curves: list[pd.DataFrame], log: bool) -> None:
    """Give all panels the limits of the curves, which hold 1 and 2."""
    values = np.concatenate([frame.to_numpy(float).ravel() for frame in curves] + [[1.0, 2.0]])
    values = values[np.isfinite(values)]
    low, high = (values.min() / ROOM, values.max() * ROOM) if log else (0.0, 1.05 * values.max())
    for axes in panels:
        axes.set_ylim(low, high)
        if log:
            style.plain_log_ticks(axes)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    chosen = results.networks(tables, *READS)
    return (
        f"{len(chosen)} panels of curves, one a learning rate. Above, the loss: it falls from the "
        "start below 2/λ₀, and rises first above. Below, the largest Hessian eigenvalue over 2/η, "
        "which starts at ηλ₀/2."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Peak and end of the loss and the least curvature of each network, means over seeds."""

    def mean(network: results.Network, quantity: str, of: str) -> str:
        curves = results.curves(tables, network, quantity)
        curves = curves.drop(columns=results.diverged(tables, network), errors="ignore")
        last = {"peak": curves.max(), "least": curves.min(), "end": curves.ffill().iloc[-1]}[of]
        return base.number(float((last / curves.iloc[0]).mean()))

    return base.numbers_table(
        tables,
        results.networks(tables, *READS),
        {
            "peak loss / initial": lambda n: mean(n, "loss", "peak"),
            "least λ₁ / λ₀": lambda n: mean(n, SHARPNESS, "least"),
            "end loss / initial": lambda n: mean(n, "loss", "end"),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Above: the loss over its initial value. Below: the largest Hessian eigenvalue λ₁ over 2/η "
        "(dashed at 1): it starts at ηλ₀/2, which sets each run's learning rate, and training is "
        "stable below 1. The prediction: below ηλ₀/2 = 1 nothing grows; above, the loss grows "
        "until λ₁ has come below 2/η.",
        ensemble.diverged_sentence(tables),
        base.seeds_sentence(tables, SHARPNESS),
        base.stride_sentence(tables, {SHARPNESS: "λ₁"}),
        base.scale_sentence(tables),
    )
