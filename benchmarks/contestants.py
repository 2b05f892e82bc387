"""Ways to the top eigenpairs of a model's Hessian: sharpflow's, and the packages people use.

Each is a function of a state and of a setting from its ladder, the cheapest setting first; what it
does is timed from the model to the numbers, with all that it has to set up.
"""

import copy
import inspect
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.models import Net
from sharpflow.curvature import SharpnessTracker

ACCURACY = 0.01


@dataclass
class State:
    """A model at a step, with what a warm start may know.

    Attributes:
        model: the net; contestants may leave gradients in it.
        net: its data and loss.
        k: number of eigenpairs that are wanted.
        seed: of random starts.
        before: (P, k), eigenvectors at the step before; None at a cold start.
        batches: the data in parts, for streaming; None for one batch.
    """

    model: nn.Module
    net: Net
    k: int = 1
    seed: int = 0
    before: Tensor | None = None
    batches: list[tuple[Tensor, Tensor]] | None = None

    @property
    def parts(self) -> list[tuple[Tensor, Tensor]]:
        """The data as batches."""
        return self.batches or [self.net.data()]

    def apart(self) -> "State":
        """The same with a copy of the model."""
        return State(
            copy.deepcopy(self.model), self.net, self.k, self.seed, self.before, self.batches
        )


@dataclass(frozen=True)
class Answer:
    """Eigenvalues (k,), vectors (P, k) or None, and the products that they took."""

    values: np.ndarray
    vectors: Tensor | None
    products: int


@dataclass(frozen=True)
class Contestant:
    """A way to eigenpairs.

    Attributes:
        solve: of a state and a setting.
        ladder: settings, the cheapest first.
        warm: whether it starts from the eigenvectors of the step before.
    """

    solve: Callable[[State, Any], Answer]
    ladder: list[Any] = field(default_factory=list)
    warm: bool = False


def stopping(tol: float) -> dict[str, float]:
    """What makes sharpflow stop at an eigenvalue that is right to 1 %, or at a residual."""
    if tol < ACCURACY or "accuracy" not in inspect.signature(SharpnessTracker).parameters:
        return {"tol": tol}
    return {"accuracy": ACCURACY}


def sharpflow(state: State, tol: float) -> Answer:
    """A new tracker and one measurement, checks included."""
    generator = torch.Generator().manual_seed(state.seed)
    options = stopping(tol) | {"k": state.k, "generator": generator}
    if state.batches is None:
        tracker = SharpnessTracker(state.model, state.net.loss_fn, *state.net.data(), **options)
    else:
        loss_fn = state.net.loss_fn
        tracker = SharpnessTracker(
            state.model, lambda m, b: loss_fn(m(b[0]), b[1]), state.batches, **options
        )
    found = tracker.measure()
    return Answer(found.values.numpy(), found.vectors, found.matvecs)


def pyhessian(state: State, tol: float) -> Answer:
    """Power iteration until two eigenvalues in a row agree to `tol`."""
    from pyhessian import hessian

    module, products = sys.modules["pyhessian.hessian"], 0
    multiply = module.hessian_vector_product

    def counted(*given: Any) -> Any:
        nonlocal products
        products += 1
        return multiply(*given)

    data = {"data": state.parts[0]} if state.batches is None else {"dataloader": state.batches}
    torch.manual_seed(state.seed)
    module.hessian_vector_product = counted
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a gradient with a graph
            found = hessian(state.model, state.net.loss_fn, cuda=False, **data)
            values, vectors = found.eigenvalues(maxIter=200, tol=tol, top_n=state.k)
    finally:
        module.hessian_vector_product = multiply
        state.model.zero_grad()
    flat = torch.stack([torch.cat([part.reshape(-1) for part in each]) for each in vectors], dim=1)
    return Answer(np.array(values), flat, products)


def _eigenthings(state: State) -> Any:
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(state.model, state.parts, supervised_loss(state.net.loss_fn))


def eigenthings_lanczos(state: State, steps: int) -> Answer:
    """hessian-eigenthings' Lanczos, whose number of steps is given beforehand."""
    from hessian_eigenthings import lanczos

    found = lanczos(
        _eigenthings(state), k=state.k, max_iter=steps, reorthogonalize=True, which="LA",
        seed=state.seed,
    )  # fmt: skip
    return Answer(found.eigenvalues.numpy(), found.eigenvectors.T, found.iterations)


def eigenthings_power(state: State, tol: float) -> Answer:
    """hessian-eigenthings' power iteration, the one of its solvers that takes a start vector."""
    from hessian_eigenthings import power_iteration_one

    assert state.before is not None
    value, vector, _, products, _ = power_iteration_one(
        _eigenthings(state), max_iter=200, tol=tol, init=state.before[:, 0]
    )
    return Answer(np.array([value]), vector[:, None], products)


def curvlinops_eigsh(state: State, setting: tuple[int | None, float]) -> Answer:
    """`scipy.sparse.linalg.eigsh` on curvlinops' Hessian, with a basis size and a tolerance."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = HessianLinearOperator(
        state.model, nn.CrossEntropyLoss(), list(state.model.parameters()), state.parts,
        check_deterministic=False,
    ).to_scipy()  # fmt: skip
    products = 0

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return operator @ vector.astype(np.float32).reshape(-1)

    size, (basis, tol) = operator.shape[0], setting
    start = np.random.default_rng(state.seed).standard_normal(size).astype(np.float32)
    if state.before is not None:
        start = state.before[:, 0].numpy()
    counted = LinearOperator(operator.shape, matvec=multiply, dtype=np.float32)
    values, vectors = eigsh(counted, state.k, which="LA", tol=tol, v0=start, ncv=basis)
    return Answer(values[::-1].copy(), torch.from_numpy(vectors[:, ::-1].copy()), products)


_CHANGES = [3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5]
_BASES: list[tuple[int | None, float]] = [
    (4, 0.3), (6, 0.1), (10, 0.1), (20, 0.1), (20, 1e-2), (20, 1e-4),
]  # fmt: skip
OURS = "sharpflow"
COLD = {
    OURS: Contestant(sharpflow, [0.03]),
    "PyHessian": Contestant(pyhessian, _CHANGES),
    "hessian-eigenthings, Lanczos": Contestant(eigenthings_lanczos, [4, 6, 8, 10, 15, 20, 30, 50]),
    "curvlinops, eigsh": Contestant(curvlinops_eigsh, _BASES),
}
WARM = {
    "hessian-eigenthings, warm power": Contestant(
        eigenthings_power, [0.3, 0.1, 3e-2, 1e-2, 1e-3], warm=True
    ),
    "curvlinops, warm eigsh": Contestant(curvlinops_eigsh, _BASES, warm=True),
}
TOP_TEN = {
    OURS: Contestant(sharpflow, [1e-3]),
    "PyHessian": Contestant(pyhessian, [1e-3, 1e-5]),
    "hessian-eigenthings, Lanczos": Contestant(eigenthings_lanczos, [30, 40, 60, 80, 120]),
    "curvlinops, eigsh": Contestant(curvlinops_eigsh, [(None, 1e-3), (None, 1e-4)]),
}


HELP: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "": nullcontext,
    "attention written out": lambda: sdpa_kernel(SDPBackend.MATH),
}
"""What stands around a call of a peer; the second is tried where the first fails."""
