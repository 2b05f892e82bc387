"""What stands in the place of a figure that could not be drawn, and says so."""

import textwrap
from typing import Any

from matplotlib.figure import Figure

from sharpflow.figures import style


@style.house
def draw(title: str, reason: str) -> Figure:
    """A picture without data: that the figure could not be drawn, and why."""
    figure = Figure(figsize=(6.6, 1.8))
    # a message may hold signs that matplotlib would read as mathematics
    said = {"ha": "center", "va": "center", "parse_math": False}
    figure.text(0.5, 0.78, f"{title}: this figure could not be drawn", weight="bold", **said)
    figure.text(0.5, 0.38, textwrap.fill(textwrap.shorten(reason, 360), 90), **said)
    return figure


def words(title: str, published: str, reason: str, log: str) -> dict[str, Any]:
    """As `figures.base.words`, with `failed`: why there is nothing to see.

    Args:
        title: of the figure.
        published: number of the paper's figure that it would be; empty where it is none.
        reason: a sentence.
        log: path of the log, from the results folder on.
    """
    return {
        "title": title,
        "caption": f"This figure could not be drawn: {reason} The next run tries it again; its log "
        f"is {log} in the results folder.",
        "published": published,
        "alt": "No figure: it could not be drawn, and the caption says why.",
        "numbers": None,
        "failed": reason,
    }
