"""The sharpness at the end against the share of wrong labels."""

from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

from ..claims.difficulty import end_of

TITLE = "The sharpness at the end against the share of wrong labels"
READS = ("hessian_sharpness",)
(SHARPNESS,) = READS


@style.house
def draw(tables: results.Tables) -> Figure:
    """λ₁ over the last third against the share of wrong labels, a colour a learning rate."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    chosen = results.networks(tables, SHARPNESS)
    rates = sorted({n.learning_rate for n in chosen})
    handles = []
    for place, rate in enumerate(rates):
        for network in (n for n in chosen if n.learning_rate == rate):
            mark = ensemble.draw_points(
                axes,
                _share(network),
                _ends(tables, network),
                base.confidence(tables),
                style.PALETTE[place],
                style.MARKERS[place],
                f"η = {base.number(rate)}",
            )
            handles.append(mark)
    low, high = axes.get_ylim()
    for network in chosen:
        if low <= network.threshold <= high:
            handles.append(style.draw_threshold(axes, network.threshold, "2/η, where it is seen"))
    axes.set(xlabel="share of wrong labels (%)", ylabel="λ₁, mean of the last third")
    axes.set_ylim(bottom=0)
    style.legend_below(figure, handles)
    return figure


def _share(network: results.Network) -> float:
    return 100 * float(network.setting("data.label_noise"))


def _ends(tables: results.Tables, network: results.Network) -> list[float]:
    curves = results.curves(tables, network, SHARPNESS)
    return [end_of(curves[seed].to_numpy()) for seed in curves.columns]


def _text(tables: results.Tables, network: results.Network) -> str:
    return ensemble.interval_text(_ends(tables, network), base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, and the levels."""
    chosen = results.networks(tables, SHARPNESS)
    said = (f"{base.number(_share(n))} %: {_text(tables, n)}" for n in chosen)
    return (
        "The sharpness at the end of training over the share of wrong labels, for small steps and "
        f"for large ones, whose threshold is dashed. Levels: {'; '.join(said)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Levels by case."""
    columns = {
        "wrong labels": lambda n: f"{base.number(_share(n))} %",
        "λ₁ at the end": lambda n: _text(tables, n),
        "2/η": lambda n: base.number(n.threshold),
    }
    return base.numbers_table(tables, results.networks(tables, SHARPNESS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "λ₁ at the end of gradient descent with small steps, and (the control) with steps at whose "
        "threshold (dashed) all runs end.",
        base.points_sentence(tables),
        base.scale_sentence(tables),
    )
