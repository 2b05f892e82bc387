"""Options of the vision transformer."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions


class Options(ModelOptions):
    """A small vision transformer.

    A linear embedding of square patches, learned positions, blocks of attention and a hidden
    layer, each after a layer normalisation, and linear output units. The run's width is that of the
    embedding. Positions start as normal numbers of standard deviation 0.02, a class token as
    zeros, the rest as PyTorch's layers do.
    """

    takes: ClassVar[tuple[str, ...]] = ("images",)

    patch: Annotated[int, Field(ge=1, le=256)] = 4
    """Side of a patch, in pixels."""
    depth: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of blocks."""
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Attention heads of a block."""
    expansion: Annotated[int, Field(ge=1, le=64)] = 4
    """Units of a block's hidden layer, in widths."""
    activation: Activation = "gelu"
    """Activation function of the hidden layer."""
    pooling: Literal["mean", "token"] = "mean"
    """What the output units see: the mean over the patches, or a class token."""

    def check(self, form: Form, width: int) -> None:
        if width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}")
        if form.shape is not None and any(side % self.patch for side in form.shape[1:]):
            raise ValueError(
                f"images of {form.shape[1]} × {form.shape[2]} pixels cannot be cut into patches of "
                f"{self.patch} × {self.patch}"
            )

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        channels, rows, columns = form.shape
        share, area = self.expansion, self.patch**2
        block = (4 + 2 * share) * width**2 + (9 + share) * width
        token = 2 if self.pooling == "token" else 0
        vectors = channels * area + 1 + rows * columns // area + token + 2 + form.outputs
        return self.depth * block + vectors * width + form.outputs

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        channels, rows, columns = form.shape
        tokens = rows * columns // self.patch**2 + (1 if self.pooling == "token" else 0)
        block = (4 + 2 * self.expansion) * width**2 + 2 * tokens * width
        embedding = channels * self.patch**2 * width
        return tokens * (self.depth * block + embedding) + width * form.outputs

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None:
            return None
        tokens = form.shape[1] * form.shape[2] // self.patch**2 + 1
        block = (9 + 2 * self.expansion) * width + 2 * self.heads * tokens
        return tokens * self.depth * block
