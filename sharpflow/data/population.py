"""A Gaussian population: x ~ N(0, Σx), y = V x + ε, ε ~ N(0, Σε).

Source: ziyin2024, section 5 and appendix A.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ONLINE = 0
"""What stands for the number of samples where every batch is drawn anew."""


@dataclass(frozen=True)
class Population:
    """The distribution that samples come from.

    Attributes:
        input_std: standard deviations of x, (d0,).
        noise_std: standard deviations of ε, (d2,).
        teacher: V, (d2, d0).
    """

    input_std: Tensor
    noise_std: Tensor
    teacher: Tensor

    @classmethod
    def of(cls, dataset: Mapping[str, Tensor], like: Tensor) -> "Population":
        """The population that a dataset's tensors describe, with the dtype and device of `like`."""
        return cls(*(dataset[name].to(like) for name in ("input_std", "noise_std", "teacher")))

    @property
    def size(self) -> int:
        """Normal numbers that one sample takes, d0 + d2."""
        return self.input_std.numel() + self.noise_std.numel()

    @property
    def input_covariance(self) -> Tensor:
        """Σx, (d0, d0)."""
        return torch.diag(self.input_std.square())

    @property
    def noise_covariance(self) -> Tensor:
        """Σε, (d2, d2)."""
        return torch.diag(self.noise_std.square())

    @cached_property
    def _identity(self) -> bool:
        return torch.equal(self.teacher, torch.eye(*self.teacher.shape).to(self.teacher))

    @cached_property
    def _stds(self) -> Tensor | None:
        """Standard deviations of x and ε in a row, None where all are one."""
        stds = torch.cat([self.input_std, self.noise_std])
        return None if bool((stds == 1).all()) else stds

    def sample(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (..., d0) and targets (..., d2) from standard normals (..., d0 + d2).

        The inputs may share the memory of the normals.
        """
        drawn = normals.to(self.teacher)
        if self._stds is not None:
            drawn = drawn * self._stds
        inputs, noise = drawn.split([self.input_std.numel(), self.noise_std.numel()], -1)
        if self._identity and inputs.shape == noise.shape:
            return inputs, inputs + noise
        return inputs, inputs @ self.teacher.mT + noise
