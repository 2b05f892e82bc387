"""The Gauss-Newton sharpness against the top eigenvalue of the Hessian along training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, ensemble, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network

from ..claims.eigenvectors import surrogate_factor

TITLE = "Gauss-Newton sharpness and the Hessian's top eigenvalue"
READS = ("gauss_newton_sharpness", "hessian_sharpness")

HESSIAN = "hessian_sharpness"
TOP = "λₘₐₓ"
FACTOR = surrogate_factor.band[1]
"""By which the two may differ, either way."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Both eigenvalues above, their ratio below; one stack of panels a network."""
    chosen = results.networks(tables, *READS)
    unit = edge.unit(chosen)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 2.2))
    handles: list[Artist | None] = []
    drawn = []
    ratios = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        surrogate = unit.curves(tables, network)
        hessian = unit.curves(tables, network, HESSIAN)
        strong = results.strong_seed(tables, network, HESSIAN)
        ratio = surrogate / hessian.where(hessian > 0)
        handles += [
            edge.draw_sharpness(above, surrogate, strong, style.SKY, label="Gauss-Newton Λ"),
            style.draw_apart(above, hessian, strong, style.VERMILION, "o", f"Hessian {TOP}"),
            unit.draw_threshold(above, tables, network, strong),
            style.draw_apart(below, ratio, strong, style.BLUE, "s", f"Λ / {TOP}"),
        ]
        below.axhline(1.0, color=style.BLACK, linewidth=0.8, zorder=1)
        words = f"within a factor of {FACTOR:g}"
        look = {"color": style.GREY, "alpha": 0.16, "linewidth": 0, "zorder": 0}
        handles.append(below.axhspan(1 / FACTOR, FACTOR, label=words, **look))
        both = pd.concat([surrogate, hessian])
        drawn.append((both, unit.threshold(tables, network, strong)))
        ratios.append(ratio)
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(-0.015 * both.index.max(), 1.015 * both.index.max()))
    unit.limit([above for above, _ in stacks], *zip(*drawn, strict=True))
    lowest = min(0.0, *(float(both.min().min()) for both, _ in drawn))
    for above, below in stacks:
        above.set_ylim(bottom=lowest)
        below.set_ylim(ratio_limits(pd.concat(ratios)))
    style.label_rows(stacks, unit.label("curvature "), f"Λ / {TOP}")
    style.legend_below(figure, handles)
    return figure


def ratio_limits(ratio: pd.DataFrame) -> tuple[float, float]:
    """Limits of the ratio's axis: its range with the claim's band in it, within [0, 3]."""
    values = [1 / FACTOR, FACTOR, *ensemble.finite(ratio.to_numpy().flat)]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low)
    return max(low - margin, 0.0), min(high + margin, 3.0)


def alt(tables: results.Tables) -> str:
    """What is seen, and how far the two are apart."""
    chosen = results.networks(tables, *READS)
    ratios = [_spread(tables, network) for network in chosen]
    known = [pair for pair in ratios if np.isfinite(pair[0])]
    apart = (
        f" The ratio of the two is {min(low for low, _ in known):.2f} to "
        f"{max(high for _, high in known):.2f}."
        if known
        else ""
    )
    return (
        f"{len(chosen)} panels, one a network. Above, the Gauss-Newton sharpness as a line and the "
        "Hessian's top eigenvalue as points on it, against a dashed line at the threshold; below, "
        "their ratio as points about a line at one, in a grey band for a factor of "
        f"{FACTOR:g}.{apart}"
    )


def _spread(tables: results.Tables, network: results.Network) -> tuple[float, float]:
    """Least and largest ratio of the two over all seeds."""
    hessian = results.curves(tables, network, HESSIAN)
    ratio = results.curves(tables, network, SHARPNESS) / hessian.where(hessian > 0)
    values = ensemble.finite(ratio.to_numpy().flat)
    return (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The range of the ratio, and how many eigenvalues converged."""
    members = runs_by_network(tables, *READS)

    def spread(network: results.Network) -> str:
        low, high = _spread(tables, network)
        return f"{low:.3f} to {high:.3f}" if np.isfinite(low) else ""

    return base.numbers_table(
        tables,
        list(members),
        {
            "2/η": lambda n: base.number(n.threshold),
            f"Λ / {TOP}": spread,
            f"converged {TOP}": lambda n: _converged(members[n], HESSIAN),
            "converged Λ": lambda n: _converged(members[n], SHARPNESS),
        },
    )


def _converged(runs: Sequence[Run], quantity: str) -> str:
    """How many eigenvalues reached the solver's tolerance; the others are not drawn."""
    counts = [run.unconverged(quantity) for run in runs]
    failed, total = sum(count for count, _ in counts), sum(count for _, count in counts)
    return f"{total - failed:,} of {total:,}" if total else ""


def caption(tables: results.Tables) -> str:
    """What is drawn, at which steps the ratio is taken, and the scale."""
    chosen = results.networks(tables, *READS)
    return base.join(
        f"Above: Gauss-Newton sharpness Λ = (2/n) λ_max(J Jᵀ) and, as points, the largest "
        f"eigenvalue {TOP} of the Hessian, in units of {base.symbols(chosen)} (dashed). Below: "
        f"their ratio where both were recorded and {TOP} > 0; grey: within a factor of {FACTOR:g}, "
        f"which `{surrogate_factor.name}` asks of 95 % of the states.",
        edge.means_sentence(results.curves(tables, n, SHARPNESS) for n in chosen),
        base.seeds_sentence(tables, HESSIAN),
        base.stride_sentence(tables, {HESSIAN: TOP}),
        base.scale_sentence(tables),
    )
