"""Options of the convolutional network."""

from typing import ClassVar, Literal

from sharpflow.parts.options import Form, ModelOptions, Words


class Options(ModelOptions):
    """Two 3×3 convolutions of the run's width with max-pooling, and linear output units."""

    takes: ClassVar[tuple[str, ...]] = ("images",)

    activation: Literal["linear", "tanh", "relu", "elu", "softplus"] = "relu"
    """Activation function; it must not decrease anywhere, for it is applied after the pooling."""

    def capabilities(self) -> Words:
        return frozenset({"convolution stack"})

    def check(self, form: Form, width: int) -> None:
        if form.shape is not None and (form.shape[1] % 4 or form.shape[2] % 4):
            raise ValueError(
                f"images of {form.shape[1]} × {form.shape[2]} pixels cannot be halved twice; both "
                "sides must be multiples of 4"
            )

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        channels, rows, columns = form.shape
        kernels = 9 * (channels + width) * width + 2 * width
        return kernels + width * (rows // 4) * (columns // 4) * form.outputs

    def multiplications(self, form: Form, width: int) -> int | None:
        if form.shape is None or form.outputs is None:
            return None
        channels, rows, columns = form.shape
        area = rows * columns
        return area * 9 * (4 * channels + width) * width // 4 + area // 16 * width * form.outputs

    def units(self, form: Form, width: int) -> int | None:
        if form.shape is None:
            return None
        channels, rows, columns = form.shape
        # of each convolution its output; of the quarter that is pooled places, values, activations
        return (2 * channels + 5 * width) * rows * columns // 2

    def layer_count(self) -> int:
        return 3
