"""Options of photos."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpflow.data import balance
from sharpflow.data.class_options import PictureOptions
from sharpflow.parts.options import Form


class Options(PictureOptions):
    """Patches of the two photographs that scikit-learn ships, a class each. No download."""

    samples: Annotated[int, Field(ge=2, le=1950, multiple_of=2)] = 1000
    """Number of images n, as many of each class; there are 975 patches of each photograph, 16
    pixels apart."""
    strips: Annotated[int, Field(ge=1, le=10)] = 1
    """Vertical strips that each photograph is cut into. A patch lies within one, and with
    `targets: one_hot` each strip is a class: 10 for five, of 175 patches each. For `draw: fixed`
    without a `draw_seed`."""
    parts: Annotated[int, Field(ge=1, le=16)] = 5
    """Parts of the photographs, each of scattered cells of 48 × 48 pixels. A draw has the patches
    of one, of the number draw modulo parts, on a grid as fine as it needs, so that consecutive
    draws share no pixel."""

    pooling: Literal[1, 2, 4, 8] = 1
    """Side of the squares of pixels of which the mean is taken: 4 gives pictures of 8 × 8."""

    @model_validator(mode="after")
    def _balanced(self):
        if self.strips > 1 and (self.draw, self.draw_seed) != ("fixed", None):
            raise ValueError(
                "strips are cut from whole photographs, and draw = by_seed and draw_seed take "
                "parts of them; set draw: fixed, without draw_seed"
            )
        balance.check(2 * self.strips, self.samples, self.targets)
        return self

    @property
    def label(self) -> str:
        """How the page and file names call it."""
        pooled = "" if self.pooling == 1 else f"-pooled-{self.pooling}"
        return f"{super().label}{pooled}"

    def form(self) -> Form:
        """The form of its samples."""
        outputs = self.outputs(2 * self.strips)
        side = 32 // self.pooling
        return Form("images", (3, side, side), outputs, self.targets, self.samples)
