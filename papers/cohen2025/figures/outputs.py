"""The network's outputs: training, its central flow and gradient flow as functions."""

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, style
from sharpflow.parts.processes import DISCRETE
from sharpflow.results import tables as results

from ..claims.central_flow import CENTRAL, GRADIENT
from .central_flow import LOOKS, chosen

TITLE = "Outputs of the network along training and along its flows"
READS = ("output",)
BESIDE = {"central": ("output", "distance"), "gradient": ("output",)}

SHOWN = (0, 1, 2)
"""Outputs that are drawn, from below."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Some outputs of each network, one seed."""
    networks = [n for n in chosen(tables) if not results.curves(tables, n, "output").empty]
    figure, stacks = style.panel_grid(len(networks), heights=(1.6,) * len(SHOWN))
    handles: list[Artist | None] = []
    for network, stack in zip(networks, stacks, strict=True):
        strong = results.strong_seed(tables, network)
        for axes, index in zip(stack, SHOWN, strict=True):
            for process in (DISCRETE, GRADIENT, CENTRAL):
                label, colour, dashes = LOOKS[process]
                curve = results.curves(tables, network, "output", index, process)
                if strong in curve:
                    one = curve[[strong]].dropna()
                    handles.append(style.draw_seeds(axes, one, strong, colour, dashes, label))
        stack[0].set_title(base.label(network, networks))
        last = results.curves(tables, network, "loss").index.max()
        stack[-1].set(xlabel="step", xlim=(0, float(last)))
    style.label_rows(stacks, *(f"output {1 + index}" for index in SHOWN))
    style.legend_below(figure, handles)
    return figure


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "A column a network, a row a sample. Past the edge training's output swings; the central "
        "flow's goes through the middle of it, and gradient flow's goes away from both."
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Outputs for three of the samples, of the lowest finite seed: the same weights started "
        "training and both flows.",
        base.stride_sentence(tables, {"output": "outputs"}),
        base.scale_sentence(tables),
    )
