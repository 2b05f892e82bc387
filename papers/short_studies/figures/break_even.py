"""The largest sharpness on the trajectory of SGD, and its time, against η/S."""

import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "The sharpest point of the trajectory of SGD against η/S"
READS = ("hessian_sharpness",)
(SHARPNESS,) = READS
NEAR = 0.9
"""The peak has come where the sharpness is this share of it, as the claim has it."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """The peak of λ₁ (left) and its step (right) against η/S."""
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    heights, times = figure.subplots(1, 2)
    style.letter([heights, times])
    chosen = _chosen(tables)
    cases = list(dict.fromkeys(n.case for n in chosen))
    handles = []
    for axes in (heights, times):
        axes.set_xscale("log")
    for network in chosen:
        place = cases.index(network.case)
        for axes, values in zip((heights, times), _peaks(tables, network), strict=True):
            mark = ensemble.draw_points(
                axes,
                _ratio(network),
                values,
                base.confidence(tables),
                style.PALETTE[place],
                style.MARKERS[place],
                base.case(network, chosen),
            )
            handles.append(mark)
    heights.set_yscale("log")
    for axes, name in ((heights, "largest λ₁"), (times, "step at which it comes")):
        axes.set(xlabel="η/S", ylabel=name)
    style.plain_log_ticks(heights)
    times.set_ylim(bottom=0)  # no step is negative, though an interval of five may be
    style.legend_below(figure, handles)
    return figure


def _chosen(tables: results.Tables) -> list[results.Network]:
    return results.networks(tables, SHARPNESS)


def _ratio(network: results.Network) -> float:
    return network.learning_rate / (network.batch or 1)


def _peaks(tables: results.Tables, network: results.Network) -> tuple[pd.Series, pd.Series]:
    """Of each seed the largest λ₁, and the step of the first record near it."""
    curves = results.curves(tables, network, SHARPNESS)
    near = curves >= NEAR * curves.max()
    return curves.max(), near.idxmax().astype(float)


def alt(tables: results.Tables) -> str:
    """What is seen."""
    batched = [n for n in _chosen(tables) if not n.case.startswith("slow")]
    ordered = sorted(batched, key=_ratio)
    first, last = (_peaks(tables, n)[0].mean() for n in (ordered[0], ordered[-1]))
    return (
        "Left, the largest sharpness of each run falls over the learning rate divided by the batch "
        f"size, from {base.number(first)} to {base.number(last)} in the mean; right, the step at "
        "which it comes. A slow sweep stands at the left of both panels."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Peaks and their steps."""
    level = base.confidence(tables)
    columns = {
        "largest λ₁": lambda n: ensemble.interval_text(_peaks(tables, n)[0], level),
        "step": lambda n: ensemble.interval_text(_peaks(tables, n)[1], level),
    }
    return base.numbers_table(tables, _chosen(tables), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Largest λ₁ on the trajectory, and the step at which λ₁ comes to 0.9 of it. The slow sweep "
        "is the control: there training ends before the break-even point.",
        base.points_sentence(tables),
        ensemble.scale_sentence(tables),
    )
