"""House style of the figures: colours, line styles, panel grids, seeds, and reproducible saving.

Colours are those of Okabe and Ito (2008), which readers with any common colour vision can tell
apart. No two curves of one panel differ by colour alone: line styles differ too, so that figures
survive print and greyscale. Nothing here touches matplotlib's global state.
"""

import functools
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.typing import RcKeyType
from PIL import Image

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6E6E6E"

PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)), (0, (2, 2)), "-.")
"""As many as colours and markers: one place in the three of them is one look."""

CUT = 4
"""An axis of sharpness ends at this many times the threshold at most."""

DOTS_PER_INCH = 300

KINDS = (".png", ".pdf", ".svg")
"""What `save` writes, in the order of its arguments."""

LETTER = "panel letter"
"""Group of the letters of panels, by which they are found."""

DENSE = 2_000
"""Up to this many records, a curve stays a path in an SVG."""

STYLE: Mapping[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": DOTS_PER_INCH,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "sharpflow",
}

P = ParamSpec("P")
R = TypeVar("R")


def look(place: int) -> tuple[str, str | tuple]:
    """Colour and dashes of the curve that is number `place` of its panel."""
    return PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)]


def house(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` under the house style and leave matplotlib's settings as they were."""

    @functools.wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return function(*args, **kwargs)

    return styled


def panel_grid(
    panels: int,
    heights: Sequence[float],
    columns: int = 3,
    width: float = 3.3,
    unit: float = 0.62,
) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """A figure with stacks of axes on one x axis, side by side.

    Args:
        panels: number of stacks; four of them make two rows of two.
        heights: of the axes of a stack, from the top, in units of `unit`.
        columns: most stacks side by side.
        width: of a stack, in inches.
        unit: of the heights, in inches.

    Returns:
        The figure, and the axes of each stack.

    Raises:
        ValueError: there is nothing to draw.
    """
    if panels < 1:
        raise ValueError(f"panels is {panels}, and a figure needs at least 1: no run was found")
    rows = -(-panels // columns)
    columns = -(-panels // rows)
    deep = len(heights)
    size = (max(width * columns, 5.6) + 0.3, rows * (unit * sum(heights) + 0.75) + 0.5)
    layout = ConstrainedLayoutEngine(h_pad=0.045, w_pad=0.06, hspace=0.02, wspace=0.03)
    figure = Figure(figsize=size, layout=layout)
    grid = figure.add_gridspec(rows * deep, columns, height_ratios=list(heights) * rows)
    stacks = []
    for panel in range(panels):
        row, column = divmod(panel, columns)
        stack: list[Axes] = []
        for level in range(deep):
            shared = stack[0] if stack else None
            axes = figure.add_subplot(grid[row * deep + level, column], sharex=shared)
            axes.tick_params(labelbottom=level == deep - 1)
            stack.append(axes)
        stacks.append(tuple(stack))
    letter([stack[0] for stack in stacks] if panels > 1 else stacks[0])
    return figure, stacks


def letter(panels: Sequence[Axes]) -> None:
    """Mark panels a, b, c, … in bold at their upper left corners; one panel alone has no letter."""
    for place, axes in enumerate(panels if len(panels) > 1 else ()):
        axes.annotate(
            ascii_lowercase[place % 26] * (1 + place // 26),
            (0, 1),
            xytext=(-10, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            fontweight="bold",
            fontsize=10.5,
            gid=LETTER,
        )


def note(axes: Axes, text: str, low: bool = False, outside: bool = False) -> None:
    """A remark in small grey letters at the right of a panel, at its upper or its lower edge.

    Its ground dims the curves that it lies on; `outside`, beyond that edge, it lies on none.
    """
    axes.annotate(
        text,
        (0.99, 0.0 if low else 1.0),
        xytext=(0, 2 if low != outside else -2),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom" if low != outside else "top",
        fontsize=7.5,
        color=GREY,
        zorder=6,
        bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.0},
    )


def common_limits(panels: Sequence[Axes]) -> None:
    """Give y axes that are compared the limits that hold all of theirs."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def left_column(stacks: Sequence[tuple[Axes, ...]]) -> list[tuple[Axes, ...]]:
    """Stacks at the left edge, which alone carry the labels of the y axes."""
    places = ((stack, stack[0].get_subplotspec()) for stack in stacks)
    return [stack for stack, place in places if place is not None and place.is_first_col()]


def label_rows(stacks: Sequence[tuple[Axes, ...]], *labels: str) -> None:
    """Name the y axes, level by level, at the left edge only."""
    for stack in left_column(stacks):
        for axes, label in zip(stack, labels, strict=True):
            axes.set_ylabel(label)
        stack[0].figure.align_ylabels(stack)


def draw_seeds(
    axes: Axes,
    curves: pd.DataFrame,
    strong: int,
    colour: str,
    linestyle: str | tuple = "-",
    label: str | None = None,
    width: float = 1.2,
) -> Line2D:
    """Draw every seed faintly and one in full; return the strong line.

    Seeds are never averaged: at the edge of stability their oscillations are out of phase and a
    mean would hide them.

    Args:
        axes: where to.
        curves: steps as the index, a column a seed.
        strong: seed that is drawn in full.
        colour: of all lines.
        linestyle: of the strong line.
        label: of the strong line in the legend.
        width: of the strong line.

    Returns:
        The strong line.
    """
    return _draw(
        axes,
        curves,
        strong,
        {"color": colour, "linewidth": 0.5, "alpha": 0.28, "zorder": 1.5},
        {"color": colour, "linestyle": linestyle, "linewidth": width, "label": label, "zorder": 3},
    )


def draw_apart(
    axes: Axes,
    curves: pd.DataFrame,
    strong: int,
    colour: str,
    marker: str = "o",
    label: str | None = None,
) -> Line2D:
    """As `draw_seeds`, of what was recorded now and then: a marker a record, and nothing between.

    A line through such records would say what nobody measured.
    """
    look = {"marker": marker, "linestyle": "none", "color": colour, "markeredgewidth": 0}
    return _draw(
        axes,
        curves,
        strong,
        look | {"markersize": 2.2, "alpha": 0.35, "zorder": 1.6},
        look | {"markersize": 3.6, "label": label, "zorder": 3.5},
    )


def _draw(
    axes: Axes,
    curves: pd.DataFrame,
    strong: int,
    faint: Mapping[str, Any],
    full: Mapping[str, Any],
) -> Line2D:
    """Draw all seeds, one in full with its own look; its line."""
    for seed in curves.columns:
        if seed != strong:
            drawn = curves[seed].dropna()
            axes.plot(drawn.index, drawn, **faint)
    drawn = curves[strong].dropna()
    return axes.plot(drawn.index, drawn, **full)[0]


def draw_threshold(axes: Axes, threshold: float | pd.Series, label: str = "2/η") -> Line2D | None:
    """Draw a stability threshold, a number or a curve by step, as a dashed black line, if any."""
    look = {"color": BLACK, "linestyle": (0, (5, 2.5)), "linewidth": 0.9, "zorder": 2.5}
    if isinstance(threshold, pd.Series):
        moving = {"drawstyle": "steps-post", "label": label}
        return axes.plot(threshold.index, threshold, **moving, **look)[0]
    if not np.isfinite(threshold):
        return None
    return axes.axhline(threshold, label=label, **look)


def draw_moment(axes: Axes, step: float | None, label: str) -> Line2D | None:
    """Draw a dotted vertical line at a step; nothing if there was no such step."""
    if step is None or not np.isfinite(step):
        return None
    return axes.axvline(step, color=GREY, linestyle=":", linewidth=1.0, label=label, zorder=1)


def sharpness_top(curves: pd.DataFrame, threshold: float | pd.Series) -> float:
    """Upper end of a sharpness axis: the data's, but at most `CUT` times the threshold.

    A run that diverges passes through values that would flatten everything else.
    """
    seen = [float(value) for value in (curves.max().max(), np.min(threshold)) if np.isfinite(value)]
    top, cut = 1.06 * max(seen, default=1.0), CUT * float(np.max(threshold))
    return min(top, cut) if np.isfinite(cut) else top


def positive(curves: pd.DataFrame) -> pd.DataFrame:
    """Mask what a logarithmic axis cannot show."""
    return curves.where(curves > 0)


def log_limits(axes: Axes, curves: pd.DataFrame, decades: float = 6.0) -> None:
    """Set a logarithmic y axis to the data's range, but to at most `decades` below its peak.

    A quantity that passes through zero would otherwise stretch its axis over many empty decades. An
    axis of more than three has ticks at powers of ten alone.
    """
    values = curves.to_numpy(float)
    values = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if values.size:
        low = max(values.min(), values.max() * 10.0**-decades)
        axes.set_ylim(0.7 * low, 1.5 * values.max())
        if low < 1e-3 * values.max():
            axes.yaxis.set_minor_locator(LogLocator(subs=(1.0,), numticks=99))
            axes.yaxis.set_minor_formatter(NullFormatter())


_SUBS = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 1.2, 1.5, *range(2, 10))


def plain_log_ticks(axes: Axes) -> None:
    """Label a logarithmic y axis of fewer than two decades at 1, 2 and 5 times powers of ten.

    Closer where that gives fewer than three labels. With powers of ten alone such an axis has one
    label, or none; matplotlib's own labels between them are of the form 6 × 10⁻¹ and crowd. Wider
    axes are left as they are.
    """
    low, high = axes.get_ylim()
    if 0 < low < high < 100 * low:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
        for subs in _SUBS:
            ticks = np.outer(decades, subs)
            if ((low <= ticks) & (ticks <= high)).sum() >= 3:
                break
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def legend_in(axes: Axes, handles: Sequence[Artist | None], drop: float = 0.19) -> None:
    """A panel's own legend, each label once, below its x axis and not wider than the panel.

    Args:
        axes: the panel, one of a grid.
        handles: what to explain; None is left out.
        drop: how far below the panel it begins, in heights of the panel.
    """
    unique = {handle.get_label(): handle for handle in handles if handle is not None}
    place = axes.get_subplotspec()
    if unique and place is not None:
        width = cast("Figure", axes.figure).get_figwidth() / place.get_gridspec().ncols - 0.7
        longest = max(len(str(text)) for text in unique)
        axes.legend(
            handles=list(unique.values()),
            loc="upper left",
            bbox_to_anchor=(0, -drop),
            ncols=max(1, min(int(width / (0.45 + 0.06 * longest)), len(unique))),
            columnspacing=1.4,
            borderaxespad=0,
            fontsize=8,
        )


def legend_below(figure: Figure, handles: Sequence[Artist | None]) -> None:
    """One legend for panels that share it, below the data, each label once."""
    unique = {handle.get_label(): handle for handle in handles if handle is not None}
    if unique:
        longest = max(len(str(text)) for text in unique)
        fitting = int(figure.get_figwidth() / (0.55 + 0.065 * longest))
        figure.legend(
            handles=list(unique.values()),
            loc="outside lower center",
            ncols=max(1, min(fitting, len(unique))),
            columnspacing=1.6,
        )


@house
def save(
    figure: Figure,
    png_path: str | os.PathLike,
    pdf_path: str | os.PathLike,
    svg_path: str | os.PathLike,
) -> None:
    """Write a figure as PNG, as PDF (vectors, embedded TrueType fonts) and as SVG (`scalable`).

    No file carries a date or a version, so that the same figure gives the same bytes. The PNG has
    256 colours, chosen for the figure, which makes it a third of the size. The figure's layout is
    settled once, for all, and stays as it is.
    """
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        # with none at all, a file is drawn once: for a placeholder as for an engine it is twice
        with matplotlib.rc_context({"figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)
    rendered = io.BytesIO()
    figure.savefig(rendered, format="png")
    picture = Image.open(rendered).convert("RGB")
    _reduce(picture).save(png_path, format="PNG", optimize=True)
    undated = {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None}
    figure.savefig(pdf_path, format="pdf", metadata=undated)
    Path(svg_path).write_text(scalable(figure), encoding="utf-8")


@house
def scalable(figure: Figure) -> str:
    """The figure as SVG that may stand inside a page of any colour scheme, or alone.

    Text stays text. Whatever is black takes the colour of the text around it (`currentColor`, black
    where the file stands alone), and the ground is transparent. Identifiers are the figure's own,
    so that many may stand in one page; paths are exact to a hundredth of a point. Curves of more
    than `DENSE` records become pictures inside it, unless they are black.
    """
    dense = [line for line in figure.findobj(Line2D) if _is_dense(line)]
    for line in dense:
        line.set_rasterized(True)
    drawn = io.StringIO()
    undated = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(drawn, format="svg", metadata=undated, transparent=True)
    for line in dense:
        line.set_rasterized(False)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    used = set(re.findall(r"#([\w-]+)[\")]", text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{own}-{m[1]}"' * (m[1] in used), text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{own}-", text)
    text = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), text)
    text = text.replace("#000000", "currentColor").replace("<svg ", '<svg fill="currentColor" ', 1)
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def _is_dense(line: Line2D) -> bool:
    return np.size(line.get_xdata()) > DENSE and to_hex(line.get_color()) != BLACK


_PACKED = np.array([1 << 16, 1 << 8, 1])
"""Makes one number of red, green and blue."""


def _reduce(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours: the commonest are kept exactly, so that flat areas are too.

    The others, of blended edges, go to the nearest of these and of 96 that cover the whole range.
    """
    spread = picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    cover = np.array((spread.getpalette() or [])[: 3 * 96], dtype=np.int64).reshape(-1, 3)
    # counted and looked up rather than sorted: there are ten million pixels of few colours
    counted = picture.getcolors(picture.width * picture.height) or []
    found = sorted((rgb, count) for count, rgb in counted)
    colours = np.array([rgb for rgb, _ in found], dtype=np.int64)
    counts = np.array([count for _, count in found])
    common = colours[np.argsort(-counts, kind="stable")[: 256 - len(cover)]]
    palette = np.concatenate([common, cover])
    nearest = ((palette**2).sum(1) - 2 * colours @ palette.T).argmin(1).astype(np.uint8)
    table = np.zeros(1 << 24, dtype=np.uint8)
    table[colours @ _PACKED] = nearest
    reduced = Image.fromarray(table[np.asarray(picture) @ _PACKED.astype(np.int32)])
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced
