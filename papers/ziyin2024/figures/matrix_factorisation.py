"""Two-layer linear nets: SGD goes to the noise equilibrium from every start, GD does not."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.noise import U, W, charge_decay
from sharpflow.results.runs import runs_by_network

from ..claims.equilibrium import equilibrium_closed_form

TITLE = "SGD goes to the noise equilibrium from every initialisation"
PUBLISHED = "Figure 2"
READS = ("noise_imbalance", "norm_squared")
DRAWS = (
    "closed_norm_squared",
    "equilibrium_error",
    "imbalance_entry",
    "plain_balance_error",
    "rate_predicted",
)

IMBALANCE = r"$U^\mathrm{T}\Gamma_U U - W\Gamma_W W^\mathrm{T}$"
STARTS = {
    (0.5, 2): (style.BLUE, "o", "-", "small U, large W"),
    (2, 0.5): (style.GREEN, "^", (0, (4, 1.5)), "large U, small W"),
    (1, 1): (style.PURPLE, "s", (0, (2, 1)), "equal scale"),
    (0.7, 1.4): (style.SKY, "v", (0, (6, 1.5)), "U half of W"),
    (1.4, 0.7): (style.ORANGE, "D", (0, (5, 1, 1, 1)), "W half of U"),
}
"""The paper's own starts, by the stds of U and W that the settings have."""
LEAST_APART = 1e-3
"""Least difference between the errors of two closed forms that are not the same."""


@dataclass(frozen=True)
class Start:
    """How the runs from one initialisation look, and what it is called.

    Attributes:
        stated: whether it is one of the paper's; else its words are the first case that has it.
    """

    colour: str
    marker: str
    linestyle: str | tuple
    words: str
    stated: bool = True


Looks = dict[str, Start]


@style.house
def draw(tables: results.Tables) -> Figure:
    """Charge and entries in time, final norms, and, if measured, the error of the closed form."""
    chosen = _main(tables)
    looks = starts(tables)
    panels = [_draw_charge, _draw_norms]
    if _with_entries(tables, chosen):
        panels.insert(1, _draw_entries)
    anisotropic = _anisotropic(tables)
    figure, stacks = style.panel_grid(len(panels) + bool(anisotropic), (4.6,), columns=2, width=4.6)
    axes = [stack[0] for stack in stacks]
    for panel, own in zip(panels, axes, strict=False):
        style.legend_in(own, panel(own, tables, chosen, looks))
    if anisotropic:
        style.legend_in(axes[-1], _draw_errors(axes[-1], tables, anisotropic, looks), drop=0.24)
    return figure


def _anisotropic(tables: results.Tables) -> list[results.Network]:
    """Networks of the first experiment whose two closed forms differ; none if no data tell."""
    found = results.networks(tables, "equilibrium_error")
    telling = [n.experiment for n in found if _separates(tables, n)]
    return [n for n in found if n.experiment == telling[0]] if telling else []


def _separates(tables: results.Tables, network: results.Network) -> bool:
    errors = [
        results.curves(tables, network, quantity, W)
        for quantity in ("equilibrium_error", "plain_balance_error")
    ]
    if any(frame.empty for frame in errors):
        return False
    return bool((errors[0] - errors[1]).abs().max().max() > LEAST_APART)


def _main(tables: results.Tables) -> list[results.Network]:
    """Networks of the first isotropic experiment if there is one, else of the anisotropic one."""
    telling = {network.experiment for network in _anisotropic(tables)}
    plain = {name: table for name, table in tables.items() if name not in telling}
    found = ensemble.networks(plain or tables, *READS)
    return [network for network in found if network.experiment == found[0].experiment]


def _key(network: results.Network) -> str:
    """What tells one initialisation from another."""
    return json.dumps(network.setting("model.initialisation") or network.case, sort_keys=True)


def starts(tables: results.Tables) -> Looks:
    """The looks of all initialisations by their key: the paper's own, or one of a cycle.

    An initialisation that is not the paper's is called after the first case that has it.
    """
    found: dict[str, Start] = {}
    for network in results.networks(tables):
        scales = tuple(network.setting(f"model.initialisation.{layer}") for layer in ("u", "w"))
        own = STARTS.get(scales)
        other = Start(*_cycled(len(found)), base.spelled(network.case), stated=False)
        found.setdefault(_key(network), Start(*own) if own else other)
    return found


def _cycled(place: int) -> tuple[str, str, str | tuple]:
    """Colour, marker and dashes of a start that is not the paper's; red is that of GD."""
    colours = [colour for colour in style.PALETTE[::-1] if colour != style.VERMILION]
    _, dashes = style.look(place)
    return colours[place % len(colours)], style.MARKERS[::-1][place % len(style.MARKERS)], dashes


def _most_unbalanced(
    tables: results.Tables, chosen: list[results.Network]
) -> list[results.Network]:
    """Networks from the two starts whose layers differ most in their norms."""
    apart: dict[str, float] = {}
    for network in chosen:
        inner, outer = _norms(tables, network)
        imbalance = ((outer - inner).abs() / (outer + inner)).iloc[0].mean()
        apart[_key(network)] = max(apart.get(_key(network), 0.0), float(imbalance))
    kept = sorted(apart, key=lambda key: -apart[key])[:2]
    return [network for network in chosen if _key(network) in kept]


def _norms(tables: results.Tables, network: results.Network) -> tuple[pd.DataFrame, pd.DataFrame]:
    """‖W‖² and ‖U‖² of each seed in time."""
    inner, outer = (results.curves(tables, network, "norm_squared", index) for index in (W, U))
    return inner, outer


def _draw_charge(
    axes: Axes, tables: results.Tables, chosen: list[results.Network], looks: Looks
) -> list[Artist]:
    handles: list[Artist] = []
    rates: list[Artist] = []
    runs = runs_by_network(tables, *READS)
    for network in _most_unbalanced(tables, chosen):
        start = looks[_key(network)]
        share = style.positive(ensemble.by_seed(runs[network], charge_decay).abs())
        colour = start.colour if network.batch else style.VERMILION
        named = f"{ensemble.method(network)}: {start.words}"
        label = named if start.stated else base.spelled(network.case)
        handles.append(ensemble.draw_band(axes, share, colour, start.linestyle, label))
        rate = ensemble.constant(tables, network, "rate_predicted")
        if np.isfinite(rate) and network.batch:
            steps = share.index.to_numpy(float)
            line = np.exp(-rate * steps)
            rates += axes.plot(steps, line, **ensemble.PREDICTION, label="4kη²/S a step")
    axes.set(xlabel="step", ylabel="|C − C*| / |C₀ − C*|", yscale="log", ylim=(3e-3, 2))
    axes.set_title("charge C = ‖U‖² − ‖W‖²")
    style.note(axes, "cut at 0.003", low=True)
    return handles + rates


def _with_entries(tables: results.Tables, chosen: list[results.Network]) -> list[results.Network]:
    """Networks under SGD whose entries were kept, those from a most unbalanced start first."""
    measured = set(results.networks(tables, "imbalance_entry"))
    order = [*_most_unbalanced(tables, chosen), *chosen]
    return [network for network in order if network.batch and network in measured]


def _draw_entries(
    axes: Axes, tables: results.Tables, chosen: list[results.Network], looks: Looks
) -> list[Artist]:
    network = _with_entries(tables, chosen)[0]
    runs = tables[network.experiment].runs
    indices = sorted(runs.loc[runs["quantity"] == "imbalance_entry", "index"].unique())
    frames = [results.curves(tables, network, "imbalance_entry", int(i)) for i in indices]
    everything = pd.concat(frames, axis=1)
    band = axes.fill_between(
        everything.index,
        everything.quantile(0.05, axis=1),
        everything.quantile(0.95, axis=1),
        color=style.GREY,
        alpha=0.25,
        linewidth=0,
        zorder=1,
        label="5 % to 95 % of entries and seeds",
    )
    strong = frames[0].columns[0]
    words = f"each of {len(indices)} entries, lowest seed"
    handles: list[Artist] = [
        axes.plot(frame.index, frame[strong], color=style.BLUE, linewidth=0.7, label=words)[0]
        for frame in frames
    ]
    axes.axhline(0.0, color=style.BLACK, linewidth=0.7, zorder=3)
    axes.set_yscale("symlog", linthresh=1.0, linscale=0.6)
    style.note(axes, "linear within ±1, logarithmic beyond")
    axes.set(xlabel="step", ylabel="entry", xlim=(0, float(everything.index.max())))
    words = looks[_key(network)].words
    axes.set_title(f"entries of {IMBALANCE}, SGD, {words}")
    return [band, *handles]


def _draw_norms(
    axes: Axes, tables: results.Tables, chosen: list[results.Network], looks: Looks
) -> list[Artist]:
    axes.set(xscale="log", yscale="log")
    for network in chosen:
        marker = looks[_key(network)].marker
        inner, outer = _norms(tables, network)
        axes.scatter(
            ensemble.tail(inner),
            ensemble.tail(outer),
            s=22,
            marker=marker,
            facecolors=style.BLUE if network.batch else "none",
            edgecolors=style.BLUE if network.batch else style.VERMILION,
            alpha=0.6,
            linewidths=0.9,
            zorder=3,
        )
        axes.scatter(inner.iloc[0], outer.iloc[0], s=9, marker=marker, color=style.GREY, zorder=2)
    handles: list[Artist] = []
    closed = [ensemble.constant(tables, chosen[0], "closed_norm_squared", i) for i in (W, U)]
    star = {"color": style.BLACK, "markersize": 13, "markeredgewidth": 1.2, "linestyle": "none"}
    if np.all(np.isfinite(closed)):
        handles += axes.plot(*closed, "+", **star, zorder=4, label="closed form")
    for name, colour, face in (("SGD", style.BLUE, style.BLUE), ("GD", style.VERMILION, "none")):
        handles.append(_dot(f"end of {name}", colour, face, "o"))
    handles.append(_dot("start", style.GREY, style.GREY, "o", 3.2))
    _name_starts(axes, tables, chosen, looks)
    axes.set(xlabel="‖W‖²", ylabel="‖U‖²")
    axes.set_title("norms at the start and at the end, every seed")
    return handles


def _name_starts(
    axes: Axes, tables: results.Tables, chosen: list[results.Network], looks: Looks
) -> None:
    """Write beside the marks of each initialisation what it is."""
    for key in dict.fromkeys(map(_key, chosen)):
        frames = [_norms(tables, n) for n in chosen if _key(n) == key]
        x, y = (float(np.mean([pair[i].iloc[0].mean() for pair in frames])) for i in (W, U))
        axes.annotate(
            looks[key].words,
            (x, y),
            xytext=(0, -9),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7.5,
            color=style.GREY,
        )
    axes.margins(x=0.2, y=0.12)


def _dot(label: str, colour: str, face: str, marker: str, size: float = 5.0) -> Line2D:
    look = {"markerfacecolor": face, "markeredgecolor": colour, "markersize": size}
    return Line2D([], [], linestyle="none", marker=marker, label=label, **look)


def _draw_errors(
    axes: Axes, tables: results.Tables, chosen: list[results.Network], looks: Looks
) -> list[Artist | None]:
    handles = []
    axes.set_yscale("log")
    kinds = (
        ("SGD", "equilibrium_error", style.BLUE, "o", "SGD, from the closed form"),
        ("SGD", "plain_balance_error", style.ORANGE, "D", "SGD, from the plain balance"),
        ("GD", "equilibrium_error", style.VERMILION, "s", "GD, from the closed form"),
    )
    keys = list(dict.fromkeys(_key(network) for network in chosen))
    for network in chosen:
        place = keys.index(_key(network))
        for method, quantity, colour, marker, label in kinds:
            for index in (W, U) if ensemble.method(network) == method else ():
                values = results.curves(tables, network, quantity, index)
                if values.empty:
                    continue
                x, filled = place + (-0.18, 0.18)[index], index == U
                ends, confidence = values.iloc[-1], base.confidence(tables)
                handles.append(
                    ensemble.draw_points(
                        axes, x, ends, confidence, colour, marker, label, 0.22, filled
                    )
                )
    bound = equilibrium_closed_form.band[1]
    axes.axhline(bound, color=style.GREY, linewidth=0.9, linestyle=":", zorder=1)
    axes.set_xticks(range(len(keys)), [looks[key].words.replace(", ", ",\n") for key in keys])
    axes.set(xlabel="initialisation", ylabel="relative distance", xlim=(-0.6, len(keys) - 0.4))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.01), max(high, 1.0))
    axes.set_title(r"anisotropic data: $W^\mathrm{T}W$ (hollow), $UU^\mathrm{T}$ (filled)")
    return handles


def alt(tables: results.Tables) -> str:
    """What is seen, and how far from balance the methods end."""
    ends = [f"{method} {text}" for method, text in _imbalances(tables).items()]
    return (
        "Panels of two-layer linear nets: the charge over the steps on a logarithmic axis, a line "
        "for each method and start; the norms of the two layers of every seed at start and end, "
        "with a cross at the closed form; the distance from it on anisotropic data. Relative "
        f"imbalance at the end: {'; '.join(ends) or 'unknown'}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Imbalance at the end and distance from both balances, of each network."""

    def imbalance(network: results.Network) -> str:
        frame = results.curves(tables, network, "noise_imbalance")
        return _range(ensemble.tail(frame)) if len(frame) else ""

    def distance(network: results.Network, quantity: str) -> str:
        frames = [results.curves(tables, network, quantity, index) for index in (W, U)]
        means = ensemble.finite(ensemble.mean(f.iloc[-1]) for f in frames if len(f))
        return " and ".join(f"{100 * value:.1f} %" for value in means)

    return base.numbers_table(
        tables,
        results.networks(tables, *READS),
        {
            "relative imbalance over the last fifth": imbalance,
            "WᵀW and UUᵀ from the closed form": lambda n: distance(n, "equilibrium_error"),
            "from the plain balance": lambda n: distance(n, "plain_balance_error"),
        },
    )


def _range(values: pd.Series) -> str:
    known = ensemble.finite(values)
    return f"{known.min():.2f} to {known.max():.2f}" if known.size else ""


def _imbalances(tables: results.Tables) -> dict[str, str]:
    """The relative imbalance at the end, by method, over the seeds that stayed finite."""
    ends: dict[str, list[float]] = {}
    for network in _most_unbalanced(tables, _main(tables)):
        tail = ensemble.tail(results.curves(tables, network, "noise_imbalance"))
        ends.setdefault(ensemble.method(network), []).extend(ensemble.finite(tail))
    return {method: _range(pd.Series(own)) for method, own in ends.items() if own}


def caption(tables: results.Tables) -> str:
    """What is drawn, what isotropic data cannot show, and the scale."""
    return base.join(
        "Two-layer linear nets ŷ = UWx on y = x + ε. Gradient flow keeps the charge C; the noise "
        "of SGD takes it to C*, that of the noise equilibrium, at 4kη²/S a step (dotted).",
        "Only anisotropic data and a rotated teacher tell the weighted balance UᵀΓ_U U = WΓ_W Wᵀ "
        f"from the plain one (last panel; dotted: {base.percent(equilibrium_closed_form.band[1])})."
        if _anisotropic(tables)
        else "",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
