"""Deep linear nets: norms and spectra of the layers at the end, beside the closed form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.runs import runs_by_network
from sharpflow.statistics.intervals import intercept, slope

from ..claims.deep_linear import deep_norms, from_plain_norms, norm_deviation

TITLE = "Deep linear nets: SGD takes every layer to the noise equilibrium"
READS = ("norm_squared", "closed_norm_squared")
DRAWS = ("closed_singular_value", "plain_norm_squared", "singular_value", "singular_value_spread")
CLOSED, PLAIN = READS[1], DRAWS[1]

COLOURS = (style.BLUE, style.PURPLE, style.GREEN, style.SKY, style.BLACK)
"""Of layers and starts; GD is vermilion."""
NORM = r"$\Vert W_i\Vert^2$"
LEVEL: dict[str, Any] = {
    "color": style.BLACK,
    "markersize": 26,
    "markeredgewidth": 1.4,
    "zorder": 4.5,
}


@style.house
def draw(tables: results.Tables) -> Figure:
    """Norms in time and at the end, spectra of middle layers, and the error against η."""
    panels = [_draw_time, _draw_norms, _draw_spectra]
    if len(_rates(tables)) > 1:
        panels.append(_draw_rates)
    figure, stacks = style.panel_grid(len(panels), (4.4,), columns=2, width=4.6)
    for panel, (axes,) in zip(panels, stacks, strict=True):
        style.legend_in(axes, panel(axes, tables))
    return figure


def _rates(tables: results.Tables) -> list[results.Network]:
    """Networks of the case that has most learning rates, the smallest first."""
    found = ensemble.networks(tables, *READS)
    several = [n for n in found if sum(m.case == n.case for m in found) > 1]
    return sorted(several, key=lambda network: network.learning_rate)


def _main(tables: results.Tables) -> list[results.Network]:
    """One network of each other case, those under SGD first."""
    swept = _rates(tables)
    found = [n for n in ensemble.networks(tables, *READS) if n not in swept] or swept
    return sorted(found, key=lambda network: not network.batch)


def _layers(tables: results.Tables, network: results.Network) -> range:
    runs = tables[network.experiment].runs
    own = runs[(runs["case"] == network.case) & (runs["quantity"] == CLOSED)]
    return range(int(own["index"].max()) + 1)


def _norm(tables: results.Tables, network: results.Network, layer: int) -> pd.DataFrame:
    """‖W_i‖² over its closed form."""
    closed = ensemble.constant(tables, network, CLOSED, layer)
    return results.curves(tables, network, "norm_squared", layer) / closed


def _draw_time(axes: Axes, tables: results.Tables) -> list[Artist | None]:
    shallow = min(len(_layers(tables, n)) for n in _main(tables))
    shown = [n for n in _main(tables) if n.batch and len(_layers(tables, n)) == shallow][:2]
    handles: list[Artist | None] = []
    for place, network in enumerate(shown):
        for layer in _layers(tables, network):
            words = _layer(layer) if len(shown) == 1 else f"{_layer(layer)}, {_name(network)}"
            frame = style.positive(_norm(tables, network, layer))
            frame = frame[frame.index > 0]
            dashes = ("-", (0, (3, 1.5)))[place]
            handles.append(ensemble.draw_band(axes, frame, _colour(layer), dashes, words))
    handles += axes.plot([], [], **ensemble.PREDICTION, label="closed form")
    axes.axhline(1.0, **ensemble.PREDICTION)
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel=f"{NORM} / closed form")
    axes.set_title("each layer's norm under SGD")
    style.plain_log_ticks(axes)
    return handles


def _layer(layer: int) -> str:
    return f"$W_{layer + 1}$"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _name(network: results.Network) -> str:
    """The start, by the stds of its layers."""
    stds = network.setting("model.initialisation.stds")
    return f"start {', '.join(map(base.number, stds))}" if stds else base.spelled(network.case)


def _draw_norms(axes: Axes, tables: results.Tables) -> list[Artist | None]:
    handles: list[Artist | None] = []
    ticks: dict[float, str] = {}
    depths = sorted({len(_layers(tables, n)) for n in _main(tables)})
    starts = dict(zip(depths, np.cumsum([0, *[depth + 1 for depth in depths[:-1]]]), strict=True))
    sgd = [n for n in _main(tables) if n.batch]
    for network in _main(tables):
        layers = _layers(tables, network)
        for layer in layers:
            x = float(starts[len(layers)] + layer)
            ticks[x] = _layer(layer)
            ends = ensemble.tail(results.curves(tables, network, "norm_squared", layer))
            same = [n for n in sgd if len(_layers(tables, n)) == len(layers)]
            aside = (same.index(network) - (len(same) - 1) / 2) * 0.2 if network.batch else 0.36
            colour = style.BLUE if network.batch else style.VERMILION
            label = f"end of {ensemble.method(network)}"
            handles.append(
                ensemble.draw_points(
                    axes,
                    x + aside,
                    ends,
                    base.confidence(tables),
                    colour,
                    "o" if network.batch else "s",
                    label,
                    0.14,
                    bool(network.batch),
                )
            )
            closed, plain = (ensemble.constant(tables, network, q, layer) for q in (CLOSED, PLAIN))
            bars: tuple[tuple[str, float, dict[str, Any]], ...] = (
                ("closed form", closed, LEVEL),
                ("plain balance", plain, LEVEL | {"color": style.ORANGE, "zorder": 1.5}),
            )
            for words, level, look in bars:
                handles.append(axes.plot(x, level, "_", linestyle="none", label=words, **look)[0])
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set(yscale="log", xlabel=" and ".join(f"{d} layers" for d in depths), ylabel=NORM)
    axes.set_title("norms at the end, every start and seed")
    style.plain_log_ticks(axes)
    return handles


def _spectrum(tables: results.Tables, network: results.Network, layer: int) -> pd.DataFrame:
    """Means over the last fifth of a layer's singular values, a row a place and a column a seed."""
    runs = tables[network.experiment].runs
    own = runs[(runs["case"] == network.case) & (runs["quantity"] == "singular_value")]
    width = (int(own["index"].max()) + 1) // len(_layers(tables, network))
    places = range(layer * width, (layer + 1) * width)
    frames = [results.curves(tables, network, "singular_value", place) for place in places]
    return pd.DataFrame([ensemble.tail(frame) for frame in frames], range(1, width + 1))


def _draw_spectra(axes: Axes, tables: results.Tables) -> list[Artist | None]:
    handles: list[Artist | None] = []
    shown = [n for n in _main(tables) if len(_layers(tables, n)) > 2]
    for place, network in enumerate(shown):
        spectrum = _spectrum(tables, network, 1)
        width = len(spectrum)
        closed = ensemble.constant(tables, network, "closed_singular_value", width)
        colour = _colour(place) if network.batch else style.VERMILION
        marker = style.MARKERS[place % len(style.MARKERS)]
        words = f"{ensemble.method(network)}, {_name(network)}"
        relative = spectrum / closed
        mean = relative.mean(axis=1)
        axes.fill_between(
            relative.index,
            relative.min(axis=1),
            relative.max(axis=1),
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        handles += axes.plot(
            mean.index, mean, marker=marker, markersize=4, color=colour, linewidth=0.9, label=words
        )
    axes.axhline(1.0, **ensemble.PREDICTION)
    axes.set(xlabel="singular value, from the largest", ylabel="value / closed form")
    axes.set_ylim(0, None)
    axes.set_title("spectrum of the second layer at the end")
    return handles


def _deviations(
    tables: results.Tables, network: results.Network
) -> tuple[list[float], list[float]]:
    runs = runs_by_network(tables, *READS)[network]
    return [norm_deviation(run) for run in runs], [from_plain_norms(run) for run in runs]


def _draw_rates(axes: Axes, tables: results.Tables) -> list[Artist | None]:
    handles: list[Artist | None] = []
    swept = _rates(tables)
    confidence = base.confidence(tables)
    looks = (
        ("from the closed form", style.BLUE, "o"),
        ("from the plain balance", style.ORANGE, "D"),
    )
    for kind, (label, colour, marker) in enumerate(looks):
        means = []
        for network in swept:
            values = _deviations(tables, network)[kind]
            means.append(float(np.mean(values)))
            handles.append(
                ensemble.draw_points(
                    axes, network.learning_rate, values, confidence, colour, marker, label, 4e-4
                )
            )
        rates = [network.learning_rate for network in swept]
        line = np.array([0.0, max(rates)])
        at = intercept(rates, means) + slope(rates, means) * line
        axes.plot(line, at, color=colour, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1.5)
    axes.axhline(deep_norms.band[1], color=style.GREY, linewidth=0.9, linestyle=":", zorder=1)
    axes.set(xlabel="η", ylabel="largest relative deviation", xlim=(0, None), ylim=(0, None))
    axes.set_title("distance of the norms against η")
    return handles


def _worst(tables: results.Tables, kind: int) -> dict[str, str]:
    confidence = base.confidence(tables)
    return {
        n.case: ensemble.interval_text(_deviations(tables, n)[kind], confidence)
        for n in _main(tables)
    }


def alt(tables: results.Tables) -> str:
    """What is seen, and how far from the closed form the norms end."""
    ends = (f"{base.spelled(case)} {text}" for case, text in _worst(tables, 0).items())
    return (
        "Panels of deep linear nets: each layer's norm over its closed form in time on log "
        "axes, coming to one; norms at the end on the bars of the closed form; flat singular "
        "values of the second layer under SGD and falling ones under GD. Largest deviation of a "
        f"norm: {'; '.join(ends)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """How far norms end from both balances, and how even the middle layers are."""

    def spread(network: results.Network) -> str:
        layers = list(_layers(tables, network))[1:-1]
        if not layers or not results.networks(tables, "singular_value_spread"):
            return ""
        frames = [results.curves(tables, network, "singular_value_spread", i) for i in layers]
        return ensemble.interval_text(
            pd.concat([ensemble.tail(f) for f in frames], axis=1).max(axis=1),
            base.confidence(tables),
        )

    def deviation(network: results.Network, kind: int) -> str:
        return ensemble.interval_text(_deviations(tables, network)[kind], base.confidence(tables))

    return base.numbers_table(
        tables,
        [*_main(tables), *_rates(tables)],
        {
            "layers": lambda n: str(len(_layers(tables, n))),
            "largest deviation of a norm from the closed form": lambda n: deviation(n, 0),
            "from the plain balance": lambda n: deviation(n, 1),
            "spread of middle layers' singular values": spread,
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    depths: Sequence[str] = [
        str(d) for d in sorted({len(_layers(tables, n)) for n in _main(tables)})
    ]
    return base.join(
        f"Linear nets of {' and '.join(depths)} layers on anisotropic data with a rotated teacher. "
        "In noise equilibrium the layers between the first and the last are multiples of a "
        "rotation: their singular values are equal.",
        f"Dotted at the right: {base.percent(deep_norms.band[1])}."
        if len(_rates(tables)) > 1
        else "",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
