"""The Hessian's largest eigenvalue over 2/η in every architecture, on one axis."""

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from sharpflow.figures import base, edge, ensemble, style
from sharpflow.results import tables as results
from sharpflow.results.crossings import sharpness_summary
from sharpflow.results.edge import BAND_HIGH, BAND_LOW

TITLE = "The Hessian's largest eigenvalue against 2/η, by architecture"
READS = ("hessian_sharpness",)
DRAWS = ("loss",)
(SHARPNESS,) = READS
(LOSS,) = DRAWS


@style.house
def draw(tables: results.Tables) -> Figure:
    """λ₁η/2 above and the loss below, a stack a network; all stacks share the upper axis."""
    chosen = results.networks(tables, SHARPNESS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.0, 1.5))
    unit = edge.unit(chosen)
    handles: list[Artist | None] = []
    frames = []
    for network, (above, below) in zip(chosen, stacks, strict=True):
        ratio = results.relative(tables, network, SHARPNESS)
        strong = results.strong_seed(tables, network, SHARPNESS)
        words = f"{BAND_LOW:g} to {BAND_HIGH:g} of 2/η"
        handles += [
            above.axhspan(
                BAND_LOW, BAND_HIGH, color=style.GREY, alpha=0.16, linewidth=0, label=words
            ),
            edge.draw_sharpness(above, ratio, strong, style.BLUE, label="λ₁η/2"),
            style.draw_threshold(above, 1.0, "2/η"),
        ]
        loss = style.positive(results.curves(tables, network, LOSS))
        handles.append(style.draw_seeds(below, loss, strong, style.GREEN, label="loss", width=0.7))
        style.log_limits(below, loss)
        style.plain_log_ticks(below)
        threshold = base.number(network.threshold)
        above.set_title(f"{base.spelled(network.case)}, 2/η = {threshold}")
        below.set(xlabel="step", xlim=(0, float(ratio.index.max())))
        frames.append(ratio)
    unit.limit([above for above, _ in stacks], frames, [1.0] * len(frames))
    style.label_rows(stacks, unit.label("λ₁"), "loss")
    style.legend_below(figure, handles)
    return figure


def _level(tables: results.Tables, network: results.Network) -> str:
    """Mean over the last third of each seed, with its interval."""
    ratio = results.relative(tables, network, SHARPNESS)
    steps = ratio.index.to_numpy(float)
    ends = [sharpness_summary(steps, ratio[seed], 1.0).end_mean for seed in ratio.columns]
    return ensemble.interval_text(ends, base.confidence(tables))


def alt(tables: results.Tables) -> str:
    """What is seen, with the levels."""
    chosen = results.networks(tables, SHARPNESS)
    levels = ", ".join(f"{base.case(n, chosen)} {_level(tables, n)}" for n in chosen)
    return (
        "A stack a network: above, the largest Hessian eigenvalue over the threshold with a grey "
        f"band about one; below, the loss. Means over the last third: {levels}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Levels."""

    def start(network: results.Network) -> str:
        ratio = results.relative(tables, network, SHARPNESS).iloc[0]
        return f"{ratio.min():.2f} to {ratio.max():.2f}"

    columns = {
        "2/η": lambda n: base.number(n.threshold),
        "λ₁η/2 at the start": start,
        "mean of the last third": lambda n: _level(tables, n),
    }
    return base.numbers_table(tables, results.networks(tables, SHARPNESS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "Above: λ₁ of the Hessian over 2/η (dashed), one axis for all. Below: the loss. Slow runs, "
        "which end before the edge, are the controls.",
        edge.means_sentence(
            results.relative(tables, n, SHARPNESS) for n in results.networks(tables, SHARPNESS)
        ),
        base.seeds_sentence(tables, SHARPNESS),
        base.scale_sentence(tables),
    )
