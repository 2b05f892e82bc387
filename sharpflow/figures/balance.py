"""The balance of a model's symmetries, unit by unit."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sharpflow.figures import style
from sharpflow.symmetry import AdamBalance, NoiseBalance


@style.house
def balance_figure(balance: NoiseBalance | AdamBalance) -> Figure:
    """Noise of the outgoing against that of the incoming weights of each unit, on one log scale.

    On the diagonal a unit is in equilibrium. Above it noise pushes its charge up, below it down. Of
    a rotation the diagonals of the Grams are drawn. Scales have no incoming side and are left out,
    as are units without noise on a side; the figure says how many.

    Args:
        balance: from `noise_balance` or `adam_balance`.

    Raises:
        ValueError: no unit has noise on both sides.
    """
    points, left_out = [], 0
    for noise in balance.symmetries:
        outer, inner = (
            (gram.diagonal() if gram.ndim == 2 else gram).numpy()
            for gram in (noise.outer, noise.inner)
        )
        kept = (outer > 0) & (inner > 0)
        left_out += int((~kept).sum())
        if kept.any():
            points.append((noise.symmetry.name, inner[kept], outer[kept]))
    if not points:
        raise ValueError("no unit has noise on both sides, so that there is nothing to draw.")
    width = max(4.6, 0.6 + 0.056 * max(len(name) for name, _, _ in points))
    figure = Figure(figsize=(width, 4.7 + 0.16 * len(points)), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, inner, outer) in enumerate(points):
        axes.plot(
            inner,
            outer,
            linestyle="none",
            marker=style.MARKERS[(place + place // 7) % 7],
            color=style.PALETTE[place % 7],
            markersize=4,
            markeredgewidth=0,
            alpha=0.75,
            label=name,
        )
    every = np.concatenate([side for _, *sides in points for side in sides])
    limits = (every.min() / 1.6, every.max() * 1.6)
    axes.axline((1, 1), (10, 10), color=style.GREY, linewidth=0.9, zorder=1)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, numticks=6))
    axes.set_box_aspect(1)
    what = "Σ√v̂" if isinstance(balance, AdamBalance) else "gradient noise"
    axes.set_xlabel(f"{what} of incoming weights")
    axes.set_ylabel(f"{what} of outgoing weights")
    axes.set_title(balance.title, fontsize=8.5)
    axes.annotate(
        "equilibrium",
        (0.97, 0.97),
        xycoords="axes fraction",
        xytext=(-4, -10),
        textcoords="offset points",
        rotation=45,
        rotation_mode="anchor",
        ha="right",
        va="top",
        fontsize=7.5,
        color=style.GREY,
    )
    if left_out:
        style.note(axes, f"{left_out} units without noise on a side are left out", low=True)
    figure.legend(loc="outside lower left", fontsize=7, handletextpad=0.3)
    return figure
