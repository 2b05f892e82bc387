"""Norms of scale-invariant nets: they grow as the root of time under SGD, hardly under GD."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow import dynamics
from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "The norms of scale-invariant nets grow as the root of time under SGD"

W, U = 0, 1
NETS = {
    "net_a": "Net-A: only the global scale is a symmetry",
    "net_b": "Net-B: each layer's scale is a symmetry",
}
LAYERS = {
    U: ("‖U‖²", style.PURPLE, (0, (6, 1.5))),
    W: ("‖W‖²", style.GREEN, (0, (2, 1))),
}


@style.house
def draw(tables: base.Tables) -> Figure:
    """Total norm, layers' norms, growth over its prediction; one stack of panels a net."""
    nets = [net for net in NETS if _network(tables, net, "sgd") is not None]
    if not nets:
        raise ValueError("tables hold no quantity 'norm_squared' of a case net_a_sgd or net_b_sgd")
    figure, stacks = style.panel_grid(len(nets), (3.4, 3.0, 2.2), columns=2, width=4.6)
    handles = []
    for net, (total, layers, ratios) in zip(nets, stacks, strict=True):
        handles += _draw_total(total, tables, net)
        handles += _draw_layers(layers, tables, _network(tables, net, "sgd"))
        handles += _draw_ratio(ratios, tables, _network(tables, net, "sgd"))
        total.set_title(NETS[net])
        ratios.set_xlabel("step")
    for level in range(3):
        limits = [stack[level].get_ylim() for stack in stacks]
        for stack in stacks:
            stack[level].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    style.label_rows(stacks, "‖θ‖² / start", "‖U‖², ‖W‖² / start", "growth / predicted")
    style.legend_below(figure, handles)
    return figure


def _network(tables: base.Tables, net: str, method: str) -> base.Network | None:
    found = base.networks(tables, "norm_squared")
    return next((n for n in found if n.case == f"{net}_{method}"), None)


def total_norm(tables: base.Tables, network: base.Network) -> pd.DataFrame:
    """‖θ‖² of each seed, the sum over its layers."""
    return sum(base.curves(tables, network, "norm_squared", index) for index in (W, U))


def exponents(tables: base.Tables, network: base.Network) -> list[float]:
    """Slope of log ‖θ‖² on log step over the last decade of steps, one a seed."""
    norm = total_norm(tables, network)
    late = norm[norm.index >= max(norm.index[-1] / 10, 1)]
    return [float(np.polyfit(np.log(late.index), np.log(late[s]), 1)[0]) for s in late.columns]


def _relative(frame: pd.DataFrame) -> pd.DataFrame:
    return (frame / frame.iloc[0])[frame.index > 0]


def _draw_total(axes: Axes, tables: base.Tables, net: str) -> list:
    handles = []
    for method, look in (("sgd", ensemble.SGD), ("gd", ensemble.GD)):
        network = _network(tables, net, method)
        if network is not None:
            growth = _relative(total_norm(tables, network))
            label = f"‖θ‖², {method.upper()}"
            handles.append(ensemble.draw_band(axes, growth, **look, label=label))
            if method == "sgd":
                times = np.geomspace(growth.index[-1] / 100, growth.index[-1], 30)
                end = growth.iloc[-1].median()
                line = 1.35 * end * np.sqrt(times / times[-1])
                handles += axes.plot(times, line, **ensemble.PREDICTION, label="slope ½")
    axes.set(xscale="log", yscale="log")
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def _draw_layers(axes: Axes, tables: base.Tables, network: base.Network) -> list:
    handles = []
    for index, (label, colour, linestyle) in LAYERS.items():
        frame = _relative(base.curves(tables, network, "norm_squared", index))
        handles.append(ensemble.draw_band(axes, frame, colour, linestyle, f"{label}, SGD"))
    axes.set(xscale="log", yscale="log")
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, zorder=1)
    return handles


def growth_ratio(tables: base.Tables, network: base.Network, groups: int = 8) -> pd.DataFrame:
    """Growth of ‖θ‖² over the accumulated predictions, by groups of steps of equal log length.

    From the second measured state on, one column a seed; the index is the middle of each group.
    """
    norm = total_norm(tables, network)
    predicted = base.curves(tables, network, "norm_increment_predicted")
    shared = norm.index.intersection(predicted.index)[1:]
    if len(shared) < 2:
        return pd.DataFrame()
    steps = shared.to_numpy(float)
    grown = norm.loc[shared].diff().iloc[1:]
    expected = pd.DataFrame(
        dynamics.accumulated(steps, predicted.loc[shared]), grown.index, predicted.columns
    )
    middles = np.sqrt(steps[1:] * steps[:-1])
    edges = np.geomspace(steps[0], steps[-1], groups + 1)
    group = np.clip(np.digitize(middles, edges) - 1, 0, groups - 1)
    ratio = grown.groupby(group).sum() / expected.groupby(group).sum()
    ratio.index = [np.exp(np.log(middles[group == g]).mean()) for g in ratio.index]
    return ratio


def _draw_ratio(axes: Axes, tables: base.Tables, network: base.Network) -> list:
    handles = []
    for step, values in growth_ratio(tables, network).iterrows():
        handles.append(
            ensemble.draw_points(
                axes, step, values, style.BLUE, "o", "growth / predicted, SGD", spread=0.12
            )
        )
    axes.axhline(1.0, **ensemble.PREDICTION | {"linewidth": 1.0, "zorder": 1})
    axes.axhspan(0.95, 1.05, color="#E4E4E4", linewidth=0, zorder=0)
    return handles


def caption(tables: base.Tables) -> str:
    """What is drawn, the growth and its exponent, and the scale."""
    grown = []
    for net, title in NETS.items():
        words = []
        for method in ("sgd", "gd"):
            network = _network(tables, net, method)
            if network is not None:
                norm = total_norm(tables, network)
                growth = ensemble.interval_text(norm.iloc[-1] / norm.iloc[0])
                text = f"{method.upper()} {growth} × in {int(norm.index[-1]):,} steps"
                if method == "sgd":
                    slope = ensemble.interval_text(exponents(tables, network))
                    text += f" (slope of log ‖θ‖² on log t over the last decade {slope})"
                words.append(text)
        if words:
            grown.append(f"{title.split(':')[0]}: {', '.join(words)}")
    return base.join(
        "Above: ‖θ‖² relative to its start under SGD and GD, and a line of slope ½, which the "
        "scaling of the gradient noise, Σ ∝ 1/‖θ‖², gives. Middle: the layers' norms under SGD; in "
        "Net-B, where each layer's scale is a symmetry, both can only grow, in Net-A only their "
        "sum does. Below: growth of ‖θ‖² over what η²(Tr Σ/S + ‖∇L‖²) a step adds up to, by "
        "stretches of steps (grey: within 5 %). The second term is the one that the SDE leaves "
        "out; it is all that moves the norm under GD.",
        "That ‖θ‖ never shrinks is an identity (θ·∇ℓ = 0), which GD shares: how far it grows is "
        "the finding.",
        f"Growth of ‖θ‖², with {100 * ensemble.CONFIDENCE:g} % t-intervals: {'; '.join(grown)}.",
        ensemble.BAND,
        ensemble.POINTS,
        ensemble.scale_sentence(tables),
    )
