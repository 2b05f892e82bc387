"""Options of a user's own network."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from sharpflow.models.offered import OFFERED
from sharpflow.parts.options import ModelOptions, UserPath
from sharpflow.parts.user_code import check_function


class Options(ModelOptions):
    """A `torch.nn.Module` that a function of a Python file builds."""

    takes: ClassVar[tuple[str, ...]] = ("images", "vectors", "tokens", "population")

    file: Annotated[str, UserPath("code")]
    """Python file that holds the function."""
    build: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "build"
    """Name of the function. It gets `options`, and of `width`, `input_shape`, `outputs` and
    `vocabulary` those that it has parameters for."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""

    def check_files(self) -> None:
        """Raise PartError where the file has no such function, or that does not take the options.

        Raises:
            PartError: it is so.
        """
        check_function(self.file, self.build, self.options, OFFERED, "model.options")
