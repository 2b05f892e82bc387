"""The loss beside the part of the residual that is orthogonal to v₁ (Li et al., 2022)."""

import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, style
from sharpflow.results import tables as results

TITLE = "Loss and the rest of the residual"
READS = ("gauss_newton_sharpness", "rest_norm_squared", "residual_along_v1")

REST = "rest_norm_squared"
ALONG = "residual_along_v1"
DECADES = 6
"""Shown of the part along v₁, which passes through zero."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """Loss and ‖R‖²/n above, (Dᵀv₁)²/n below, on logarithmic axes; a stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 2.2))
    handles = []
    drawn = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        n = results.samples(tables, network)
        loss = style.positive(results.curves(tables, network, "loss"))
        rest = style.positive(results.curves(tables, network, REST) / n)
        along = style.positive(results.curves(tables, network, ALONG) ** 2 / n)
        strong = results.strong_seed(tables, network, REST)
        crossing = edge.crossing_step(tables, network, strong)
        handles += [
            style.draw_seeds(above, loss, strong, style.VERMILION, label="loss ‖D‖²/n", width=0.9),
            style.draw_seeds(above, rest, strong, style.BLACK, (0, (4, 1)), "‖R‖²/n", 1.4),
            style.draw_seeds(below, along, strong, style.BLUE, label="(Dᵀv₁)²/n", width=0.9),
        ]
        for axes in (above, below):
            moment = f"Λ first reaches {network.threshold_symbol}"
            handles.append(style.draw_moment(axes, crossing, moment))
        above.set_yscale("log")
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(0, float(loss.index.max())))
        drawn.append(along)
    for (_, below), along in zip(stacks, drawn, strict=True):
        style.log_limits(below, pd.concat(drawn), DECADES)
        if (along < below.get_ylim()[0]).any(axis=None):
            style.note(below, f"cut {DECADES} decades below the peak", outside=True)
    style.common_limits([above for above, _ in stacks])
    for above, _ in stacks:
        style.plain_log_ticks(above)
    style.label_rows(stacks, "‖D‖²/n, ‖R‖²/n", "(Dᵀv₁)²/n")
    style.legend_below(figure, handles)
    return figure


def alt(tables: results.Tables) -> str:
    """What is seen."""
    chosen = results.networks(tables, *READS)
    return (
        f"{len(chosen)} panels of curves on logarithmic axes, one a network. Above, the loss, with "
        "peaks, and the rest of the residual as a dashed line below it; under it, the part along "
        "the top eigenvector, which has its peaks where the loss has. The rest falls at "
        f"{base.percent(round(min(_falls(tables, n)[1] for n in chosen), 2))} of the steps or more."
    )


def _falls(tables: results.Tables, network: results.Network) -> tuple[float, float]:
    """Share of steps at which the loss falls, and at which ‖R‖² does: medians over seeds."""
    loss, rest = (
        (results.curves(tables, network, quantity).diff().iloc[1:] < 0).mean().median()
        for quantity in ("loss", REST)
    )
    return float(loss), float(rest)


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """How often the loss and the rest fall."""
    return base.numbers_table(
        tables,
        results.networks(tables, *READS),
        {
            "2/η": lambda n: base.number(n.threshold),
            "records at which the loss falls": lambda n: f"{100 * _falls(tables, n)[0]:.0f} %",
            "‖R‖² falls": lambda n: f"{100 * _falls(tables, n)[1]:.0f} %",
        },
    )


def caption(tables: results.Tables) -> str:
    """What is drawn, how the residual is split, and the scale."""
    symbols = base.symbols(results.networks(tables, *READS))
    return base.join(
        "The residual D = F − Y is split along the top eigenvector v₁ of J Jᵀ: D = (Dᵀv₁) v₁ + R. "
        "Above: loss ‖D‖²/n and ‖R‖²/n (dashed). Below: their difference (Dᵀv₁)²/n. Dotted "
        f"vertical line: Λ of the strong line first reaches {symbols}.",
        base.seeds_sentence(tables, REST),
        base.stride_sentence(tables, {"loss": "loss", REST: "‖R‖² and Dᵀv₁"}),
        base.scale_sentence(tables),
    )
