"""Options of the decoder-only transformer."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions


class Options(ModelOptions):
    """A decoder-only transformer that predicts the next token.

    Learned positions, blocks of causal attention and a hidden layer, each after a layer
    normalisation, and linear output units without bias. The run's width is that of the embedding.
    Embeddings start as normal numbers of standard deviation 0.02, the rest as PyTorch's layers do.
    """

    takes: ClassVar[tuple[str, ...]] = ("tokens",)

    depth: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of blocks."""
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Attention heads of a block."""
    expansion: Annotated[int, Field(ge=1, le=64)] = 4
    """Units of a block's hidden layer, in widths."""
    activation: Activation = "gelu"
    """Activation function of the hidden layer."""
    tied: bool = False
    """Whether the output units' weights are the embedding's."""

    def check(self, form: Form, width: int) -> None:
        if width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}")
        known = form.vocabulary is not None and form.outputs is not None
        if self.tied and known and form.vocabulary != form.outputs:
            raise ValueError(
                f"tied embeddings need an output a token: there are {form.outputs} outputs and "
                f"{form.vocabulary} tokens"
            )

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None or form.vocabulary is None:
            return None
        share = self.expansion
        block = (4 + 2 * share) * width**2 + (9 + share) * width
        rows = form.vocabulary + form.shape[0] + 2 + (0 if self.tied else form.outputs)
        return self.depth * block + rows * width

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        tokens = form.shape[0]
        block = (4 + 2 * self.expansion) * width**2 + 2 * tokens * width
        return tokens * (self.depth * block + form.outputs * width)

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        tokens = form.shape[0]
        block = (9 + 2 * self.expansion) * width + 2 * self.heads * tokens
        return tokens * (self.depth * block + form.outputs)
