"""Options of photos."""

from typing import Annotated

from pydantic import Field

from sharpflow.data.class_options import PictureOptions
from sharpflow.parts.options import Form


class Options(PictureOptions):
    """Patches of the two photographs that scikit-learn ships, one class each. No download."""

    samples: Annotated[int, Field(ge=2, le=1950, multiple_of=2)] = 1000
    """Number of images n, half of each class; there are 975 patches of each photograph, 16 pixels
    apart."""
    parts: Annotated[int, Field(ge=1, le=16)] = 5
    """Parts of the photographs, each of scattered cells of 48 × 48 pixels. A draw has the patches
    of one, of the number draw modulo parts, on a grid as fine as it needs, so that consecutive
    draws share no pixel."""

    def form(self) -> Form:
        """The form of its samples."""
        return Form("images", (3, 32, 32), self.outputs(2), self.targets, self.samples)
