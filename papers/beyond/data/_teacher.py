"""What sources have in common whose targets a random network makes, with noise."""

import torch

from sharpflow.data.gaussian import standard_deviations


class Draws:
    """Numbers of one seed, in the order in which they are asked for.

    Args:
        spec: options of a source.
    """

    def __init__(self, spec):
        self._spec = spec
        self._source = torch.Generator().manual_seed(spec["seed"])

    def normal(self, *shape):
        """Standard normal numbers, float64."""
        return torch.randn(*shape, dtype=torch.float64, generator=self._source)

    def inputs(self, *shape):
        """Inputs of a shape, with the standard deviations of the last dimension."""
        return standard_deviations(self._spec["input_std"], shape[-1]) * self.normal(*shape)

    def noisy(self, outputs):
        """The outputs with label noise."""
        spread = standard_deviations(self._spec["noise_std"], outputs.shape[-1])
        return outputs + spread * self.normal(*outputs.shape)
