"""A start that fits the teacher and whose factors are exactly balanced.

Source: ziyin2024, figure 3 (sharpening or flattening from a balanced start).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.errors import ConfigError
from sharpflow.initialisations.base import Weight


def draw(
    options: Mapping[str, Any],
    weights: Sequence[Weight],
    dataset: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """W (d, d0) and U (d2, d).

    Raises:
        ConfigError: the width is below the teacher's rank.
    """
    teacher = dataset["teacher"]
    width = next(weight.shape[0] for weight in weights if weight.name == "w")
    left, singular, right = torch.linalg.svd(teacher.double(), full_matrices=False)
    if width < len(singular):
        outputs, inputs = teacher.shape
        raise ConfigError(
            f"widths: a balanced start of a {outputs} × {inputs} teacher needs a width of at "
            f"least {len(singular)}; got {width}."
        )
    drawn = torch.randn(width, len(singular), dtype=torch.float64, generator=generator)
    frame = torch.linalg.qr(drawn).Q
    root = singular.sqrt()
    return {"w": frame @ (root[:, None] * right), "u": (left * root) @ frame.T}
