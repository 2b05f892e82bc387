"""Options of photos."""

from typing import Annotated

from pydantic import Field, model_validator

from sharpflow.data import balance
from sharpflow.data.class_options import PictureOptions
from sharpflow.parts.options import Form

_ROWS, _WIDTH = 8, 640
CELL = 48
"""Side in pixels of the cells that are dealt out to parts."""


class Options(PictureOptions):
    """Patches of the two photographs that scikit-learn ships, a class each. No download."""

    samples: Annotated[int, Field(ge=2, le=1950, multiple_of=2)] = 1000
    """Number of images n, as many of each class; there are 975 patches of each photograph, 16
    pixels apart."""
    strips: Annotated[int, Field(ge=1, le=10)] = 1
    """Vertical strips that each photograph is cut into. A patch lies within one, and with
    `targets: one_hot` each strip is a class: 10 for five, of 175 patches each."""
    parts: Annotated[int, Field(ge=1, le=16)] = 5
    """Parts of each strip, of scattered cells of 48 × 48 pixels. A draw has the patches
    of one, of the number draw modulo parts, on a grid as fine as it needs, so that consecutive
    draws share no pixel."""

    @model_validator(mode="after")
    def _balanced(self):
        cells = _ROWS * (_WIDTH // self.strips // CELL)
        if self.parts > cells:
            raise ValueError(
                f"parts = {self.parts}, and each of {self.strips} strips of a photograph has "
                f"{cells} cells of {CELL} × {CELL} pixels to deal out"
            )
        balance.check(2 * self.strips, self.samples, self.targets)
        return self

    def original_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture before `pooling`."""
        return 3, 32, 32

    def form(self) -> Form:
        """The form of its samples."""
        outputs = self.outputs(2 * self.strips)
        return Form("images", self.pooled_shape(), outputs, self.targets, self.samples)
