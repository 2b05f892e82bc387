"""Which figure draws what a claim is judged on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sharpflow.report.entries import FigureEntry

Read = Sequence[Any]
"""Case, width, learning rate and quantity that a figure read of an experiment while drawing."""


def places(
    figures: Sequence[FigureEntry],
    judged: Mapping[str, Sequence[Mapping[str, Any]]],
    experiments: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str], str]:
    """The figure beside which each claim stands: the first of its paper that drew all its data.

    Args:
        figures: in the paper's order.
        judged: claims by experiment, each with its `name`, the quantities that it `reads` and the
            `cases` that it is about.
        experiments: settings, with `paper` and the widths and learning rates of all `cases`.

    Returns:
        Anchors of figures by experiment and claim; a claim that no figure draws is not in it.
    """
    found = {}
    for experiment, claims in judged.items():
        settings = experiments[experiment]
        own = [figure for figure in figures if figure.paper == settings["paper"]]
        drawn = {figure.anchor: _keys(figure.drawn.get(experiment, ())) for figure in own}
        for claim in claims:
            wanted = {
                (case, int(width), float(rate), quantity)
                for case in claim["cases"]
                for width in settings["cases"][case]["widths"]
                for rate in settings["cases"][case]["learning_rates"]
                for quantity in claim["reads"]
            }
            for anchor, read in drawn.items():
                if wanted and wanted <= read:
                    found.setdefault((experiment, claim["name"]), anchor)
    return found


def _keys(read: Iterable[Read]) -> set[tuple[str, int, float, str]]:
    return {(str(c), int(width), float(rate), str(q)) for c, width, rate, q in read}
