"""Options of the recurrent network."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import Form, ModelOptions


class Options(ModelOptions):
    """A recurrent network of LSTM cells that predicts the next token.

    An embedding, layers of cells, and linear output units at every position, all of the run's
    width. It starts as PyTorch's layers do, with one bias a gate.
    """

    takes: ClassVar[tuple[str, ...]] = ("tokens",)

    depth: Annotated[int, Field(ge=1, le=20)] = 1
    """Number of layers of cells."""

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.outputs is None or form.vocabulary is None:
            return None
        layer = 8 * width**2 + 4 * width
        return form.vocabulary * width + self.depth * layer + (width + 1) * form.outputs

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        return form.shape[0] * (self.depth * 8 * width**2 + width * form.outputs)

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        return form.shape[0] * (self.depth * 12 * width + form.outputs)
