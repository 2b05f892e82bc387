"""Dense operators of known spectra, for tests of estimators."""

import numpy as np
import torch

from sharpflow.curvature import LinearOperator

SIZE = 300


def with_eigenvalues(values, dtype=torch.float64, seed=1) -> LinearOperator:
    """A dense operator with these eigenvalues, in a random basis."""
    values = torch.as_tensor(values, dtype=torch.float64)
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(values), len(values), generator=source, dtype=torch.float64)
    basis = torch.linalg.qr(drawn).Q
    matrix = basis @ torch.diag(values) @ basis.T
    return LinearOperator.from_dense(((matrix + matrix.T) / 2).to(dtype))


def hessian_like(size: int = SIZE) -> np.ndarray:
    """Six outliers, and a bulk about zero of both signs."""
    bulk = np.random.default_rng(0).normal(0, 0.05, size - 6)
    return np.concatenate([bulk, [1.0, 2.0, 3.0, 5.0, 8.0, 20.0]])


SPECTRA = {
    "flat": np.linspace(1, 3, SIZE),
    "decaying": 0.8 ** np.arange(SIZE),
    "hessian": hessian_like(),
    "indefinite": np.random.default_rng(1).normal(0, 1, SIZE),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
