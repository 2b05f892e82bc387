"""Options of a user's table."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sharpflow.data.class_options import TaskOptions
from sharpflow.parts.options import Form, UserPath, distinct

Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[list[Column], Field(min_length=1), AfterValidator(distinct)]


class Options(TaskOptions):
    """Columns of a CSV or Parquet file: some are the inputs, others the targets or labels."""

    path: Annotated[str, UserPath("data"), Field(pattern=r"(?i)\.(csv|tsv|txt|parquet)$")]
    """A `.csv`, `.tsv` or `.txt` file whose first line names its columns, or a `.parquet` file."""
    inputs: Columns | None = None
    """Columns that are the inputs, in this order; by default all but the targets, in the file's."""
    target: Column | Columns
    """The column of targets or labels; for regression it may be a list of columns."""
    standardise: bool = True
    """Whether each input is brought to mean 0 and variance 1 over the samples; one that is the same
    in all of them becomes 0."""
    separator: Literal[",", ";", "|", "\t", " "] = ","
    """Character between two cells of a text file."""

    @property
    def target_columns(self) -> list[str]:
        """Columns of targets."""
        return [self.target] if isinstance(self.target, str) else self.target

    @model_validator(mode="after")
    def _apart(self):
        if self.task == "classes" and len(self.target_columns) > 1:
            raise ValueError("target names one column where task = classes")
        for name in self.target_columns:
            if name in (self.inputs or ()):
                raise ValueError(f"the column {name!r} is both a target and an input")
        return self

    def form(self) -> Form:
        """The form of its samples."""
        shape = None if self.inputs is None else (len(self.inputs),)
        outputs, targets = self.target_form(len(self.target_columns))
        return Form("vectors", shape, outputs, targets, self.samples)
