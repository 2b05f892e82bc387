"""Two-layer linear nets: SGD goes to the noise equilibrium from every start, GD does not."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "SGD goes to the noise equilibrium from every initialisation"

W, U = 0, 1
BOUND = 0.06
"""Relative error within which the claim has SGD settle at the closed form."""
IMBALANCE = r"$U^\mathrm{T}\Gamma_U U - W\Gamma_W W^\mathrm{T}$"
STARTS = {
    "small_u": (style.BLUE, "o", "-", "small U, large W"),
    "small_w": (style.GREEN, "^", (0, (4, 1.5)), "large U, small W"),
    "balanced": (style.PURPLE, "s", (0, (2, 1)), "equal scale"),
    "mild_u": (style.SKY, "v", (0, (6, 1.5)), "U half of W"),
    "mild_w": (style.ORANGE, "D", (0, (5, 1, 1, 1)), "W half of U"),
}


@style.house
def draw(tables: base.Tables) -> Figure:
    """Charge and entries in time, final norms, and, if measured, the error of the closed form."""
    chosen = _main(tables)
    anisotropic = _anisotropic(tables)
    panels = 4 if anisotropic else 3
    figure, stacks = style.panel_grid(panels, (4.6,), columns=2, width=4.6)
    axes = [stack[0] for stack in stacks]
    handles = _draw_charge(axes[0], tables, [n for n in chosen if "small" in n.case])
    handles += _draw_entries(axes[1], tables, chosen)
    handles += _draw_norms(axes[2], tables, chosen)
    if anisotropic:
        handles += _draw_errors(axes[3], tables, anisotropic)
    style.legend_below(figure, handles)
    return figure


def _anisotropic(tables: base.Tables) -> list[base.Network]:
    """Networks of the first experiment whose two closed forms differ; none if no data tell."""
    found = [n for n in base.networks(tables, "equilibrium_error") if "_" in n.case]
    telling = [n.experiment for n in found if _separates(tables, n)]
    return [n for n in found if n.experiment == telling[0]] if telling else []


def _separates(tables: base.Tables, network: base.Network) -> bool:
    errors = [
        base.curves(tables, network, quantity, W)
        for quantity in ("equilibrium_error", "plain_balance_error")
    ]
    if any(frame.empty for frame in errors):
        return False
    return bool((errors[0] - errors[1]).abs().max().max() > 1e-3)


def _main(tables: base.Tables) -> list[base.Network]:
    """Networks of the isotropic experiment if there is one, else of the anisotropic one."""
    telling = {network.experiment for network in _anisotropic(tables)}
    plain = {name: table for name, table in tables.items() if name not in telling}
    return ensemble.networks(plain or tables, "noise_imbalance", "(sgd|gd)_.*")


def start_of(case: str) -> str:
    """Initialisation that a case is named after: small_u of sgd_small_u."""
    return case.split("_", 1)[1]


def charge_share(tables: base.Tables, network: base.Network) -> pd.DataFrame:
    """|C − C*| over its initial value, C = ‖U‖² − ‖W‖²; C* is 0 without a closed form."""
    inner, outer = (base.curves(tables, network, "norm_squared", i) for i in (W, U))
    end = [ensemble.constant(tables, network, "closed_norm_squared", i) for i in (W, U)]
    target = 0.0 if np.isnan(end[0]) else end[1] - end[0]
    distance = (outer - inner - target).abs()
    return distance / distance.iloc[0]


def _draw_charge(axes: Axes, tables: base.Tables, chosen: list[base.Network]) -> list:
    handles, rates = [], []
    for network in chosen:
        colour, _, linestyle, words = STARTS[start_of(network.case)]
        share = style.positive(charge_share(tables, network))
        if network.case.startswith("gd"):
            colour, linestyle = style.VERMILION, linestyle
        method = network.case.split("_")[0].upper()
        handles.append(ensemble.draw_band(axes, share, colour, linestyle, f"{method}: {words}"))
        rate = ensemble.constant(tables, network, "rate_predicted")
        if np.isfinite(rate) and network.case.startswith("sgd"):
            steps = share.index.to_numpy(float)
            line = np.exp(-rate * steps)
            rates += axes.plot(steps, line, **ensemble.PREDICTION, label="4kη²/S a step")
    axes.set(xlabel="step", ylabel="|C − C*| / |C₀ − C*|", yscale="log", ylim=(3e-3, 2))
    axes.set_title("charge C = ‖U‖² − ‖W‖²")
    return handles + rates


def _draw_entries(axes: Axes, tables: base.Tables, chosen: list[base.Network]) -> list:
    network = next(n for n in chosen if n.case.startswith("sgd_small"))
    runs = tables[network.experiment].runs
    indices = sorted(runs.loc[runs["quantity"] == "imbalance_entry", "index"].unique())
    frames = [base.curves(tables, network, "imbalance_entry", int(i)) for i in indices]
    everything = pd.concat(frames, axis=1)
    low, high = everything.quantile(0.05, axis=1), everything.quantile(0.95, axis=1)
    axes.fill_between(
        everything.index,
        low,
        high,
        color="#DADADA",
        linewidth=0,
        zorder=1,
        label="5 % to 95 % of entries and seeds",
    )
    band = axes.collections[-1]
    strong = frames[0].columns[0]
    for place, frame in enumerate(frames):
        colour = style.PALETTE[place % len(style.PALETTE)]
        axes.plot(frame.index, frame[strong], color=colour, linewidth=0.7, zorder=2)
    axes.axhline(0.0, color=style.BLACK, linewidth=0.7, zorder=3)
    axes.set_yscale("symlog", linthresh=1.0, linscale=0.6)
    axes.set(xlabel="step", ylabel="entry", xlim=(0, float(everything.index.max())))
    words = STARTS[start_of(network.case)][3]
    axes.set_title(f"{len(indices)} entries of {IMBALANCE}, SGD, {words}")
    return [band]


def _draw_norms(axes: Axes, tables: base.Tables, chosen: list[base.Network]) -> list:
    handles = []
    axes.set(xscale="log", yscale="log")
    for network in chosen:
        colour, marker, *_ = STARTS[start_of(network.case)]
        inner, outer = (base.curves(tables, network, "norm_squared", i) for i in (W, U))
        sgd = network.case.startswith("sgd")
        axes.scatter(
            ensemble.tail(inner),
            ensemble.tail(outer),
            s=22,
            marker=marker,
            facecolors=style.BLUE if sgd else "none",
            edgecolors=style.BLUE if sgd else style.VERMILION,
            alpha=0.6,
            linewidths=0.9,
            zorder=3,
        )
        axes.scatter(inner.iloc[0], outer.iloc[0], s=9, marker=marker, color=style.GREY, zorder=2)
    closed = [ensemble.constant(tables, chosen[0], "closed_norm_squared", i) for i in (W, U)]
    star = {"color": style.BLACK, "markersize": 13, "markeredgewidth": 1.2, "linestyle": "none"}
    handles += axes.plot(*closed, "+", **star, zorder=4, label="closed form")
    for name, colour, face in (("SGD", style.BLUE, style.BLUE), ("GD", style.VERMILION, "none")):
        handles.append(_dot(f"end of {name}", colour, face, "o"))
    handles.append(_dot("start (shape: initialisation)", style.GREY, style.GREY, "o", 3.2))
    axes.set(xlabel="‖W‖²", ylabel="‖U‖²")
    axes.set_title("norms at the start and at the end, every seed")
    return handles


def _dot(label: str, colour: str, face: str, marker: str, size: float = 5.0) -> Line2D:
    look = {"markerfacecolor": face, "markeredgecolor": colour, "markersize": size}
    return Line2D([], [], linestyle="none", marker=marker, label=label, **look)


def _draw_errors(axes: Axes, tables: base.Tables, chosen: list[base.Network]) -> list:
    handles = []
    axes.set_yscale("log")
    looks = (
        ("sgd", "equilibrium_error", style.BLUE, "o", "SGD, from the closed form"),
        ("sgd", "plain_balance_error", style.ORANGE, "D", "SGD, from the plain balance"),
        ("gd", "equilibrium_error", style.VERMILION, "s", "GD, from the closed form"),
    )
    starts = list(dict.fromkeys(start_of(network.case) for network in chosen))
    for network in chosen:
        place = starts.index(start_of(network.case))
        for method, quantity, colour, marker, label in looks:
            for index in (W, U):
                values = base.curves(tables, network, quantity, index)
                if values.empty or not network.case.startswith(f"{method}_"):
                    continue
                x, filled = place + (-0.18, 0.18)[index], index == U
                handles.append(
                    ensemble.draw_points(
                        axes, x, values.iloc[-1], colour, marker, label, 0.22, filled
                    )
                )
    axes.axhline(BOUND, color=style.GREY, linewidth=0.9, linestyle=":", zorder=1)
    words = [STARTS[start][3] if start in STARTS else start for start in starts]
    axes.set_xticks(range(len(starts)), [text.replace(", ", ",\n") for text in words])
    axes.set(ylabel="relative distance", xlim=(-0.6, len(starts) - 0.4))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.01), max(high, 1.0))
    axes.set_title(r"anisotropic data: $W^\mathrm{T}W$ (hollow), $UU^\mathrm{T}$ (filled)")
    return handles


def caption(tables: base.Tables) -> str:
    """What is drawn, what isotropic data cannot show, and the scale."""
    chosen = _main(tables)
    ends = {}
    for method in ("sgd", "gd"):
        own = [n for n in chosen if n.case.startswith(method + "_small")]
        if own:
            values = [ensemble.tail(base.curves(tables, n, "noise_imbalance")) for n in own]
            ends[method] = (min(v.min() for v in values), max(v.max() for v in values))
    anisotropic = ""
    if found := [n for n in _anisotropic(tables) if n.case.startswith("sgd_")]:
        errors = {}
        for quantity in ("equilibrium_error", "plain_balance_error"):
            values = [
                base.curves(tables, n, quantity, i).iloc[-1].mean() for n in found for i in (W, U)
            ]
            errors[quantity] = f"{100 * min(values):.1f} to {100 * max(values):.1f} %"
        anisotropic = (
            "Isotropic data cannot tell the weighted balance UᵀΓ_U U = WΓ_W Wᵀ from the plain one, "
            "UᵀU = WWᵀ, which has the same solution there; the last panel therefore takes "
            "anisotropic data, anisotropic noise and a rotated teacher. The averages of UUᵀ and "
            f"WᵀW over the end of training are {errors['equilibrium_error']} (means over seeds) "
            f"away from the closed form and {errors['plain_balance_error']} from the plain "
            f"balance. Dotted: {100 * BOUND:g} %, the claim's bound."
        )
    return base.join(
        "Two-layer linear nets ŷ = UWx on y = x + ε, from starts of different imbalance. Gradient "
        "flow conserves the charge C = ‖U‖² − ‖W‖²; the noise of SGD takes it exponentially to "
        "C*, that of the noise equilibrium (a straight line here). Dotted: the rate 4kη²/S of "
        "continuous time at the minimum; a residual that is not zero, early or fluctuating at a "
        "finite η, adds to it. Entries of UᵀΓ_U U − WΓ_W Wᵀ (logarithmic beyond ±1): "
        "lines for the lowest seed, grey for all. Norms: small grey markers are starts, blue and "
        "filled ends of SGD, red and hollow ends of GD, which keeps the charge of each "
        "start, the cross the closed form, where SGD ends from all of them. "
        "Relative imbalance at the end, from the two most unbalanced starts: "
        + "; ".join(f"{m.upper()} {lo:.2f} to {hi:.2f}" for m, (lo, hi) in ends.items())
        + ". Without label noise there is no approach: the gradient noise vanishes at the minimum.",
        anisotropic,
        ensemble.BAND,
        ensemble.diverged_sentence(tables),
        ensemble.scale_sentence(tables),
    )
