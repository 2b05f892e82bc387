"""Options of the convolutional network in the manner of VGG."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions

Layers = Annotated[int, Field(ge=1, le=20)]


class Options(ModelOptions):
    """A plain convolutional network for small images, in the manner of VGG.

    Stages of 3×3 convolutions with an activation each, 2×2 max-pooling after each stage, and
    linear output units. The first stage has the run's width in channels, and each later one twice
    those before it, at most 8 times the width. It starts as PyTorch's layers do.
    """

    takes: ClassVar[tuple[str, ...]] = ("images",)

    convolutions: Annotated[list[Layers], Field(min_length=1, max_length=8)] = Field(
        default=[1, 1, 2]
    )
    """Convolutions of each stage."""
    normalisation: Literal["batch", "none"] = "none"
    """What follows every convolution: batch normalisation, or its bias."""
    activation: Activation = "relu"
    """Activation function."""

    def check(self, form: Form, width: int) -> None:
        halvings = len(self.convolutions)
        if form.shape is not None and min(form.shape[1:]) < 2**halvings:
            raise ValueError(
                f"images of {form.shape[1]} × {form.shape[2]} pixels cannot be halved {halvings} "
                "times, once a stage"
            )

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        stages = enumerate(self.convolutions)
        layers = [width * min(2**stage, 8) for stage, count in stages for _ in range(count)]
        extra = 1 if self.normalisation == "none" else 2
        count = sum((9 * a + extra) * b for a, b in pairwise([form.shape[0], *layers]))
        rows, columns = (side >> len(self.convolutions) for side in form.shape[1:])
        return count + (layers[-1] * rows * columns + 1) * form.outputs

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        area, channels, count = form.shape[1] * form.shape[2], form.shape[0], 0
        for stage, layers in enumerate(self.convolutions):
            out = width * min(2**stage, 8)
            count += 9 * (channels + (layers - 1) * out) * out * (area >> 2 * stage)
            channels = out
        return count + channels * (area >> 2 * len(self.convolutions)) * form.outputs

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None:
            return None
        area = form.shape[1] * form.shape[2]
        kept = 2 if self.normalisation == "none" else 3  # a convolution's output, and what follows
        stages = enumerate(self.convolutions)
        return kept * sum(n * width * min(2**s, 8) * (area >> 2 * s) for s, n in stages)
