"""What the data's covariance decides: the ratio of the norms, and sharpening or flattening."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.noise import end_over_start, norm_ratio
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import slope

from ..claims.data_covariance import data_norm_ratio, sharpening_absent

TITLE = "The data's covariance sets the norm ratio, and sharpens or flattens"
READS = ("hessian_trace",)
FLOW, FLOW_LABEL = "hessian_trace_flow", "Noether flow"
DRAWS = (FLOW, "hessian_trace_predicted", "norm_ratio_predicted", "norm_squared")

SWEEPS = {
    (True, False): ("SGD", style.BLUE, "o", True),
    (True, True): ("SGD, weight decay", style.GREEN, "^", True),
    (False, False): ("GD", style.VERMILION, "s", False),
    (False, True): ("GD, weight decay", style.ORANGE, "D", False),
}
"""By whether batches are drawn, and whether weights decay."""
TRACE_COLOURS = (style.BLUE, style.SKY, style.GREEN, style.ORANGE, style.VERMILION)
TRACE_LINES = ("-", (0, (6, 1.5)), (0, (4, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))

Place = tuple[float, results.Network]
Members = dict[results.Network, list[Run]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Norm ratio and Tr H over the input variances; Tr H from a balanced start, in time and end.

    Raises:
        ValueError: there is no network to draw.
    """
    runs = runs_by_network(tables, *READS)
    panels = []
    if swept(tables):
        panels += [_draw_ratio, _draw_flattening]
    if sharpening(tables):
        panels += [_draw_traces, _draw_direction]
    if not panels:
        raise ValueError(f"tables hold no quantity {READS[0]!r} of a two-layer linear network")
    figure, stacks = style.panel_grid(len(panels), (4.6,), columns=2, width=4.6)
    handles = [
        h
        for draw_panel, (axes,) in zip(panels, stacks, strict=True)
        for h in draw_panel(axes, tables, runs)
    ]
    style.legend_below(figure, handles)
    return figure


def _deviations(value: Any, size: int) -> np.ndarray:
    """Standard deviations as the data have them, of one number, a list, or `first` to `last`."""
    if isinstance(value, dict):
        return np.linspace(value["first"], value["last"], size)
    return np.broadcast_to(np.asarray(1.0 if value is None else value, float), size)


def first_variance(network: results.Network) -> float:
    """φ, the variance of the first input."""
    return round(float(_deviations(network.setting("data.input_std"), _size(network))[0] ** 2), 4)


def noise_power(network: results.Network) -> float:
    """The k of label noise whose std is in proportion to the k-th power of the inputs' std.

    NaN where there is none: as many outputs as inputs, and inputs that differ, are needed.
    """
    sizes = {_size(network), network.setting("data.outputs")}
    stds = [
        _deviations(network.setting(f"data.{k}_std"), _size(network)) for k in ("input", "noise")
    ]
    if len(sizes) > 1 or not np.all(np.concatenate(stds) > 0):
        return float("nan")
    return round(slope(*np.log(stds)), 3)


def _size(network: results.Network) -> int:
    return network.setting("data.inputs") or 1


def _balanced(network: results.Network) -> bool:
    return network.setting("model.initialisation.kind") == "balanced"


def _kind(network: results.Network) -> tuple[bool, bool]:
    return bool(network.batch), bool(network.setting("training.weight_decay"))


def swept(tables: results.Tables) -> list[Place]:
    """Networks from a random start with their φ, in its order."""
    found = [n for n in results.networks(tables, *READS, "norm_squared") if not _balanced(n)]
    return sorted(((first_variance(n), n) for n in found), key=lambda place: place[0])


def sharpening(tables: results.Tables) -> list[Place]:
    """Networks from a balanced start at the largest learning rate with their k, in its order."""
    balanced = [n for n in results.networks(tables, *READS) if _balanced(n)]
    fastest = max((n.learning_rate for n in balanced), default=0.0)
    found = [(noise_power(n), n) for n in balanced if n.learning_rate == fastest]
    return sorted((place for place in found if place[0] == place[0]), key=lambda place: place[0])


def _under(places: list[Place], *kinds: tuple[bool, bool]) -> list[Place]:
    return [(value, network) for value, network in places if _kind(network) in kinds]


def _draw_ends(
    axes: Axes,
    places: list[Place],
    runs: Members,
    value: Callable[[Run], float],
    confidence: float,
    spread: float,
) -> list[Artist | None]:
    """A number a run at its φ or k, a look a kind of training."""
    handles = []
    for kind, (label, colour, marker, filled) in SWEEPS.items():
        for x, network in _under(places, kind):
            values = [value(run) for run in runs[network]]
            handles.append(
                ensemble.draw_points(
                    axes, x, values, confidence, colour, marker, label, spread, filled
                )
            )
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def trace_change(run: Run) -> float:
    """Tr H over the end of training over its start; inf for a diverged run."""
    return end_over_start(run, "hessian_trace")


def _draw_ratio(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    places = swept(tables)
    handles = _draw_ends(axes, places, runs, norm_ratio, base.confidence(tables), 0.035)
    for kind in ((True, False), (True, True)):
        points = [
            (phi, ensemble.constant(tables, network, "norm_ratio_predicted"))
            for phi, network in _under(places, kind)
        ]
        handles += _draw_predictions(axes, points)
    axes.set(xlabel="φ: half the inputs have variance φ, half 2 − φ", ylabel="‖U‖² / ‖W‖²")
    axes.set_title("norm ratio at the end of training")
    return handles


def _draw_predictions(axes: Axes, points: list[tuple[float, float]]) -> Sequence[Artist]:
    known = [point for point in points if np.isfinite(point[1])]
    if not known:
        return []
    look = {"color": style.BLACK, "markersize": 17, "markeredgewidth": 1.3, "zorder": 4.5}
    x, y = zip(*known, strict=True)
    return axes.plot(x, y, "_", linestyle="none", label="closed form", **look)


def _draw_flattening(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    confidence = base.confidence(tables)
    handles = _draw_ends(axes, swept(tables), runs, trace_change, confidence, 0.035)
    axes.set(xlabel="φ: half the inputs have variance φ, half 2 − φ", ylabel="Tr H, end / start")
    axes.set_ylim(0, None)
    axes.set_title("Tr H from a random start")
    return handles


def _draw_traces(axes: Axes, tables: results.Tables, _: Members) -> list[Artist]:
    handles: list[Artist] = []
    flows: list[Artist] = []
    for place, (k, network) in enumerate(_under(sharpening(tables), (True, False))):
        frame = results.curves(tables, network, "hessian_trace")
        change = frame / frame.iloc[0]
        colour = TRACE_COLOURS[place % len(TRACE_COLOURS)]
        linestyle = TRACE_LINES[place % len(TRACE_LINES)]
        handles.append(ensemble.draw_band(axes, change, colour, linestyle, f"SGD, k = {k:g}"))
        end = _predicted_change(tables, network)
        axes.plot(change.index[-1] * 1.02, end, "<", color=colour, markersize=6, clip_on=False)
        flow = results.curves(tables, network, FLOW)
        if not flow.empty:
            look = {"color": style.BLACK, "linestyle": (0, (1, 1.5)), "linewidth": 0.9}
            (line,) = axes.plot(flow.mean(axis=1) / flow.iloc[0].mean(), label=FLOW_LABEL, **look)
            flows = [line]
    handles += flows
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="step", ylabel="Tr H / start")
    axes.set_title("Tr H from a balanced start, noise std ∝ (input std)ᵏ")
    return handles


def _predicted_change(tables: results.Tables, network: results.Network) -> float:
    """Tr H of the closed form over that of the start."""
    start = results.curves(tables, network, "hessian_trace").iloc[0].mean()
    return ensemble.constant(tables, network, "hessian_trace_predicted") / start


def _draw_direction(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    places = sharpening(tables)
    handles = _draw_ends(axes, places, runs, trace_change, base.confidence(tables), 0.05)
    points = [(k, _predicted_change(tables, n)) for k, n in _under(places, (True, False))]
    handles += _draw_predictions(axes, points)
    axes.set(xlabel="k: noise std ∝ (input std)ᵏ", ylabel="Tr H, end / start")
    axes.set_title("Tr H from a balanced start, at the end")
    return handles


def caption(tables: results.Tables) -> str:
    """What is drawn, what decides the direction of Tr H, and the scale."""
    runs = runs_by_network(tables, *READS)
    return base.join(
        _ratios(tables, runs),
        _directions(tables, runs),
        _start(tables, runs),
        "Tr H is the measure: the largest eigenvalue may move the other way by a few per cent.",
        base.points_sentence(tables),
        ensemble.diverged_sentence(tables),
        ensemble.scale_sentence(tables),
    )


def _ratios(tables: results.Tables, runs: Members) -> str:
    """The sentences on the norm ratio."""
    places = swept(tables)
    if not places:
        return ""
    decay = [value for value in results.settings_of(tables, "training.weight_decay") if value]
    predicted = set(results.networks(tables, "norm_ratio_predicted"))
    over = ensemble.finite(
        ensemble.mean(data_norm_ratio.statistic(run) for run in runs[network])
        for _, network in _under(places, (True, False), (True, True))
        if network in predicted
    )
    agreement = f"{over.min():.3f} to {over.max():.3f}" if over.size else "an unknown multiple"
    return (
        "Above, left: ‖U‖²/‖W‖² at the end against the split of the input variances, with "
        "isotropic label noise and teacher I. In the closed form (dashes) the norms balance "
        f"only where the data are isotropic; SGD is at {agreement} of it. GD keeps "
        "‖U‖² − ‖W‖² of its start whatever φ"
        + (f"; weight decay (γ = {base.several(decay)}) balances the norms." if decay else ".")
    )


def _directions(tables: results.Tables, runs: Members) -> str:
    """The sentences on Tr H from a balanced start; what sharpens is said as the claims have it."""
    ends = {
        k: (ensemble.mean(trace_change(run) for run in runs[n]), _predicted_change(tables, n))
        for k, n in _under(sharpening(tables), (True, False))
    }
    if not ends:
        return ""
    low, high = sharpening_absent.band
    risen = [f"k = {k:g}" for k, (end, _) in ends.items() if end > high]
    fallen = [f"k = {k:g}" for k, (end, _) in ends.items() if end < low]
    listed = "; ".join(f"{k:g}: {end:.3f} ({exact:.3f})" for k, (end, exact) in ends.items())
    return base.join(
        ("Below: " if swept(tables) else "")
        + "Tr H from an exactly balanced start that fits the teacher, with noise std in "
        "proportion to (input std)ᵏ; dotted: the Noether flow, the limit of small η; arrowheads "
        "and dashes: the closed form at equilibrium. "
        f"Mean Tr H at the end over the start, by k (closed form): {listed}.",
        f"SGD sharpens at {base.several(risen)}" if risen else "SGD sharpens nowhere",
        f"and flattens at {base.several(fallen)}:" if fallen else "and flattens nowhere:",
        "isotropic label noise (k = 0) does not sharpen, for that the noise has to be larger "
        "where the signal is larger. Where an end is short of the closed form, the quietest "
        "directions have not settled: they are the slowest. Terms of order η keep SGD from the "
        "flow, and lower Tr H by about 2 % where no change is predicted (k = 1).",
    )


def _start(tables: results.Tables, runs: Members) -> str:
    """The sentence on Tr H from a random start."""
    away = ensemble.finite(
        ensemble.mean(trace_change(run) for run in runs[network])
        for _, network in _under(swept(tables), (True, False))
    )
    if not away.size:
        return ""
    return (
        "The direction depends on the start as well: from a random one (above, right) the "
        f"same isotropic noise takes Tr H to {away.min():.2f} to {away.max():.2f} of its start."
    )
