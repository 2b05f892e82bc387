"""Options of a user's pictures."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sharpflow.data import balance
from sharpflow.data.class_options import PictureOptions
from sharpflow.parts.options import Form, UserPath, distinct

Pixels = Annotated[int, Field(ge=1, le=1024)]


class Options(PictureOptions):
    """A folder of pictures, with a folder in it for each class."""

    path: Annotated[
        str,
        UserPath(
            "data", pattern="*/*", advice="Give a folder that has a folder of pictures a class."
        ),
    ]
    """Folder that holds a folder a class, named as the class is."""
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    """Rows and columns that each picture is resized to."""
    channels: Literal[1, 3] = 3
    """3: red, green and blue; 1: grey."""
    samples: Annotated[int, Field(ge=2, le=60_000)] | None = None
    """Number of pictures n, as many of each sign or class: the first of it by name; `null` takes as
    many as the scarcest allows."""
    classes: Annotated[list[str], Field(min_length=2), AfterValidator(distinct)] | None = None
    """Names of the classes' folders, in the order of the outputs or signs; by default all, in
    alphabetical order."""

    @model_validator(mode="after")
    def _balanced(self):
        balance.check(self._count, self.samples, self.targets)
        return self

    @property
    def _count(self) -> int | None:
        return None if self.classes is None else len(self.classes)

    def original_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture before `pooling`."""
        rows, columns = self.size
        return self.channels, rows, columns

    def form(self) -> Form:
        """The form of its samples."""
        outputs = self.outputs(self._count)
        return Form("images", self.pooled_shape(), outputs, self.targets, self.samples)
