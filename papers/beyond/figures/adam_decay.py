"""Charges of hidden units under weight decay against what the noise in Adam's state predicts."""

import numpy as np
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.results.units import late_means

from ..claims.adam_decay import held_charge, of_adamw, of_gradient_decay, of_sgd

TITLE = "Where weight decay holds the charges of Adam"
READS = (
    "adam_charge",
    "adam_plain_charge",
    "adam_outer",
    "adam_inner",
    "symmetry_charge",
    "symmetry_noise_outer",
    "symmetry_noise_inner",
)
NAMES = {
    "adamw": "AdamW",
    "adamw_less_decay": "AdamW, half of γ",
    "adamw_no_momentum": "AdamW, β₁ = 0",
    "forgetful": "AdamW, β₂ = 0.9",
    "gradient_decay": "Adam, decay in the gradient",
}


def units(run: Run, decoupled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured charge of every unit, by the law of the run's own decay."""
    charge = "adam_charge" if decoupled else "adam_plain_charge"
    return held_charge(run), late_means(run, charge)


@style.house
def draw(tables: results.Tables) -> Figure:
    """A point a unit, and the line on which prediction and measurement agree; a panel a case."""
    found = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(len(found), heights=(4.4,))
    for (network, runs), (axes,) in zip(found.items(), stacks, strict=True):
        decoupled = network.setting("optimiser.kind") == "adamw"
        for place, run in enumerate(runs):
            axes.plot(
                *units(run, decoupled),
                style.MARKERS[place % len(style.MARKERS)],
                color=style.PALETTE[place % len(style.PALETTE)],
                markersize=4,
                fillstyle="none",
            )
        axes.axline((0, 0), slope=1, color=style.GREY, linestyle=(0, (5, 2)), linewidth=1.0)
        symbol = "Σ√vθ²" if decoupled else "Σθ²"
        axes.set(xlabel="predicted η(ΔΣ√v)/(2γ)", ylabel=f"charge {symbol}, outer − inner")
        axes.set_title(NAMES.get(network.case, base.case(network, list(found))))
    return figure


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Slopes of all three laws on every case."""
    columns = {
        "slope of Σ√vθ² (AdamW's law)": of_adamw,
        "slope of Σθ² (decay in the gradient)": of_gradient_decay,
        "slope of SGD's law": of_sgd,
    }
    return ensemble.numbers_of_runs(tables, READS, columns)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "A panel a setting, a mark a hidden unit: the measured charges lie along the dashed "
        "diagonal, but for a short memory of v, where they scatter far from it."
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "A mark a hidden unit, a colour a seed; means over the last half of each run. Dashed: "
        "prediction and measurement agree. With AdamW what is held is the charge in Adam's "
        "metric, with the decay in Adam's gradient the plain one.",
        ensemble.scale_sentence(tables),
    )
