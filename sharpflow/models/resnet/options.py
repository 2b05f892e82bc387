"""Options of the residual network."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions

Blocks = Annotated[int, Field(ge=1, le=100)]


class Options(ModelOptions):
    """A residual network for small images.

    A 3×3 stem of the run's width, stages of basic blocks, each of two 3×3 convolutions, the mean
    over the positions, and linear output units. Every stage but the first halves the sides and
    doubles the channels. It starts as PyTorch's layers do.
    """

    takes: ClassVar[tuple[str, ...]] = ("images",)

    blocks: Annotated[list[Blocks], Field(min_length=1, max_length=6)] = Field(default=[2, 2, 2])
    """Blocks of each stage."""
    normalisation: Literal["batch", "group", "none"] = "batch"
    """What follows every convolution: batch normalisation, group normalisation, or its bias."""
    groups: Annotated[int, Field(ge=1, le=1024)] = 8
    """Groups of channels that group normalisation takes apart."""
    activation: Activation = "relu"
    """Activation function."""

    def check(self, form: Form, width: int) -> None:
        if self.normalisation == "group" and width % self.groups:
            raise ValueError(f"width = {width} is not a multiple of groups = {self.groups}")

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        extra = 1 if self.normalisation == "none" else 2
        count, channels = (9 * form.shape[0] + extra) * width, width
        for stage, blocks in enumerate(self.blocks):
            out = width * 2**stage
            count += (9 * (channels + (2 * blocks - 1) * out) + 2 * blocks * extra) * out
            count += (channels + extra) * out if stage else 0
            channels = out
        return count + (channels + 1) * form.outputs

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        area, channels = form.shape[1] * form.shape[2], width
        count = 9 * form.shape[0] * width * area
        for stage, blocks in enumerate(self.blocks):
            out = width * 2**stage
            shortcut = channels * out if stage else 0
            count += (9 * (channels + (2 * blocks - 1) * out) * out + shortcut) * (
                area >> 2 * stage
            )
            channels = out
        return count + channels * form.outputs

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None:
            return None
        area = form.shape[1] * form.shape[2]
        kept = 2 if self.normalisation == "none" else 3  # a convolution's output, and what follows
        stages = ((2 * blocks + 1) * 2**s * (area >> 2 * s) for s, blocks in enumerate(self.blocks))
        return kept * width * (area + sum(stages))
