"""The loss, and the sharpness below it."""

from sharpflow.figures import base, style
from sharpflow.results import tables as results

TITLE = "Loss and sharpness"
READS = ("loss", "gauss_newton_sharpness")  # a figure is refused where these are not measured


@style.house
def draw(tables):
    """One column a network, one line a seed, the strong one is the lowest that stayed finite."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(2.0, 2.0))
    for network, panels in zip(chosen, stacks, strict=True):
        strong = results.strong_seed(tables, network)
        for axes, quantity in zip(panels, READS, strict=True):
            curves = results.curves(tables, network, quantity)
            style.draw_seeds(axes, curves, strong, style.BLUE, label=quantity)
        panels[0].set_title(base.label(network, chosen))
        panels[1].set_xlabel("step")
    style.label_rows(stacks, "loss", "sharpness")
    return figure


def caption(tables):
    """What is drawn, and at what scale."""
    return base.join("Above: loss. Below: sharpness.", base.scale_sentence(tables))
