"""Products of scalars under gradient descent from above the stability threshold."""

from matplotlib.figure import Figure

from sharpflow.figures import base, edge, ensemble, style
from sharpflow.results import tables as results

TITLE = "Four scalars end just below the threshold, two far below"
READS = ("hessian_sharpness",)
(SHARPNESS,) = READS


@style.house
def draw(tables: results.Tables) -> Figure:
    """λ₁ over 2/η in time, a colour a product."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    chosen = results.networks(tables, SHARPNESS)
    handles = []
    for place, network in enumerate(chosen):
        colour, dashes = style.look(place)
        ratio = results.relative(tables, network, SHARPNESS)
        strong = results.strong_seed(tables, network, SHARPNESS)
        label = base.case(network, chosen)
        handles.append(edge.draw_sharpness(axes, ratio, strong, colour, dashes, label))
    handles.append(style.draw_threshold(axes, 1.0, "threshold 2/η"))
    axes.set(xlabel="step", ylabel=edge.unit(chosen).label("λ₁"), ylim=(0, None))
    axes.set_xlim(0, max(results.curves(tables, n, SHARPNESS).index.max() for n in chosen))
    style.legend_below(figure, handles)
    return figure


def _end(tables: results.Tables, network: results.Network) -> str:
    ratio = results.relative(tables, network, SHARPNESS).iloc[-1]
    return f"{ratio.min():.4g} to {ratio.max():.4g}"


def alt(tables: results.Tables) -> str:
    """What is seen, and where it ends."""
    chosen = results.networks(tables, SHARPNESS)
    ends = (f"{base.case(n, chosen)} at {_end(tables, n)}" for n in chosen)
    return (
        "Curves of the sharpness over the threshold that start above one and come down to it or "
        f"below, a band of seeds for each product. Ends: {'; '.join(ends)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Where each product starts and ends."""

    def start(network: results.Network) -> str:
        ratio = results.relative(tables, network, SHARPNESS).iloc[0]
        return f"{ratio.min():.3g} to {ratio.max():.3g}"

    chosen = results.networks(tables, SHARPNESS)
    columns = {"λ₁η/2 at the start": start, "at the end": lambda n: _end(tables, n)}
    return base.numbers_table(tables, chosen, columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Gradient descent on (1 − Πθᵢ)² from starts whose λ₁ is above 2/η (dashed), for products "
        "of four and of two scalars; the latter are a factorisation of the number 1.",
        edge.means_sentence(
            results.relative(tables, n, SHARPNESS) for n in results.networks(tables, SHARPNESS)
        ),
        base.seeds_sentence(tables, SHARPNESS),
        ensemble.scale_sentence(tables, width=False),
    )
