"""Initial weights of a linear map with `fan_in` inputs and `fan_out` outputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def linear_weight(
    shape: Sequence[int],
    fan_in: int,
    fan_out: int,
    scheme: str,
    generator: torch.Generator,
) -> Tensor:
    """A float64 weight tensor of `shape`.

    Args:
        scheme: `default` is PyTorch's for Linear and Conv2d, uniform on ±1/√fan_in; `kaiming`
            is N(0, 2/fan_in); `xavier` is N(0, 2/(fan_in + fan_out)).
    """
    if scheme == "default":
        uniform = torch.rand(*shape, dtype=torch.float64, generator=generator)
        return (2.0 * uniform - 1.0) / math.sqrt(fan_in)
    variance = {"kaiming": 2.0 / fan_in, "xavier": 2.0 / (fan_in + fan_out)}[scheme]
    normal = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return normal * math.sqrt(variance)
