"""Growth of weights before norms against what the noise of their gradients predicts."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.charges import later
from sharpflow.results.rates import accumulated
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.results.units import unit_curves

from ..claims.drift import evaluation_mode, growth

TITLE = "Weights before norms grow as the noise of their gradients says"
READS = ("symmetry_charge", "symmetry_charge_predicted")
DRAWS = ("symmetry_noise_outer", "evaluated_growth")
EVALUATED = "evaluated_growth"


def grown(run: Run, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps after the first tenth, and what the units' sum has grown by since."""
    steps, values = unit_curves(run, quantity)
    kept = later(steps)
    whole = values[kept].sum(axis=1)
    return steps[kept], whole - whole[0]


def was_evaluated(run: Run) -> bool:
    """Whether single samples in evaluation mode were measured."""
    return EVALUATED in run.known and bool(run.indices(EVALUATED))


def evaluated(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The same, of what single samples in evaluation mode predict."""
    steps, values = unit_curves(run, EVALUATED)
    kept = later(steps)
    added = accumulated(steps[kept], values[kept]).sum(axis=1)
    return steps[kept], np.concatenate([[0.0], np.cumsum(added)])


@style.house
def draw(tables: results.Tables) -> Figure:
    """Growth of ‖w‖² in time, measured and predicted; a panel a network."""
    found = runs_by_network(tables, *READS)
    figure, stacks = style.panel_grid(len(found), heights=(4.4,), width=4.2)
    handles: list[Artist | None] = []
    for (network, runs), (axes,) in zip(found.items(), stacks, strict=True):
        measured = ensemble.by_seed(runs, lambda run: grown(run, READS[0]))
        handles.append(ensemble.draw_band(axes, measured, style.BLUE, "-", "measured"))
        predicted = ensemble.by_seed(runs, lambda run: grown(run, READS[1])).mean(axis=1)
        label = "predicted by gradients as trained on"
        handles += axes.plot(predicted.index, predicted, label=label, **ensemble.PREDICTION)
        if was_evaluated(runs[0]):
            other = ensemble.by_seed(runs, evaluated).mean(axis=1)
            label = "predicted by single samples in evaluation mode"
            dashes = (0, (5, 1, 1, 1))
            handles += axes.plot(
                other.index, other, color=style.VERMILION, linestyle=dashes, label=label
            )
        axes.set_title(base.case(network, list(found)))
        axes.set(xlabel="step", xlim=(0, None), ylim=(0, None))
    style.label_rows(stacks, "growth of ‖w‖²")
    style.legend_below(figure, handles)
    return figure


def _said(values: list[float], tables: results.Tables) -> str:
    return ensemble.interval_text(values, base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the ratios."""
    found = runs_by_network(tables, *READS)
    said = (
        f"{base.case(n, list(found))} {_said([growth(r) for r in runs], tables)}"
        for n, runs in found.items()
    )
    return (
        "The growth of squared norms in time, a panel a network, with a dotted line of the "
        f"prediction beside it. Measured over predicted: {'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Measured over predicted growth, of both predictions."""
    found = runs_by_network(tables, *READS)

    def foil(network: results.Network) -> str:
        runs = found[network]
        if not was_evaluated(runs[0]):
            return ""
        return _said([evaluation_mode(run) for run in runs], tables)

    columns = {
        "growth / predicted": lambda n: _said([growth(run) for run in found[n]], tables),
        "growth / predicted in evaluation mode": foil,
    }
    return base.numbers_table(tables, list(found), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Growth of ‖w‖² of both hidden layers after the first tenth of the run. Dotted: the sum of "
        "η²(Tr Σ/S + ‖∇L‖²), of single samples with group norms and of whole batches with batch "
        "norms, mean over seeds. Dash-dotted: the same of single samples in evaluation mode, whose "
        "gradients are those of another function.",
        ensemble.BAND,
        base.scale_sentence(tables),
    )
