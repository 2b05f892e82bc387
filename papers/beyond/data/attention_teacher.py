"""Random tokens, and what a random layer of attention makes of them, with noise."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import Form

from ..models.attention import attend
from ._teacher import Draws
from ._teacher_options import Positive, TeacherOptions


class Options(TeacherOptions):
    """Normal tokens x, y = teacher(x) + ε with a layer of attention, and normal label noise ε."""

    tokens: Annotated[int, Field(ge=2, le=1024)] = 8
    """Tokens in a sequence."""
    size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Numbers in a token, of inputs and outputs; all heads of the teacher have it together."""
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Heads of the teacher; they share the size."""
    sharpness: Positive = 1.5
    """Standard deviation of the teacher's scores, over that of the standard normal ones."""

    def form(self):
        """Whole sequences in and out."""
        length = self.tokens * self.size
        return Form("vectors", (length,), length, "real", self.samples)


def generate(spec):
    """Inputs and targets (n, T·d)."""
    draws, size = Draws(spec), spec["size"]
    scales = {"query": spec["sharpness"] ** 0.5, "key": spec["sharpness"] ** 0.5}
    weights = {
        name: scales.get(name, 1.0) * draws.normal(size, size) / size**0.5
        for name in ("query", "key", "value", "output")
    }
    inputs = draws.inputs(spec["samples"], spec["tokens"], size)
    targets = draws.noisy(attend(weights, inputs, spec["heads"]))
    tensors = {"inputs": inputs.flatten(1).float(), "targets": targets.flatten(1).float()}
    return tensors, {"source": "attention_teacher"}
