"""The cycle of the sharpness after a kick: measured, predicted, and with frozen coefficients."""

import numpy as np
from matplotlib.figure import Figure

from sharpflow.figures import base, style
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network

from ..claims.cycle import SPAN, cycle, cycle_error

TITLE = "One cycle of self-stabilisation"
READS = ("hessian_sharpness",)
BESIDE = {
    "kicked": ("hessian_sharpness", "since_crossing"),
    "coupled": ("predicted_sharpness",),
    "frozen": ("predicted_sharpness",),
}
SHOWN = 6
"""Seeds that have a panel each."""
LOOKS = {
    "coupled": ("predicted along the central flow", style.BLUE, (0, (5, 1))),
    "frozen": ("predicted with frozen coefficients", style.VERMILION, (0, (3, 1, 1, 1))),
}


@style.house
def draw(tables: results.Tables) -> Figure:
    """A panel a seed: the excess of the sharpness over 2/η against the steps since the crossing."""
    members = [(n, run) for n, runs in runs_by_network(tables, *READS).items() for run in runs]
    crossed = [(n, run) for n, run in members if cycle(run, "coupled")[0].size][:SHOWN]
    figure, stacks = style.panel_grid(len(crossed), heights=(3.0,))
    handles = []
    for (network, run), (axes,) in zip(crossed, stacks, strict=True):
        passed, measured, _ = cycle(run, "coupled")
        handles += axes.plot(
            passed, measured, "o", color=style.GREY, markersize=3, label="measured after a kick"
        )
        for process, (label, colour, dashes) in LOOKS.items():
            steps, _, predicted = cycle(run, process)
            handles += axes.plot(steps, predicted, color=colour, linestyle=dashes, label=label)
        handles.append(style.draw_threshold(axes, 0.0, "2/η"))
        axes.set_title(f"{base.label(network, [n for n, _ in crossed])}, seed {run.seed}")
        axes.set(xlabel="steps since the crossing", xlim=(0, SPAN))
    style.common_limits([axes for (axes,) in stacks])
    style.label_rows(stacks, "excess of Sη/2 over 1")
    style.legend_below(figure, handles)
    return figure


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "A panel a seed. The measured sharpness rises above 2/η, falls below it and comes back; "
        "the prediction along the central flow goes with it, and the one with frozen coefficients "
        "swings further and further away."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Errors and peaks, as means over seeds."""
    members = runs_by_network(tables, *READS)

    def error(network: results.Network, process: str) -> str:
        values = [cycle_error(run, process) for run in members[network]]
        known = [value for value in map(float, values) if np.isfinite(value)]
        return f"{np.mean(known):.2f}" if known else ""

    def peak(network: results.Network) -> str:
        pairs = [cycle(run, "coupled")[1:] for run in members[network]]
        ratios = [p.max() / m.max() for m, p in pairs if m.size and np.isfinite(p).all()]
        return f"{np.mean(ratios):.2f}" if ratios else ""

    return base.numbers_table(
        tables,
        list(members),
        {
            "2/η": lambda n: base.number(n.threshold),
            "error over peak": lambda n: error(n, "coupled"),
            "the same, frozen": lambda n: error(n, "frozen"),
            "peak, predicted over measured": peak,
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Largest eigenvalue S of the Hessian at (w₋ + 2w + w₊)/4 of gradient descent that was "
        "displaced by δ/2 along the unstable direction when S came to 2/η, and two predictions "
        "of it.",
        base.scale_sentence(tables),
    )
