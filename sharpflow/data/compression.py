"""Exact compression of inputs in more dimensions than samples."""

import numpy as np
import torch
from torch import Tensor


def compress(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of n samples in an orthonormal basis of the space they span.

    With the thin QR decomposition Xᵀ = B R, a network whose first operation is dense has on the
    coordinates Rᵀ, with first-layer weights Bᵀ W, the outputs, gradients and non-zero curvature
    spectrum that it has on X with W; the part of W outside B never sees the data.

    Args:
        inputs: (n, d).

    Returns:
        coordinates (n, r) and basis (d, r) with r = min(n, d), in the inputs' precision.
    """
    n, d = inputs.shape
    if n >= d:
        return inputs, torch.eye(d, dtype=inputs.dtype, device=inputs.device)
    basis, upper = np.linalg.qr(inputs.double().cpu().numpy().T)
    return (
        torch.from_numpy(np.ascontiguousarray(upper.T)).to(inputs),
        torch.from_numpy(basis).to(inputs),
    )
