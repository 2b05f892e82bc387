"""A single sample, which says that the output for 1 is 1."""

import torch

from sharpflow.parts.options import DataOptions, Form


class Options(DataOptions):
    """The sample x = 1, y = 1."""

    def form(self) -> Form:
        """One number in, one out."""
        return Form("vectors", (1,), 1, "real", 1)

    def capabilities(self):
        """It is finite."""
        return frozenset({"finite samples"})


def generate(spec):
    """Inputs and targets, (1, 1)."""
    return {"inputs": torch.ones(1, 1), "targets": torch.ones(1, 1)}, {"source": "one"}
