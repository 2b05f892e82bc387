"""Representations of the two layers of nonlinear nets: SGD aligns them, GD does not."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style

TITLE = "SGD aligns the noise-weighted representations of the two layers"

NAMES = {"relu": "ReLU"}
PICTURES = ("gram_w", "gram_u")
SYMBOLS = {"gram_w": r"$W\Gamma_W W^\mathrm{T}$", "gram_u": r"$U^\mathrm{T}\Gamma_U U$"}
WEIGHTED = f"{SYMBOLS['gram_u']} and {SYMBOLS['gram_w']}"
COLOURS = "RdBu_r"


@style.house
def draw(tables: base.Tables) -> Figure:
    """One row an activation: the alignment in time, and the two matrices after SGD and GD."""
    activations = _activations(tables)
    rows = len(activations)
    figure = Figure(figsize=(11.0, 2.15 * rows + 0.9), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.05, w_pad=0.05, hspace=0.03, wspace=0.02)
    grid = figure.add_gridspec(rows, 5, width_ratios=(1.75, 1, 1, 1, 1))
    handles = []
    for row, activation in enumerate(activations):
        curve = figure.add_subplot(grid[row, 0])
        handles += _draw_alignment(curve, tables, activation)
        curve.set(ylabel="cosine", ylim=(0, 1.02))
        curve.set_title(NAMES.get(activation, activation))
        curve.tick_params(labelbottom=row == rows - 1)
        if row == rows - 1:
            curve.set_xlabel("share of the steps")
        pictures = _pictures(tables, activation)
        for column, ((method, quantity), matrix) in enumerate(pictures.items()):
            axes = figure.add_subplot(grid[row, 1 + column])
            image = axes.imshow(matrix, cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(f"{SYMBOLS[quantity]}, {method.upper()}")
            if row == rows - 1 and column == len(pictures) - 1:
                figure.colorbar(
                    image, ax=axes, fraction=0.046, pad=0.04, ticks=(-1, 0, 1)
                ).outline.set_visible(False)
    style.legend_below(figure, handles)
    return figure


def _activations(tables: base.Tables) -> list[str]:
    found = ensemble.networks(tables, "alignment", ".*_(sgd|gd)")
    return list(dict.fromkeys(network.case.rsplit("_", 1)[0] for network in found))


def _network(tables: base.Tables, activation: str, method: str) -> base.Network | None:
    found = base.networks(tables, "alignment")
    return next((n for n in found if n.case == f"{activation}_{method}"), None)


def _draw_alignment(axes: Axes, tables: base.Tables, activation: str) -> list:
    handles = []
    looks = (
        ("sgd", "alignment", style.BLUE, "-", f"SGD: {WEIGHTED}"),
        (
            "sgd",
            "alignment_unweighted",
            style.SKY,
            (0, (2, 1)),
            r"SGD: $U^\mathrm{T}U$ and $WW^\mathrm{T}$, unweighted",
        ),
        ("gd", "alignment", style.VERMILION, (0, (4, 1.5)), f"GD: {WEIGHTED}"),
    )
    for method, quantity, colour, linestyle, label in looks:
        network = _network(tables, activation, method)
        if network is None:
            continue
        frame = base.curves(tables, network, quantity)
        if not frame.empty:
            frame.index = frame.index / frame.index[-1]
            handles.append(ensemble.draw_band(axes, frame, colour, linestyle, label))
    axes.set_xlim(0, 1)
    return handles


def _pictures(tables: base.Tables, activation: str) -> dict[tuple[str, str], np.ndarray]:
    """Both matrices after SGD and after GD, each over its largest absolute entry.

    Units are in descending order of the diagonal of WΓ_W Wᵀ, the same for both matrices of a run.
    """
    pictures = {}
    for method in ("sgd", "gd"):
        network = _network(tables, activation, method)
        matrices = {} if network is None else {q: _matrix(tables, network, q) for q in PICTURES}
        if any(matrix is None for matrix in matrices.values()) or not matrices:
            continue
        order = np.argsort(-np.diag(matrices["gram_w"]), kind="stable")
        for quantity, matrix in matrices.items():
            sorted_units = matrix[np.ix_(order, order)]
            pictures[method, quantity] = sorted_units / np.abs(sorted_units).max()
    return pictures


def _matrix(tables: base.Tables, network: base.Network, quantity: str) -> np.ndarray | None:
    """A square matrix from its flattened entries at the last step of the lowest seed."""
    runs = tables[network.experiment].runs
    rows = runs[(runs["quantity"] == quantity) & (runs["case"] == network.case)]
    rows = rows[rows["step"] == rows["step"].max()]
    rows = rows[rows["seed"] == rows["seed"].min()].sort_values("index")
    size = int(np.sqrt(len(rows)))
    if not size or size * size != len(rows):
        return None
    return rows["value"].to_numpy(float).reshape(size, size)


def _lengths(tables: base.Tables, method: str) -> list[int]:
    """Numbers of steps of a method's runs, over the activations."""
    chosen = [_network(tables, activation, method) for activation in _activations(tables)]
    frames = [base.curves(tables, n, "alignment") for n in chosen if n is not None]
    return sorted({int(frame.index[-1]) for frame in frames})


def caption(tables: base.Tables) -> str:
    """What is drawn, how aligned the layers end, why the data are anisotropic, and the scale."""
    ends = []
    for activation in _activations(tables):
        words = []
        for method, quantity, name in (
            ("sgd", "alignment", "SGD"),
            ("sgd", "alignment_unweighted", "SGD unweighted"),
            ("gd", "alignment", "GD"),
        ):
            network = _network(tables, activation, method)
            if network is None:
                continue
            frame = base.curves(tables, network, quantity)
            if not frame.empty:
                words.append(f"{name} {ensemble.interval_text(ensemble.tail(frame))}")
        ends.append(f"{NAMES.get(activation, activation)}: {', '.join(words)}")
    lengths = [
        f"{method.upper()} {base.several(_lengths(tables, method))} steps"
        for method in ("sgd", "gd")
    ]
    return base.join(
        "Two-layer nets with an activation between W and U. Left: cosine of the noise-weighted "
        "representations UᵀΓ_U U and WΓ_W Wᵀ along training "
        f"({', '.join(lengths)}). Right: the two matrices at its end, "
        "lowest seed, units in descending order of the diagonal of WΓ_W Wᵀ, each over its largest "
        "absolute entry (red positive, blue negative). Layers that are aligned show one picture.",
        f"Cosines at the end, with {100 * ensemble.CONFIDENCE:g} % t-intervals: {'; '.join(ends)}.",
        "Data, noise and start matter: on isotropic data weighted and plain representations "
        "cannot be told apart, and a GD run that starts small inherits balance; here inputs and "
        "noise are anisotropic and the initialisation is a standard one.",
        ensemble.BAND,
        ensemble.scale_sentence(tables),
    )
