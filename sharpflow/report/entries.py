"""What the page is given besides tables: figures and tables of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from sharpflow.report.text import anchor

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FigureEntry:
    """A figure as the page shows it.

    Attributes:
        name, paper: name of the figure and key of its paper; together they are unique on a page.
        title, caption: plain text.
        png: the picture.
        experiments: names of the experiments that it draws.
        command: command that rebuilds this figure alone.
        published, alt, numbers: as `figures.base.words` gives them.
        svg: the picture as SVG, which is shown in place of the other where it is given.
        drawn: what it read while it was drawn: by experiment, a list of case, width, learning rate
            and quantity.
        links: addresses of its files, tables and code, relative to the page, by what they are.
        failed: why there is no figure but a picture that says so; the caption tells it too.
    """

    name: str
    paper: str
    title: str
    caption: str
    png: bytes
    experiments: list[str] = field(default_factory=list)
    command: str = ""
    published: str = ""
    alt: str = ""
    numbers: Mapping[str, Sequence[Any]] | None = None
    svg: bytes = b""
    drawn: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""

    @property
    def anchor(self) -> str:
        """Fragment identifier of the figure's section."""
        return anchor("figure", self.paper, self.name)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the PNG in pixels, from its header; None if that is cut off."""
        if len(self.png) < 24:
            return None
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


class TableEntry(NamedTuple):
    """A table as the page shows it: a heading, its numbers, and what they mean (plain text)."""

    title: str
    frame: pd.DataFrame
    note: str = ""
