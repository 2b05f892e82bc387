"""The loss beside the part of the residual that is orthogonal to v₁ (Li et al., 2022)."""

from matplotlib.figure import Figure

from sharpflow.figures import base, edge, style
from sharpflow.results import tables as results

TITLE = "Loss and the rest of the residual"
READS = ("gauss_newton_sharpness", "rest_norm_squared", "residual_along_v1")

REST = "rest_norm_squared"
ALONG = "residual_along_v1"


@style.house
def draw(tables: results.Tables) -> Figure:
    """Loss and ‖R‖²/n above, (Dᵀv₁)²/n below, on logarithmic axes; a stack of panels a network."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.2, 2.2))
    handles = []
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
        style.plain_log_ticks(above)
        style.log_limits(below, along)
        above.set_title(base.label(network, chosen))
        below.set(xlabel="step", xlim=(0, float(loss.index.max())))
    style.label_rows(stacks, "loss and rest", "along v₁")
    style.legend_below(figure, handles)
    return figure


def caption(tables: results.Tables) -> str:
    """What is drawn, how the residual is split, and the scale."""
    symbols = base.symbols(results.networks(tables, *READS))
    return base.join(
        "The residual D = F − Y is split along the top eigenvector v₁ of the Gram matrix J Jᵀ: "
        "D = (Dᵀv₁) v₁ + R. Above: the loss ‖D‖²/n (full) and ‖R‖²/n (dashed). Below: their "
        "difference (Dᵀv₁)²/n, at most six decades of it. All axes are logarithmic. Dotted "
        f"vertical line: first step at which the sharpness Λ of the strong line reaches {symbols}.",
        base.seeds_sentence(tables, REST),
        base.stride_sentence(tables, {"loss": "loss", REST: "‖R‖² and Dᵀv₁"}),
        base.scale_sentence(tables),
    )
