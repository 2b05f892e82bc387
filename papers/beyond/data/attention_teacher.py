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
    """Numbers in a token of the inputs; all heads of the teacher have it together."""
    outputs: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Numbers in a token of the outputs; `null` for as many as of the inputs."""
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Heads of the teacher; they share the size."""
    sharpness: Positive = 1.5
    """Standard deviation of the teacher's scores, over that of the standard normal ones."""

    def form(self):
        """Whole sequences in and out."""
        outputs = self.tokens * (self.outputs or self.size)
        return Form("vectors", (self.tokens * self.size,), outputs, "real", self.samples)


def generate(spec):
    """Inputs and targets (n, T·d)."""
    draws, size = Draws(spec), spec["size"]
    scales = {"query": spec["sharpness"] ** 0.5, "key": spec["sharpness"] ** 0.5}
    rows = {"query": size, "key": size, "value": size, "output": spec["outputs"] or size}
    weights = {
        name: scales.get(name, 1.0) * draws.normal(count, size) / size**0.5
        for name, count in rows.items()
    }
    inputs = draws.inputs(spec["samples"], spec["tokens"], size)
    targets = draws.noisy(attend(weights, inputs, spec["heads"]))
    tensors = {"inputs": inputs.flatten(1).float(), "targets": targets.flatten(1).float()}
    return tensors, {"source": "attention_teacher"}
