"""Warm-up: the noise flattens at a low learning rate, and a high one is stable afterwards."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "Warm-up lets the noise flatten the loss before the learning rate rises"

LOOKS = {
    "sgd_kaiming_constant": ("SGD, Kaiming, constant η", style.BLACK, (0, (2, 1))),
    "sgd_kaiming_warmup": ("SGD, Kaiming, warm-up", style.BLUE, "-"),
    "sgd_xavier": ("SGD, Xavier, constant η", style.GREEN, (0, (6, 1.5))),
    "gd_kaiming": ("GD, Kaiming, constant η", style.VERMILION, (0, (4, 1.5))),
}


@style.house
def draw(tables: base.Tables) -> Figure:
    """Tr H in time (left), and at the end of training (right)."""
    chosen = _chosen(tables)
    figure = Figure(figsize=(8.8, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2.3, 1), sharey=True)
    handles = []
    frames = {n.case: base.curves(tables, n, "hessian_trace") for n in chosen}
    ceiling = 4 * max(frame.iloc[0].max() for frame in frames.values())
    for network in chosen:
        label, colour, linestyle = LOOKS[network.case]
        frame = style.positive(frames[network.case]).clip(upper=10 * ceiling)
        handles.append(ensemble.draw_band(left, frame, colour, linestyle, label))
        handles.append(_draw_divergence(left, tables, network, frame, colour, ceiling))
    for until in _warmup_ends(tables):
        handles.append(style.draw_moment(left, until, "end of warm-up"))
    left.set(xlabel="step", ylabel="Tr H", yscale="log")
    last = max(float(frame.index.max()) for frame in frames.values())
    left.set_xlim(-0.02 * last, last)
    left.set_title("in time")
    low = min(float(frame.min().min()) for frame in frames.values())
    left.set_ylim(0.7 * low, ceiling)

    ends = [n for n in chosen if not base.diverged(tables, n)]
    for place, network in enumerate(ends):
        label, colour, _ = LOOKS[network.case]
        values = ensemble.tail(frames[network.case])
        ensemble.draw_points(right, place, values, colour, style.MARKERS[place], None, 0.5)
    words = [LOOKS[n.case][0].replace(", constant η", "").replace(", ", ",\n") for n in ends]
    right.set_xticks(range(len(ends)), words)
    right.set_xlim(-0.6, len(ends) - 0.4)
    right.set_title("at the end")
    style.legend_below(figure, handles)
    return figure


def _chosen(tables: base.Tables) -> list[base.Network]:
    found = ensemble.networks(tables, "hessian_trace", "|".join(LOOKS))
    return sorted(found, key=lambda network: list(LOOKS).index(network.case))


def _warmup_ends(tables: base.Tables) -> list[int]:
    return [value["until"] for value in ensemble.training_values(tables, "warmup")]


def _draw_divergence(
    axes: Axes,
    tables: base.Tables,
    network: base.Network,
    frame: pd.DataFrame,
    colour: str,
    ceiling: float,
):
    """Crosses, along the top, at the steps at which runs left the finite numbers."""
    steps = base.curves(tables, network, "diverged_step")
    if steps.empty:
        return None
    top = 0.85 * ceiling
    for seed, step in steps.max().items():
        finite = frame[seed].dropna() if seed in frame else frame.iloc[:0, 0]
        if len(finite):
            last = (finite.index[-1], float(finite.iloc[-1]))
            x, y = zip(last, (step, top), strict=True)
            axes.plot(x, y, color=colour, linewidth=0.8, linestyle=(0, (2, 1)), zorder=2)
    crosses = {"color": colour, "markersize": 6, "linestyle": "none", "clip_on": False}
    (marks,) = axes.plot(
        steps.max(), np.full(steps.shape[1], top), "x", **crosses, label="run diverged"
    )
    return marks


def caption(tables: base.Tables) -> str:
    """What is drawn, who diverged and when, where the others end, and the scale."""
    sentences, ends = [], []
    for network in _chosen(tables):
        steps = base.curves(tables, network, "diverged_step")
        label = LOOKS[network.case][0]
        if not steps.empty:
            total = len(base.curves(tables, network, "hessian_trace").columns)
            sentences.append(
                f"{label}: {len(steps.columns)} of {total} runs diverged, by step "
                f"{int(steps.max().max()):,}."
            )
        else:
            frame = base.curves(tables, network, "hessian_trace")
            start, end = frame.iloc[0].mean(), ensemble.tail(frame)
            ends.append(f"{label}: {base.number(start)} to {ensemble.interval_text(end)}")
    schedule = [
        f"warm-up: η = {base.number(value['learning_rate'])} before step {value['until']:,}"
        for value in ensemble.training_values(tables, "warmup")
    ]
    batches = ensemble.training_values(tables, "batch")
    small = f" It takes a small batch (here S = {base.several(batches)})" if batches else ""
    return base.join(
        "Trace of the Hessian of the population loss of a factorisation. At a low learning rate "
        "the noise of SGD takes the factors from Kaiming's unbalanced initialisation to the noise "
        "equilibrium, where the loss is flatter, so that a rate that diverges from the start is "
        "stable afterwards; SGD from Xavier's start goes to the same place. GD has no such force: "
        "it keeps the imbalance, and the sharpness, that it started with."
        + (f"{small}: averaged over larger ones the constant rate is stable too." if small else ""),
        *sentences,
        f"Tr H, start to end: {'; '.join(ends)}." if ends else "",
        f"Dotted: end of warm-up ({'; '.join(schedule)})." if schedule else "",
        ensemble.BAND,
        ensemble.POINTS,
        ensemble.scale_sentence(tables),
    )
