"""Preconditioned sharpness over the threshold of each optimiser, and below it the sharpness."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, style
from sharpflow.results import tables as results

from ._names import named

TITLE = "The preconditioned sharpness at the threshold of each optimiser"
READS = ("preconditioned_sharpness",)
DRAWS = ("hessian_sharpness",)

(PRECONDITIONED,) = READS
(RAW,) = DRAWS
LEAST_TOP = 1.5


def relative(tables: results.Tables, network: results.Network) -> pd.DataFrame:
    """The preconditioned sharpness over the threshold of the same step."""
    return results.relative(tables, network, PRECONDITIONED)


def raw(tables: results.Tables, network: results.Network) -> pd.DataFrame:
    """λ₁(H) over 2/η."""
    return results.curves(tables, network, RAW) * (network.learning_rate / 2)


@style.house
def draw(tables: results.Tables) -> Figure:
    """Above λ₁(P⁻¹H) over the threshold, below λ₁(H) over 2/η; a stack a case."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.6, 1.9))
    handles, lowest, highest = [], [], []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        strong = results.strong_seed(tables, network, PRECONDITIONED)
        ratio, contrast = relative(tables, network), raw(tables, network)
        name = "λ₁(P⁻¹H) over the threshold"
        handles.append(edge.draw_sharpness(above, ratio, strong, style.BLUE, label=name))
        handles.append(style.draw_threshold(above, 1.0, "the optimiser's threshold"))
        top = max(style.sharpness_top(ratio, 1.0), LEAST_TOP)
        above.set_ylim(0, top)
        if ratio.max().max() > top:
            style.note(above, f"cut at {top:.2g} × the threshold")
        if not contrast.empty:
            handles.append(
                style.draw_seeds(below, contrast, strong, style.VERMILION, label="λ₁(H) over 2/η")
            )
            shown = style.positive(contrast).to_numpy()
            lowest.append(np.nanmin(shown))
            highest.append(np.nanmax(shown))
        handles.append(below.axhline(1.0, color=style.GREY, linewidth=0.8, zorder=1, label="2/η"))
        above.set_title(named(network, chosen))
        below.set(xlabel="step", yscale="log", xlim=(0, float(ratio.index.max())))
    for _, below in stacks:
        below.set_ylim(min(lowest, default=0.1) / 1.5, max([*highest, 1.0]) * 1.5)
    style.common_limits([above for above, _ in stacks])
    style.label_rows(stacks, "over the threshold", "λ₁(H)η/2")
    style.legend_below(figure, handles)
    return figure


def alt(tables: results.Tables) -> str:
    """What is seen."""
    chosen = results.networks(tables, *READS)
    count = "1 panel" if len(chosen) == 1 else f"{len(chosen)} panels"
    return (
        f"{count}, one an optimiser: above, the preconditioned sharpness rises to one, its "
        "threshold; below, on a logarithmic axis, the sharpness itself over 2/η, which for "
        "adaptive methods is far from one."
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    chosen = results.networks(tables, *READS)
    return base.join(
        "Above: largest eigenvalue of P⁻¹H, the Hessian in the optimiser's metric P, from the "
        "optimiser's state (the identity with plain momentum), over the optimiser's threshold "
        f"{base.symbols(chosen)}. Below: largest eigenvalue of the Hessian itself over 2/η.",
        edge.means_sentence(relative(tables, n) for n in chosen),
        base.seeds_sentence(tables, PRECONDITIONED),
        base.stride_sentence(tables, {RAW: "λ₁(H)"}),
        base.scale_sentence(tables),
    )
