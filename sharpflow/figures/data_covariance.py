"""What the data's covariance decides: the ratio of the norms, and sharpening or flattening."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "The data's covariance sets the norm ratio, and sharpens or flattens"

W, U = 0, 1
CHANGE = 0.05
"""Relative change of Tr H that the caption calls sharpening or flattening, as the claims do."""
SWEEPS = {
    "sgd": ("SGD", style.BLUE, "o", True),
    "sgd_decay": ("SGD, weight decay", style.GREEN, "^", True),
    "gd": ("GD", style.VERMILION, "s", False),
    "gd_decay": ("GD, weight decay", style.ORANGE, "D", False),
}
TRACE_COLOURS = (style.BLUE, style.SKY, style.GREEN, style.ORANGE, style.VERMILION)
TRACE_LINES = ("-", (0, (6, 1.5)), (0, (4, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))


@style.house
def draw(tables: base.Tables) -> Figure:
    """Norm ratio and Tr H over the input variances; Tr H from a balanced start, in time and end."""
    panels = []
    if _sweep(tables, "norm_squared", "sgd"):
        panels += [_draw_ratio, _draw_flattening]
    if _sharpening(tables, "sgd"):
        panels += [_draw_traces, _draw_direction]
    if not panels:
        raise ValueError("tables hold no quantity 'norm_squared' of a case sgd_phi_… or sgd_k_…")
    figure, stacks = style.panel_grid(len(panels), (4.6,), columns=2, width=4.6)
    handles = [
        h
        for draw_panel, (axes,) in zip(panels, stacks, strict=True)
        for h in draw_panel(axes, tables)
    ]
    style.legend_below(figure, handles)
    return figure


def _sweep(tables: base.Tables, quantity: str, kind: str) -> list[tuple[float, base.Network]]:
    """Networks of one kind of the sweep over φ, by φ."""
    found = [n for n in base.networks(tables, quantity) if n.case.startswith(f"{kind}_phi_")]
    return sorted((ensemble.number_in(n.case), n) for n in found)


def _sharpening(tables: base.Tables, method: str) -> list[tuple[float, base.Network]]:
    found = base.networks(tables, "hessian_trace")
    found = [n for n in found if n.case.startswith(f"{method}_k_")]
    return sorted(((ensemble.number_in(n.case), n) for n in found), key=lambda pair: pair[0])


def final_ratio(tables: base.Tables, network: base.Network) -> pd.Series:
    """‖U‖²/‖W‖² of each seed, from the means over the end of training."""
    inner, outer = (ensemble.tail(base.curves(tables, network, "norm_squared", i)) for i in (W, U))
    return outer / inner


def trace_change(tables: base.Tables, network: base.Network) -> pd.Series:
    """Tr H of each seed, mean over the end of training over its start."""
    frame = base.curves(tables, network, "hessian_trace")
    return ensemble.tail(frame) / frame.iloc[0]


def _draw_sweep(axes: Axes, tables: base.Tables, quantity: str, value: Callable) -> list:
    handles = []
    for kind, (label, colour, marker, filled) in SWEEPS.items():
        for phi, network in _sweep(tables, quantity, kind):
            values = value(tables, network)
            handles.append(
                ensemble.draw_points(axes, phi, values, colour, marker, label, 0.035, filled)
            )
    return handles


def _draw_ratio(axes: Axes, tables: base.Tables) -> list:
    handles = _draw_sweep(axes, tables, "norm_squared", final_ratio)
    for kind in ("sgd", "sgd_decay"):
        points = [
            (phi, ensemble.constant(tables, network, "norm_ratio_predicted"))
            for phi, network in _sweep(tables, "norm_ratio_predicted", kind)
        ]
        handles += _draw_predictions(axes, points)
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="φ: half the inputs have variance φ, half 2 − φ", ylabel="‖U‖² / ‖W‖²")
    axes.set_title("norm ratio at the end of training")
    return handles


def _draw_predictions(axes: Axes, points: list[tuple[float, float]]) -> list:
    if not points:
        return []
    look = {"color": style.BLACK, "markersize": 17, "markeredgewidth": 1.3, "zorder": 4.5}
    x, y = zip(*points, strict=True)
    return axes.plot(x, y, "_", linestyle="none", label="closed form", **look)


def _draw_flattening(axes: Axes, tables: base.Tables) -> list:
    handles = _draw_sweep(axes, tables, "hessian_trace", trace_change)
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="φ: half the inputs have variance φ, half 2 − φ", ylabel="Tr H, end / start")
    axes.set_ylim(0, None)
    axes.set_title("Tr H from a random start")
    return handles


def _draw_traces(axes: Axes, tables: base.Tables) -> list:
    handles = []
    for place, (k, network) in enumerate(_sharpening(tables, "sgd")):
        frame = base.curves(tables, network, "hessian_trace")
        change = frame / frame.iloc[0]
        colour = TRACE_COLOURS[place % len(TRACE_COLOURS)]
        linestyle = TRACE_LINES[place % len(TRACE_LINES)]
        handles.append(ensemble.draw_band(axes, change, colour, linestyle, f"SGD, k = {k:g}"))
        end = ensemble.constant(tables, network, "hessian_trace_predicted") / frame.iloc[0].mean()
        axes.plot(change.index[-1] * 1.02, end, "<", color=colour, markersize=6, clip_on=False)
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="step", ylabel="Tr H / start")
    axes.set_title("Tr H from a balanced start, noise std ∝ (input std)ᵏ")
    return handles


def _predicted_changes(tables: base.Tables) -> list[tuple[float, float]]:
    """k, and Tr H of the closed form over that of the start."""
    points = []
    for k, network in _sharpening(tables, "sgd"):
        start = base.curves(tables, network, "hessian_trace").iloc[0].mean()
        points.append((k, ensemble.constant(tables, network, "hessian_trace_predicted") / start))
    return points


def _draw_direction(axes: Axes, tables: base.Tables) -> list:
    handles = []
    for method in ("sgd", "gd"):
        label, colour, marker, filled = SWEEPS[method]
        for k, network in _sharpening(tables, method):
            values = trace_change(tables, network)
            handles.append(
                ensemble.draw_points(axes, k, values, colour, marker, label, 0.05, filled)
            )
    handles += _draw_predictions(axes, _predicted_changes(tables))
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="k: noise std ∝ (input std)ᵏ", ylabel="Tr H, end / start")
    axes.set_title("Tr H from a balanced start, at the end")
    return handles


def _agreement(tables: base.Tables) -> str:
    """Range over the sweep of the mean ratio of SGD over the closed form."""
    means = [
        final_ratio(tables, n).mean() / ensemble.constant(tables, n, "norm_ratio_predicted")
        for kind in ("sgd", "sgd_decay")
        for _, n in _sweep(tables, "norm_ratio_predicted", kind)
    ]
    return f"{min(means):.3f} to {max(means):.3f}" if means else "an unknown multiple"


def caption(tables: base.Tables) -> str:
    """What is drawn, what decides the direction of Tr H, and the scale."""
    swept = bool(_sweep(tables, "norm_squared", "sgd"))
    sharpening = ""
    if found := _sharpening(tables, "sgd"):
        ends = [(k, trace_change(tables, n).mean()) for k, n in found]
        risen = [f"k = {k:g}" for k, end in ends if end > 1 + CHANGE]
        fallen = [f"k = {k:g}" for k, end in ends if end < 1 - CHANGE]
        closed = [change for _, change in _predicted_changes(tables)]
        listed = "; ".join(
            f"{k:g}: {end:.3f} ({exact:.3f})" for (k, end), exact in zip(ends, closed, strict=True)
        )
        sharpening = base.join(
            ("Below: " if swept else "")
            + "Tr H from an exactly balanced start that fits the teacher, with noise std in "
            "proportion to (input std)ᵏ; arrowheads and dashes: the closed form at equilibrium. "
            f"Mean Tr H at the end over the start, by k (closed form): {listed}.",
            f"SGD sharpens at {base.several(risen)}" if risen else "SGD sharpens nowhere",
            f"and flattens at {base.several(fallen)}:" if fallen else "and flattens nowhere:",
            "isotropic label noise (k = 0) does not sharpen, for that the noise has to be larger "
            "where the signal is larger. Where an end is short of the closed form, the quietest "
            "directions have not settled: they are the slowest. Terms of order η lower Tr H by "
            "about 2 %, also where no change is predicted (k = 1).",
        )
    away = [
        float(trace_change(tables, n).mean()) for _, n in _sweep(tables, "hessian_trace", "sgd")
    ]
    start = ""
    if away:
        start = (
            "The direction depends on the start as well: from a random one (above, right) the "
            f"same isotropic noise takes Tr H to {min(away):.2f} to {max(away):.2f} of its start."
        )
    ratios = ""
    if swept:
        decay = [value for value in ensemble.training_values(tables, "weight_decay") if value]
        ratios = (
            "Above, left: ‖U‖²/‖W‖² at the end against the split of the input variances, with "
            "isotropic label noise and teacher I. In the closed form (dashes) the norms balance "
            f"only where the data are isotropic; SGD is at {_agreement(tables)} of it. GD keeps "
            "‖U‖² − ‖W‖² of its start whatever φ"
            + (f"; weight decay (γ = {base.several(decay)}) balances the norms." if decay else ".")
        )
    return base.join(
        ratios,
        sharpening,
        start,
        "Tr H is the measure: the largest eigenvalue may move the other way by a few per cent.",
        ensemble.POINTS,
        ensemble.diverged_sentence(tables),
        ensemble.scale_sentence(tables),
    )
