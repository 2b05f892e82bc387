"""Representations of the two layers of nonlinear nets: SGD aligns them, GD does not."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "SGD aligns the noise-weighted representations of the two layers"
READS = ("alignment",)
DRAWS = ("alignment_unweighted", "gram_u", "gram_w")

NAMES = {"relu": "ReLU"}
PICTURES = ("gram_w", "gram_u")
SYMBOLS = {"gram_w": r"$W\Gamma_W W^\mathrm{T}$", "gram_u": r"$U^\mathrm{T}\Gamma_U U$"}
WEIGHTED = f"{SYMBOLS['gram_u']} and {SYMBOLS['gram_w']}"
PLAIN = r"$U^\mathrm{T}U$ and $WW^\mathrm{T}$, unweighted"
LOOKS = {
    ("SGD", "alignment"): (style.BLUE, "-", WEIGHTED),
    ("SGD", "alignment_unweighted"): (style.SKY, (0, (2, 1)), PLAIN),
    ("GD", "alignment"): (style.VERMILION, (0, (4, 1.5)), WEIGHTED),
}
COLOURS = "RdBu_r"

Row = tuple[str, list[results.Network]]


@style.house
def draw(tables: results.Tables) -> Figure:
    """One row an activation: the alignment in time, and the two matrices after SGD and GD."""
    found = rows(tables)
    layout = ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.05, hspace=0.03, wspace=0.02)
    figure = Figure(figsize=(11.0, 2.15 * len(found) + 0.9), layout=layout)
    grid = figure.add_gridspec(len(found), 5, width_ratios=(1.75, 1, 1, 1, 1))
    handles = []
    for row, (title, members) in enumerate(found):
        curve = figure.add_subplot(grid[row, 0])
        handles += _draw_alignment(curve, tables, members)
        last = row == len(found) - 1
        curve.set(ylabel="cosine", ylim=(0, 1.02), xlabel="share of the steps" if last else "")
        curve.set_title(title)
        curve.tick_params(labelbottom=last)
        pictures = _pictures(tables, members)
        for column, ((method, quantity), matrix) in enumerate(pictures.items()):
            axes = figure.add_subplot(grid[row, 1 + column])
            image = axes.imshow(matrix, cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(f"{SYMBOLS[quantity]}, {method}")
            if last and column == len(pictures) - 1:
                figure.colorbar(
                    image, ax=axes, fraction=0.046, pad=0.04, ticks=(-1, 0, 1)
                ).outline.set_visible(False)
    style.legend_below(figure, handles)
    return figure


def rows(tables: results.Tables) -> list[Row]:
    """A row for each network under SGD, or GD alone: its title, and its networks."""
    found = [
        [network for network in pair if network]
        for pair in ensemble.pairs(ensemble.networks(tables, *READS))
    ]
    titles = ensemble.labels([members[0] for members in found], _activation)
    return [(titles[members[0]], members) for members in found]


def _activation(network: results.Network) -> str | None:
    activation = network.setting("model.activation")
    return NAMES.get(activation, activation)


def _draw_alignment(
    axes: Axes, tables: results.Tables, members: Sequence[results.Network]
) -> list[Line2D]:
    handles = []
    for network in members:
        method = ensemble.method(network)
        for (whose, quantity), (colour, linestyle, words) in LOOKS.items():
            frame = results.curves(tables, network, quantity)
            if whose == method and not frame.empty:
                frame.index = frame.index / frame.index[-1]
                label = f"{method}: {words}"
                handles.append(ensemble.draw_band(axes, frame, colour, linestyle, label))
    axes.set_xlim(0, 1)
    return handles


def _pictures(
    tables: results.Tables, members: Sequence[results.Network]
) -> dict[tuple[str, str], np.ndarray]:
    """Both matrices of each network, each over its largest absolute entry.

    Units are in descending order of the diagonal of WΓ_W Wᵀ, the same for both matrices of a run.
    """
    pictures = {}
    for network in members:
        found = {quantity: _matrix(tables, network, quantity) for quantity in PICTURES}
        matrices = {quantity: matrix for quantity, matrix in found.items() if matrix is not None}
        if len(matrices) < len(found):
            continue
        order = np.argsort(-np.diag(matrices["gram_w"]), kind="stable")
        for quantity, matrix in matrices.items():
            sorted_units = matrix[np.ix_(order, order)]
            largest = np.abs(sorted_units).max()
            pictures[ensemble.method(network), quantity] = sorted_units / largest
    return pictures


def _matrix(tables: results.Tables, network: results.Network, quantity: str) -> np.ndarray | None:
    """A square matrix from its flattened entries at the last step of the lowest seed."""
    runs = tables[network.experiment].runs
    rows = runs[
        (runs["quantity"] == quantity)
        & (runs["case"] == network.case)
        & (runs["width"] == network.width)
        & (runs["learning_rate"] == network.learning_rate)
    ]
    rows = rows[rows["step"] == rows["step"].max()]
    rows = rows[rows["seed"] == rows["seed"].min()].sort_values("index")
    size = int(np.sqrt(len(rows)))
    if not size or size * size != len(rows):
        return None
    return rows["value"].to_numpy(float).reshape(size, size)


def _lengths(tables: results.Tables) -> list[str]:
    """Numbers of steps of each method's runs."""
    lengths: dict[str, list[int]] = {}
    for _, members in rows(tables):
        for network in members:
            last = int(results.curves(tables, network, "alignment").index[-1])
            lengths.setdefault(ensemble.method(network), []).append(last)
    return [f"{method} {base.several(steps)} steps" for method, steps in lengths.items()]


def _ends(tables: results.Tables, members: Sequence[results.Network]) -> list[str]:
    """Cosines at the end of each network."""
    words = []
    for network in members:
        method = ensemble.method(network)
        for whose, quantity in LOOKS:
            frame = results.curves(tables, network, quantity)
            if whose == method and not frame.empty:
                text = ensemble.interval_text(ensemble.tail(frame), base.confidence(tables))
                plain = " unweighted" if quantity == "alignment_unweighted" else ""
                words.append(f"{method}{plain} {text}")
    return words


def caption(tables: results.Tables) -> str:
    """What is drawn, how aligned the layers end, why the data are anisotropic, and the scale."""
    ends = [f"{title}: {', '.join(_ends(tables, members))}" for title, members in rows(tables)]
    return base.join(
        "Two-layer nets with an activation between W and U. Left: cosine of the noise-weighted "
        "representations UᵀΓ_U U and WΓ_W Wᵀ along training "
        f"({', '.join(_lengths(tables))}). Right: the two matrices at its end, "
        "lowest seed, units in descending order of the diagonal of WΓ_W Wᵀ, each over its largest "
        "absolute entry (red positive, blue negative). Layers that are aligned show one picture.",
        f"Cosines at the end, with {base.percent(base.confidence(tables))} t-intervals: "
        f"{'; '.join(ends)}.",
        "Data, noise and start matter: on isotropic data weighted and plain representations "
        "cannot be told apart, and a GD run that starts small inherits balance; here inputs and "
        "noise are anisotropic and the initialisation is a standard one.",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
