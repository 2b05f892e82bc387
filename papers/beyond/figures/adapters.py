"""Low-rank adapters: what balances, from which start, on which way, and what decay holds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.charges import change, still
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.results.units import late_means

from ..claims.adapters import ADAPTERS, BALANCED, noise_gap, plain, root_gap, spectrum

TITLE = "Low-rank adapters: SGD balances the noise of B and A, and forgets how they started"
READS = (
    "symmetry_charge",
    "symmetry_group",
    "symmetry_noise_outer",
    "symmetry_noise_inner",
    "symmetry_root_outer",
    "symmetry_root_inner",
)
DRAWS = (
    "symmetry_charge_predicted",
    "symmetry_charge_share",
    "symmetry_gradient_outer",
    "symmetry_gradient_inner",
)
MARKS = {"first layer": "o", "last layer": "s"}
Found = Mapping[results.Network, Sequence[Run]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Imbalances at the end, charges in time, their changes, and charges under decay."""
    found = {n: [r for r in own if not r.diverged] for n, own in _runs(tables).items()}
    figure, stacks = style.panel_grid(4, (4.0,), columns=2, width=4.6)
    axes = [stack[0] for stack in stacks]
    plain_runs = {n: own for n, own in found.items() if not _decay(n)}
    style.legend_in(axes[0], _draw_balance(axes[0], plain_runs))
    axes[0].set_title("what is balanced at the end")
    style.legend_in(axes[1], _draw_charges(axes[1], _fast(plain_runs)))
    axes[1].set_title("charge of the last layer's adapter")
    slow = {n: own for n, own in plain_runs.items() if _slow(n, plain_runs)}
    style.legend_in(axes[2], _draw_pairs(axes[2], slow, _changes))
    axes[2].set(xlabel="change that the noise predicts", ylabel="change of a charge")
    axes[2].set_title("on the way, at a tenth of η")
    held = {n: own for n, own in found.items() if _decay(n)}
    style.legend_in(axes[3], _draw_pairs(axes[3], held, _held))
    axes[3].set(xlabel="charge at which noise and decay cancel", ylabel="charge")
    axes[3].set_title("under weight decay")
    return figure


def _runs(tables: results.Tables) -> Found:
    return runs_by_network(tables, *READS)


def _decay(network: results.Network) -> float:
    return float(network.setting("training.weight_decay") or 0.0)


def _method(network: results.Network) -> str:
    kind = network.setting("optimiser.kind")
    return "Adam" if kind == "adam" else ensemble.method(network)


def _slow(network: results.Network, others: Found) -> bool:
    rates = [n.learning_rate for n in others if _method(n) == "SGD"]
    return _method(network) == "SGD" and network.learning_rate < max(rates)


def _fast(found: Found) -> Found:
    return {n: own for n, own in found.items() if not _slow(n, found)}


def _colour(network: results.Network) -> str:
    return {"SGD": style.BLUE, "GD": style.VERMILION, "Adam": style.PURPLE}[_method(network)]


def _start(network: results.Network) -> str:
    return f"{network.setting('model.zero') or 'B'} = 0"


def _draw_balance(axes: Axes, found: Found) -> list[Artist | None]:
    handles: dict[str, Artist] = {}
    shade = {"color": style.GREY, "alpha": 0.25, "linewidth": 0, "zorder": 0}
    axes.axvspan(0, BALANCED, **shade)
    axes.axhspan(0, BALANCED, **shade)
    for network, runs in _fast(found).items():
        for name, adapter in ADAPTERS.items():
            x = [root_gap(run, adapter) for run in runs]
            y = [noise_gap(run, adapter) for run in runs]
            label = f"{_method(network)}, {name}"
            look = {"color": _colour(network), "marker": MARKS[name], "s": 22, "linewidths": 0.8}
            face = "none" if network.setting("model.zero") == "A" else _colour(network)
            look |= {"facecolors": face, "edgecolors": look.pop("color")}
            marks = axes.scatter(x, y, label=label, zorder=3, **look)
            if label not in handles or face != "none":
                handles[label] = marks
    axes.set(
        xlabel="imbalance of the roots Σ√E[ĝ²]",
        ylabel="imbalance of the noise Grams",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    return list(handles.values())


def _trace(run: Run, quantity: str = "symmetry_charge") -> tuple[np.ndarray, np.ndarray]:
    steps, values = spectrum(run, ADAPTERS["last layer"], quantity)
    return steps, values.sum(axis=1)


def _draw_charges(axes: Axes, found: Found) -> list[Artist | None]:
    handles: list[Artist | None] = []
    for network, runs in found.items():
        if _method(network) == "Adam":
            continue
        dashes = "-" if _start(network) == "B = 0" else (0, (4, 1.5))
        frame = ensemble.by_seed(runs, _trace)
        label = f"SGD, {_start(network)}" if network.batch else "GD, from either start"
        handles.append(ensemble.draw_band(axes, frame, _colour(network), dashes, label))
    axes.set(xlabel="step", ylabel="|B|² − |A|²")
    return handles


def _changes(run: Run) -> tuple[np.ndarray, np.ndarray]:
    return change(run, "symmetry_charge_predicted"), change(run, "symmetry_charge")


def _held(run: Run) -> tuple[np.ndarray, np.ndarray]:
    return still(run), late_means(run, "symmetry_charge")


def _draw_pairs(
    axes: Axes, found: Found, pair: Callable[[Run], tuple[np.ndarray, np.ndarray]]
) -> list[Artist | None]:
    handles: list[Artist | None] = []
    ends: list[float] = []
    for network, runs in found.items():
        predicted, measured = (np.concatenate(v) for v in zip(*map(pair, runs), strict=True))
        filled = _start(network) == "B = 0"
        marks = axes.scatter(
            predicted,
            measured,
            s=12,
            marker="o" if filled else "^",
            color=_colour(network),
            alpha=0.5,
            linewidths=0,
            zorder=2,
            label=f"{_method(network)}, {_start(network)}",
        )
        handles.append(marks)
        ends += [predicted.min(), predicted.max()]
    if ends:
        line = np.array([min(ends), max(ends)])
        handles += axes.plot(line, line, label="as predicted", **ensemble.PREDICTION)
    axes.locator_params(axis="x", nbins=5)
    return handles


def _said(tables: results.Tables, found: Found, statistic: Callable, network) -> str:
    values = [statistic(run) for run in found[network] if not run.diverged]
    return ensemble.interval_text(values, base.confidence(tables)) if values else ""


def alt(tables: results.Tables) -> str:
    """What is seen; the imbalances stand in the table."""
    return (
        "Four panels. In the plane of two imbalances SGD lies at balanced noise and Adam at "
        "balanced roots. Charges of two starts come together under SGD and stay under GD. Measured "
        "changes of charges lie on the diagonal of the predicted ones, and so do charges under "
        f"weight decay with SGD. Drawn are {len(_runs(tables))} cases."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Imbalances of both adapters at the end, and of the weights."""
    found = _runs(tables)
    columns = {}
    for name, adapter in ADAPTERS.items():
        for word, gap in (("noise Grams", noise_gap), ("roots", root_gap)):
            statistic = partial(gap, adapter=adapter)
            columns[f"{name}: imbalance of {word}"] = partial(_said, tables, found, statistic)
    columns["of the weights, the smaller"] = partial(_said, tables, found, plain)
    return base.numbers_table(tables, list(found), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Adapters: imbalance of noise Grams and of roots between B and A (top left; open: A = 0 "
        "first; grey: balanced); the charge from two starts of one function (top right); entries "
        "of the charge matrices: change against summed drifts (bottom left), mean over the last "
        "half against noise and mean gradient over decay (bottom right).",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
