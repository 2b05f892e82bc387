"""What the data's covariance decides: the ratio of the norms, and sharpening or flattening."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.noise import end_over_start, norm_ratio
from sharpflow.results.runs import Run, runs_by_network
from sharpflow.statistics.intervals import slope

from ..claims.data_covariance import sharpening_absent

TITLE = "The data's covariance sets the norm ratio, and sharpens or flattens"
PUBLISHED = "Figure 3"
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

CLOSED = "closed form, t → ∞"

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
    for draw_panel, (axes,) in zip(panels, stacks, strict=True):
        style.legend_in(axes, draw_panel(axes, tables, runs))
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
            beside = x + _beside(kind, spread)
            handles.append(
                ensemble.draw_points(
                    axes, beside, values, confidence, colour, marker, label, 0.8 * spread, filled
                )
            )
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def _beside(kind: tuple[bool, bool], spread: float) -> float:
    """How far beside its φ or k a kind of training stands."""
    return list(SWEEPS).index(kind) * spread


def trace_change(run: Run) -> float:
    """Tr H over the end of training over its start; inf for a diverged run."""
    return end_over_start(run, "hessian_trace")


def _draw_ratio(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    places = swept(tables)
    handles = _draw_ends(axes, places, runs, norm_ratio, base.confidence(tables), 0.022)
    for kind in ((True, False), (True, True)):
        points = [
            (
                phi + _beside(kind, 0.022),
                ensemble.constant(tables, network, "norm_ratio_predicted"),
            )
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
    look = {"color": style.BLACK, "markersize": 10, "markeredgewidth": 1.3, "zorder": 4.5}
    x, y = zip(*known, strict=True)
    return axes.plot(x, y, "_", linestyle="none", label=CLOSED, **look)


def _draw_flattening(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    confidence = base.confidence(tables)
    handles = _draw_ends(axes, swept(tables), runs, trace_change, confidence, 0.022)
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
    ends = Line2D([], [], color=style.GREY, marker="<", linestyle="none", label=CLOSED)
    return [*handles, ends]


def _predicted_change(tables: results.Tables, network: results.Network) -> float:
    """Tr H of the closed form over that of the start."""
    start = results.curves(tables, network, "hessian_trace").iloc[0].mean()
    return ensemble.constant(tables, network, "hessian_trace_predicted") / start


def _flow_end(tables: results.Tables, network: results.Network) -> float:
    """Tr H of the Noether flow at the last step over its start; NaN if it was not followed."""
    flow = results.curves(tables, network, FLOW)
    return float((flow.iloc[-1] / flow.iloc[0]).mean()) if len(flow) else float("nan")


def _draw_direction(axes: Axes, tables: results.Tables, runs: Members) -> list[Artist | None]:
    places = sharpening(tables)
    handles = _draw_ends(axes, places, runs, trace_change, base.confidence(tables), 0.03)
    sgd = _under(places, (True, False))
    beside = _beside((True, False), 0.03)
    points = [(k + beside, _predicted_change(tables, n)) for k, n in sgd]
    handles += _draw_predictions(axes, points)
    flows = [(k + beside, _flow_end(tables, n)) for k, n in sgd]
    if known := [point for point in flows if np.isfinite(point[1])]:
        look = {"markersize": 9, "markeredgewidth": 1.3, "zorder": 4.4}
        x, y = zip(*known, strict=True)
        words = "Noether flow, last step"
        handles += axes.plot(x, y, "x", color=style.PURPLE, linestyle="none", label=words, **look)
    axes.set(xlabel="k: noise std ∝ (input std)ᵏ", ylabel="Tr H, end / start")
    axes.set_title("Tr H from a balanced start, over the last fifth")
    return handles


def _directions(tables: results.Tables) -> tuple[list[str], list[str]]:
    """The k at which SGD sharpens, and those at which it flattens, as the claims have it."""
    runs = runs_by_network(tables, *READS)
    ends = {
        k: ensemble.mean(trace_change(run) for run in runs[n])
        for k, n in _under(sharpening(tables), (True, False))
    }
    low, high = sharpening_absent.band
    risen = [f"k = {k:g}" for k, end in ends.items() if end > high]
    return risen, [f"k = {k:g}" for k, end in ends.items() if end < low]


def alt(tables: results.Tables) -> str:
    """What is seen, and which noise sharpens."""
    risen, fallen = _directions(tables)
    return (
        "Panels of points by the split of the input variances and by the power k of the noise, and "
        "one of curves over the steps, with the closed form as dashes and arrowheads. From a "
        f"balanced start the trace of the Hessian rises at {base.several(risen) or 'no k'} and "
        f"falls at {base.several(fallen) or 'no k'}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Ends of the norm ratio and of Tr H beside their closed forms."""
    runs = runs_by_network(tables, *READS)
    places = {network: f"φ = {base.number(phi)}" for phi, network in swept(tables)}
    balanced = {network: f"k = {k:g}" for k, network in sharpening(tables)}
    places |= balanced
    mean = ensemble.mean

    def known(value: float) -> str:
        return f"{value:.3f}" if np.isfinite(value) else ""

    def closed(network: results.Network) -> str:
        if network in balanced:
            return known(_predicted_change(tables, network))
        return ""

    columns = {
        "φ or k": lambda n: places[n],
        "weight decay": lambda n: base.number(n.setting("training.weight_decay") or np.nan),
        "‖U‖²/‖W‖²": lambda n: known(mean(map(norm_ratio, runs[n]))) if n not in flat else "",
        "closed": lambda n: known(ensemble.constant(tables, n, "norm_ratio_predicted")),
        "Tr H, end / start": lambda n: known(mean(map(trace_change, runs[n]))),
        "closed, t → ∞": closed,
        "Noether flow": lambda n: known(_flow_end(tables, n)),
    }
    flat = set(results.networks(tables)) - set(results.networks(tables, "norm_squared"))
    return base.numbers_table(tables, list(places), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, which noise sharpens, and the scale."""
    risen, fallen = _directions(tables)
    ends = [
        f"sharpens at {base.several(risen)}" if risen else "sharpens nowhere",
        f"flattens at {base.several(fallen)}" if fallen else "flattens nowhere",
    ]
    return base.join(
        "a, b: by the input variances, φ and 2 − φ." if swept(tables) else "",
        f"From a balanced start, noise std ∝ (input std)ᵏ: SGD {' and '.join(ends)}. The flow's "
        "last step tells slow directions from effects of finite η."
        if sharpening(tables)
        else "",
        ensemble.BAND if sharpening(tables) else "",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )
