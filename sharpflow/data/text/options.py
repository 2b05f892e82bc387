"""Options of a user's text."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import DataOptions, Form, UserPath, Words


class Options(DataOptions):
    """Windows of a text file, for the prediction of each next character."""

    path: Annotated[str, UserPath("data")]
    """A text file in UTF-8. Its distinct characters, sorted, are the vocabulary."""
    length: Annotated[int, Field(ge=1, le=100_000)]
    """Characters T of a window; its labels are the characters one place further on."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of windows n, the first of the text; `null` takes all."""
    stride: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Characters from the start of a window to that of the next one; by default `length`."""

    def form(self) -> Form:
        """The form of its samples."""
        return Form("tokens", (self.length,), None, "classes", self.samples)

    def capabilities(self) -> Words:
        """What its datasets have beyond inputs and targets."""
        return frozenset({"finite samples"})
