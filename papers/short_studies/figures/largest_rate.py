"""Which learning rates train, with and without a warm-up."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "Which learning rates train, with and without a warm-up"
READS = ("loss",)
LEARNT = 0.5
"""A run that trains ends below this share of its first loss, as the claim has it."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """The share of runs that train against the learning rate, a line a schedule."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    chosen = results.networks(tables)
    handles = []
    for place, case in enumerate(dict.fromkeys(n.case for n in chosen)):
        colour, dashes = style.look(place)
        own = sorted((n for n in chosen if n.case == case), key=lambda n: n.learning_rate)
        shares = [sum(_train(tables, n)) / len(_train(tables, n)) for n in own]
        rates = [n.learning_rate * 1.04 ** (place - 1.5) for n in own]
        handles += axes.plot(
            rates,
            shares,
            color=colour,
            linestyle=dashes,
            marker=style.MARKERS[place],
            markersize=5,
            linewidth=1.1,
            label=base.case(own[0], chosen),
        )
    axes.set(xlabel="learning rate η", ylabel="share of runs that train", ylim=(-0.05, 1.05))
    axes.set_xticks(sorted({n.learning_rate for n in chosen}))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.legend_below(figure, handles)
    return figure


def _train(tables: results.Tables, network: results.Network) -> list[bool]:
    """Of each seed, whether it ends below `LEARNT` of its first loss."""
    loss = results.curves(tables, network, "loss")
    gone = results.diverged(tables, network)
    ends = (loss[seed].iloc[-1] <= LEARNT * loss[seed].iloc[0] for seed in loss.columns)
    return [bool(end) and seed not in gone for seed, end in zip(loss.columns, ends, strict=True)]


def alt(tables: results.Tables) -> str:
    """What is seen."""
    return (
        "Lines of the share of runs that train over the learning rate, a line a schedule; they "
        "fall from left to right, with the warm-up, without it, and with one of a single step."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """How many runs train."""
    columns = {"runs that train": lambda n: f"{sum(_train(tables, n))} of {len(_train(tables, n))}"}
    return base.numbers_table(tables, results.networks(tables), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "A run trains that ends below half of its first loss. The short warm-up of one step, "
        "beside its own constant rate, is the control. Markers are set side by side.",
        ensemble.scale_sentence(tables),
    )
