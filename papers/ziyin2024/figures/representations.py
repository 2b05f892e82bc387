"""Representations of the two layers of nonlinear nets: SGD aligns them, GD does not."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from sharpflow.figures import base, ensemble, style
from sharpflow.figures.by_data import GAUSSIAN, data
from sharpflow.results import tables as results

TITLE = "Whether SGD aligns the noise-weighted representations of the two layers"
PUBLISHED = "Figures 6 and 9"
READS = ("alignment",)
DRAWS = ("alignment_unweighted", "gram_u", "gram_w")

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
    figure = Figure(figsize=(11.0, 2.25 * len(found) + 1.1), layout=layout)
    grid = figure.add_gridspec(len(found), 5, width_ratios=(1.75, 1, 1, 1, 1))
    handles = []
    panels: list[Axes] = []
    shown: list[Axes] = []
    image = None
    for row, (title, members) in enumerate(found):
        curve = figure.add_subplot(grid[row, 0])
        panels.append(curve)
        handles += _draw_alignment(curve, tables, members)
        last = row == len(found) - 1
        curve.set(ylabel="cosine", ylim=(0, 1.02), xlabel="step / last step" if last else "")
        curve.set_title(title)
        curve.tick_params(labelbottom=last)
        pictures = _pictures(tables, members)
        for column, ((method, quantity), matrix) in enumerate(pictures.items()):
            axes = figure.add_subplot(grid[row, 1 + column])
            image = axes.imshow(matrix, cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
            ends, named, bare = (0, len(matrix) - 1), ["1", str(len(matrix))], ["", ""]
            axes.set_xticks(ends, named if last else bare)
            axes.set_yticks(ends, named if column == 0 else bare)
            axes.set(
                xlabel="hidden unit" if last else "", ylabel="hidden unit" if column == 0 else ""
            )
            axes.spines[:].set_visible(False)
            shown.append(axes)
            if row == 0:
                axes.set_title(f"{SYMBOLS[quantity]}, {method}")
    style.letter(panels)
    if image is not None:
        bar = figure.colorbar(image, ax=shown, fraction=0.03, pad=0.02, ticks=(-1, 0, 1))
        bar.outline.set_visible(False)
        bar.set_label("entry / largest of the two matrices of a run")
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
    return activation and base.spelled(activation)


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
    """Both matrices of each network over the largest absolute entry of the two.

    Units are in descending order of the diagonal of WΓ_W Wᵀ, the same for both matrices of a run.
    """
    pictures = {}
    for network in members:
        found = {quantity: _matrix(tables, network, quantity) for quantity in PICTURES}
        matrices = {quantity: matrix for quantity, matrix in found.items() if matrix is not None}
        if len(matrices) < len(found):
            continue
        order = np.argsort(-np.diag(matrices["gram_w"]), kind="stable")
        largest = max(np.abs(matrix).max() for matrix in matrices.values())
        for quantity, matrix in matrices.items():
            pictures[ensemble.method(network), quantity] = matrix[np.ix_(order, order)] / largest
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


def _end(tables: results.Tables, network: results.Network, quantity: str) -> str:
    """Cosine at the end of training, with its interval."""
    frame = results.curves(tables, network, quantity)
    if frame.empty:
        return ""
    return ensemble.interval_text(ensemble.tail(frame), base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the cosines at the end."""
    ends = [
        f"{title} {ensemble.method(n)} {_end(tables, n, 'alignment')}"
        for title, members in rows(tables)
        for n in members
    ]
    return (
        "A row an activation: the cosine of the two layers' representations over the steps, and "
        f"pictures of the two matrices after training. Cosines at the end: {'; '.join(ends)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Cosines at the end of each network."""
    return base.numbers_table(
        tables,
        [network for _, members in rows(tables) for network in members],
        {
            "cosine at the end": lambda n: _end(tables, n, "alignment"),
            "unweighted": lambda n: _end(tables, n, "alignment_unweighted"),
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, why Gaussian data are anisotropic, and the scale."""
    drawn = {data(network) for _, members in rows(tables) for network in members}
    return base.join(
        "Left: cosine of the noise-weighted representations UᵀΓ_U U and WΓ_W Wᵀ of two-layer nets. "
        "Right: the two after training, lowest seed, units in descending order of the diagonal of "
        "WΓ_W Wᵀ, on one scale a run.",
        "Inputs and noise are anisotropic: on isotropic ones weighted and plain representations "
        "cannot be told apart."
        if GAUSSIAN in drawn
        else "",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
