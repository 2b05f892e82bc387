"""The usual ways to measure curvature, for comparison.

Each function returns the top eigenvalue, its vector, and the number of products.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss

Pair = tuple[float, np.ndarray, int]
Product = Callable[[np.ndarray], np.ndarray]


def double_backward(model: nn.Module, inputs: Tensor, targets: Tensor) -> Product:
    """One forward pass, a differentiable gradient and a second backward pass a product."""
    params = list(model.parameters())

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32).reshape(-1))
        with sdpa_kernel(SDPBackend.MATH):
            loss = mse_loss(model(inputs), targets)
            gradients = torch.autograd.grad(loss, params, create_graph=True)
            along = torch.cat([g.reshape(-1) for g in gradients]) @ flat
            parts = torch.autograd.grad(along, params)
        return torch.cat([p.reshape(-1) for p in parts]).numpy()

    return product


def forward_over_reverse(model: nn.Module, inputs: Tensor, targets: Tensor) -> Product:
    """``jvp(grad)`` a product."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in params.values()]
    slope = grad(lambda p: (functional_call(model, p, (inputs,)) - targets).square().mean())

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32).reshape(-1))
        parts = zip(params.items(), flat.split(sizes), strict=True)
        _, out = jvp(slope, (params,), ({name: v.view(p.shape) for (name, p), v in parts},))
        return torch.cat([p.reshape(-1) for p in out.values()]).numpy()

    return product


class Counted:
    """A product that counts its calls, as a SciPy operator."""

    def __init__(self, product: Product, size: int):
        self.calls = 0
        self._product = product
        self.operator = LinearOperator((size, size), matvec=self._multiply, dtype=np.float32)

    def _multiply(self, vector: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self._product(vector)


def cold_eigsh(product: Product, size: int, tol: float, seed: int) -> Pair:
    """``scipy.sparse.linalg.eigsh`` from a random vector, its other settings left alone."""
    counted = Counted(product, size)
    start = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    values, vectors = eigsh(counted.operator, 1, which="LA", tol=tol, v0=start)
    return float(values[0]), vectors[:, 0], counted.calls


def warm_lobpcg(product: Product, start: np.ndarray, value: float, tol: float) -> Pair:
    """``scipy.sparse.linalg.lobpcg`` from the last step's eigenvector."""
    counted = Counted(product, len(start))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, vectors = lobpcg(
            counted.operator, start[:, None], largest=True, tol=tol * abs(value), maxiter=60
        )
    return float(values[0]), vectors[:, 0], counted.calls


def curvlinops_product(model: nn.Module, inputs: Tensor, targets: Tensor) -> Product | None:
    """Products of ``curvlinops.HessianLinearOperator``, or None where it is not installed."""
    try:
        from curvlinops import HessianLinearOperator
    except ImportError:
        return None
    operator = HessianLinearOperator(
        model,
        nn.MSELoss(),
        list(model.parameters()),
        [(inputs, targets)],
        check_deterministic=False,
    ).to_scipy()

    def product(vector: np.ndarray) -> np.ndarray:
        with sdpa_kernel(SDPBackend.MATH):
            return operator @ vector

    return product


def per_sample_gram(model: nn.Module, inputs: Tensor, rows: int) -> Tensor:
    """The first ``rows`` rows of the Jacobian, one backward pass a sample."""
    params = list(model.parameters())
    jacobian = torch.empty(rows, sum(p.numel() for p in params))
    for index in range(rows):
        gradients = torch.autograd.grad(model(inputs[index : index + 1]).sum(), params)
        torch.cat([g.reshape(-1) for g in gradients], out=jacobian[index])
    return jacobian
