"""How two halves of the units, moved apart along their orbits, come together under Adam."""

import numpy as np
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network

from ..claims.adam_relaxation import distance, predicted, rate_over, unit_rates, with_memory

TITLE = "The time to Adam's noise equilibrium"
READS = ("adam_plain_size", "adam_plain_charge", "adam_outer", "adam_inner", "adam_size")
NAMES = {
    "base": "η = 0.005, S = 16, β₂ = 0.99",
    "twice_the_rate": "twice the η",
    "batch_64": "S = 64",
    "no_momentum": "β₁ = 0",
    "long_memory": "twice the η, β₂ = 0.999",
}


@style.house
def draw(tables: results.Tables) -> Figure:
    """Distance over its start in time and its prediction; a panel a case."""
    found = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(len(found), heights=(3.4,))
    handles = []
    for (network, runs), (axes,) in zip(found.items(), stacks, strict=True):
        steps = distance(runs[0])[0]
        measured = np.array([distance(run)[1] for run in runs])
        axes.fill_between(
            steps, measured.min(0), measured.max(0), color=style.BLUE, alpha=0.2, linewidth=0
        )
        handles += axes.plot(steps, measured.mean(0), color=style.BLUE, label="measured")
        rates = np.concatenate([unit_rates(run) for run in runs])
        beta = network.setting("optimiser.beta2")
        for memory, colour, dashes, label in (
            (beta, style.VERMILION, (0, (5, 2)), "predicted"),
            (0.0, style.GREY, ":", "if v followed at once"),
        ):
            path = predicted(rates, memory, steps)
            handles += axes.plot(steps, path, color=colour, linestyle=dashes, label=label)
        axes.set(xlabel="step", yscale="log", ylim=(0.1, 1.1))
        style.plain_log_ticks(axes)
        axes.set_title(NAMES.get(network.case, base.case(network, list(found))))
    style.label_rows(stacks, "distance / its start")
    style.legend_below(figure, handles)
    return figure


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """The rate of approach over the predicted one."""
    columns = {"rate over predicted": lambda run: rate_over(run, with_memory(run))}
    return ensemble.numbers_of_runs(tables, READS, columns)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "A panel a setting: the distance falls along the dashed prediction; where v has a long "
        "memory the dotted line, without it, lies below."
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Distance along the symmetry's orbit, ¼ log(‖outer‖²/‖inner‖²), between two halves of the "
        "units that started apart, over the start. Prediction: each unit's 2Σ√vθ²/(η²Σ√v) steps, "
        "with the memory of v and without it.",
        "Line: mean over seeds; band: lowest to highest seed.",
        ensemble.scale_sentence(tables),
    )
