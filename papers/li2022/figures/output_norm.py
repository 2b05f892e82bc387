"""Figure 2 of Li et al. (2022): the norm of the output layer follows the sharpness."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sharpflow.figures import base, edge, style
from sharpflow.figures.edge import SHARPNESS
from sharpflow.results import tables as results
from sharpflow.results.curves import resolves_alternation, two_step_average
from sharpflow.results.residual import anomaly_points

TITLE = "Norm of the output layer beside the sharpness"
PUBLISHED = "Figure 2"
READS = ("gauss_newton_sharpness", "output_norm_squared")

NORM = "output_norm_squared"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Λ above, anomaly points as a strip, ‖A‖² below; one stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 0.75, 2.2))
    unit = edge.unit(chosen)
    handles: list[Artist | None] = []
    drawn = []
    for network, (above, strip, below) in zip(chosen, stacks, strict=True):
        sharpness = unit.curves(tables, network)
        norm = results.curves(tables, network, NORM)
        strong = results.strong_seed(tables, network, SHARPNESS)
        handles += [
            edge.draw_sharpness(above, sharpness, strong, style.BLUE, label="sharpness Λ"),
            unit.draw_threshold(above, tables, network, strong),
            style.draw_seeds(below, norm, strong, style.GREEN, label="‖A‖²", width=1.0),
        ]
        drawn.append((sharpness, unit.threshold(tables, network, strong)))
        above.set_title(base.label(network, chosen))
        handles += _strip(strip, tables, network)
        below.set(xlabel="step", xlim=(0, float(norm.index.max())))
    unit.limit([above for above, *_ in stacks], *zip(*drawn, strict=True))
    style.common_limits([below for *_, below in stacks])
    style.label_rows(stacks, unit.label(), "anomalies\n(all seeds)", "‖A‖²")
    for _, strip, _ in style.left_column(stacks):
        strip.set_yticks([0, 1], ["on means", "raw"], fontsize=7)
        strip.yaxis.label.set(fontsize=8)
    style.legend_below(figure, handles)
    return figure


def anomalies(sharpness: pd.Series, norm: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Steps after which Δ‖A‖² and ΔΛ have opposite signs: on raw records, on two-step averages."""
    both = pd.concat([norm, sharpness], axis=1, join="inner").dropna()
    steps, (a, b) = both.index.to_numpy(), both.to_numpy().T
    raw = anomaly_points(a, b)
    averaged = anomaly_points(two_step_average(a), two_step_average(b))
    return steps[: raw.size][raw], steps[: averaged.size][averaged]


def _strip(axes: Axes, tables: results.Tables, network: results.Network) -> list[Artist]:
    """The share of seeds that have an anomaly at a step, as the opacity of two rows.

    Above on raw records, below on means of two neighbouring records.
    """
    handles: list[Artist] = []
    steps = results.curves(tables, network, SHARPNESS).index.to_numpy()
    found = list(anomalies_of(tables, network).values())
    half = np.median(np.diff(steps)) / 2 if len(steps) > 1 else 0.5
    rows = (
        (1, style.PURPLE, "anomaly: Δ‖A‖² against ΔΛ"),
        (0, style.VERMILION, "anomaly of two-record means"),
    )
    for (row, colour, label), own in zip(rows, zip(*found, strict=True), strict=True):
        pixels = np.zeros((1, len(steps), 4))
        pixels[..., :3] = to_rgb(colour)
        pixels[0, :, 3] = np.mean([np.isin(steps, marked) for marked in own], axis=0)
        extent = (steps[0] - half, steps[-1] + half, row - 0.38, row + 0.38)
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest")
        handles.append(Patch(facecolor=colour, label=label))
    axes.set(ylim=(-0.55, 1.55), yticks=[])
    axes.tick_params(left=False, bottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    return handles


def anomalies_of(
    tables: results.Tables, network: results.Network
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The `anomalies` of every seed."""
    sharpness = results.curves(tables, network, SHARPNESS)
    norm = results.curves(tables, network, NORM)
    return {
        int(seed): anomalies(sharpness[seed], norm[seed])
        for seed in sharpness.columns
        if seed in norm
    }


def shares(tables: results.Tables, network: results.Network) -> tuple[float, float]:
    """Share of anomalous steps, raw and on means of two records: medians over seeds."""
    counts = results.curves(tables, network, SHARPNESS).notna().sum()
    found = anomalies_of(tables, network)
    raw, averaged = (
        [own[kind].size / max(int(counts[seed]) - 1, 1) for seed, own in found.items()]
        for kind in (0, 1)
    )
    return float(np.median(raw)), float(np.median(averaged))


def alt(tables: results.Tables) -> str:
    """What is seen, and how often the two move against each other."""
    chosen = results.networks(tables, *READS)
    peaks = [results.relative(tables, n, SHARPNESS).max().median() for n in chosen]
    return (
        f"{len(chosen)} panels, one a network: above, the sharpness against a dashed line at the "
        "stability threshold; below, the squared norm of the output layer; between them, marks "
        f"where they move against each other. The sharpness comes to {min(peaks):.2f} to "
        f"{max(peaks):.2f} of its threshold at its highest."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Share of anomalous steps of each network, and how often Λ was recorded."""
    chosen = results.networks(tables, *READS)
    return base.numbers_table(
        tables,
        chosen,
        {
            "2/η": lambda n: base.number(n.threshold),
            "steps between records of Λ": lambda n: str(base.stride(tables, n, SHARPNESS) or ""),
            "anomalies": lambda n: f"{100 * shares(tables, n)[0]:.0f} %",
            "on means": lambda n: f"{100 * shares(tables, n)[1]:.0f} %",
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, how anomalies are defined, and the scale."""
    chosen = results.networks(tables, *READS)
    frames = [results.curves(tables, network, SHARPNESS) for network in chosen]
    odd = all(resolves_alternation(frame.index) for frame in frames)
    return base.join(
        f"Above: Gauss-Newton sharpness Λ in units of {base.symbols(chosen)} (dashed). Below: "
        "‖A‖² of the output layer. Between: steps with Δ‖A‖² and ΔΛ of opposite signs, raw and on "
        "means of two records, which cancel alternation; darker: more seeds.",
        "" if odd else "At an even stride one branch of Λ is seen only.",
        edge.means_sentence(frames),
        base.seeds_sentence(tables, SHARPNESS),
        base.scale_sentence(tables),
    )
