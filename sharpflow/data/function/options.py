"""Options of data that a user's function makes."""

from typing import Annotated, Any

from pydantic import Field

from sharpflow.data.class_options import ArrayOptions
from sharpflow.parts.options import UserPath
from sharpflow.parts.user_code import check_function


class Options(ArrayOptions):
    """What a function of a Python file returns: a mapping with `inputs`, and `targets` or `labels`.

    `targets` are for regression and `labels` for the other tasks. The function must return the same
    arrays each time; whatever it draws should come from a seed among its options.
    """

    file: Annotated[str, UserPath("code")]
    """Python file that holds the function."""
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "generate"
    """Name of the function."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""

    def check_files(self) -> None:
        """Raise PartError where the file has no such function, or that does not take the options.

        Raises:
            PartError: it is so.
        """
        check_function(self.file, self.function, self.options, (), "data.options")
