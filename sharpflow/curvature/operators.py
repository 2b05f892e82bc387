"""Matrix-free Hessian and Gauss-Newton operators: one graph a state, one backward a product."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from sharpflow.curvature.differences import Products, check_products, difference_operator
from sharpflow.curvature.graphs import (
    Inside,
    Leaves,
    Parameters,
    check_scalar,
    dense,
    differentiable_gradients,
    graph_mode,
    second_derivatives,
)
from sharpflow.curvature.linear_operator import LinearOperator, Product, check_finite


class GaussNewtonOperator(LinearOperator):
    """J^T S J on parameter space, from `gauss_newton_operator`.

    Attributes:
        outputs: F, flattened (N,).
        gram: the operator S^½ J J^T S^½ (N × N), which has the same nonzero spectrum. If u is its
            eigenvector, `vjp(root(u))` is the one of J^T S J, up to its length.
        jvp, vjp: (P,) -> (N,) product with J, and (N,) -> (P,) product with J^T.
        root: (N,) -> (N,) product with S^½.
    """

    outputs: Tensor
    gram: LinearOperator
    jvp: Product
    vjp: Product
    root: Product


def flatten_parameters(params: Parameters) -> Tensor:
    """Parameters as one (P,) vector, in the order of the operators of this module."""
    unique = {id(p): p for p in params.values()}
    return torch.cat([p.detach().reshape(-1) for p in unique.values()])


def hessian_operator(
    loss: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    inside: Inside | None = None,
    *,
    dtype: torch.dtype | None = None,
    products: Products = "autograd",
) -> LinearOperator:
    """Hessian of `loss` at `params` as a `LinearOperator`.

    `loss` is called once; the graph of its gradient is retained and each product is one backward
    pass through it (Pearlmutter 1994), so the operator stays that of the state it was made at,
    whatever happens to `params` later. Vectors are the parameters flattened row-major and joined in
    the dict's order; a tensor that stands under two names is one parameter. Parameters without
    influence contribute zeros.

    ValueError for an empty dict, half precision, mixed dtypes or devices, a loss that is not a
    scalar, NaN or infinity in the parameters, the loss or its gradient, and a loss that has no
    graph, depends on none of the parameters, or reads one of them itself and not the tensor that it
    is given for it.

    Args:
        loss: maps a dict of parameter tensors to a scalar.
        params: the parameters.
        inside: calls a function of no arguments where a module has the parameters that it is given;
            for networks that run again in the backward pass (`torch.utils.checkpoint`).
        dtype: measures in copies of the parameters of this precision, which `loss` is given.
        products: `"autograd"`, or `"differences"` of gradients for a loss without a second
            derivative in autograd, which then is called twice a product: `DifferenceOperator` says
            at what accuracy.

    Returns:
        The operator on flat vectors, (P,).
    """
    check_products(products)
    if products == "differences":
        return difference_operator(loss, params, inside, dtype)
    leaves = Leaves(params, dtype)

    def run(compute: Callable[[], Any]) -> Any:
        return compute() if inside is None else inside(dict(leaves.by_name), compute)

    with graph_mode(), second_derivatives():
        slope = run(lambda: _gradient(loss, leaves))

    def product(vector: Tensor) -> Tensor:
        with second_derivatives():
            return run(lambda: leaves.pull_back(slope, vector))

    return LinearOperator(leaves.total, product, leaves.dtype, leaves.device)


def hessian_product(
    loss: Callable[[dict[str, Tensor]], Tensor],
    leaves: Leaves,
    vectors: Tensor,
    inside: Inside,
    check: bool = True,
) -> Tensor:
    """Product with the Hessian of `loss`, whose graph is made for it and not kept.

    Args:
        loss: as for `hessian_operator`.
        leaves: what it is a function of.
        vectors: (P,) or (P, b).
        inside: as for `hessian_operator`.
        check: whether to look through the graph, as `hessian_operator` does; once is enough for a
            loss that is multiplied again and again.

    Returns:
        The product, of the shape of `vectors`.

    Raises:
        ValueError: as for `hessian_operator`.
    """
    columns = [vectors] if vectors.ndim == 1 else list(vectors.T)

    def compute() -> Tensor:
        slope = _gradient(loss, leaves, check)
        images = [leaves.pull_back(slope, column) for column in columns]
        return images[0] if vectors.ndim == 1 else torch.stack(images, dim=1)

    with graph_mode(), second_derivatives():
        return inside(dict(leaves.by_name), compute)


def gauss_newton_operator(
    outputs: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    output_curvature: Tensor | float | Callable[[Tensor], Tensor] = 1.0,
    inside: Inside | None = None,
) -> GaussNewtonOperator:
    """Generalised Gauss-Newton matrix J^T S J of a network, matrix-free (Schraudolph 2002).

    `outputs` is called once; a product with J is one backward pass through the retained graph of
    J^T u, which is linear in u. Order of parameters and errors as `hessian_operator`.

    Args:
        outputs: maps a dict of parameter tensors to F, (n,) or (n, c), or of any shape where
            `output_curvature` is a loss.
        params: the parameters.
        output_curvature: S, the loss's second derivative in F: a number, a tensor of F's shape
            (diagonal), (n, c, c) (a block a sample), or the loss itself as a function of F, whose
            Hessian at F is then S: `lambda f: cross_entropy(f, targets)`. It must not be negative
            where `gram` is used, and must not be a loss there. For L = ‖F − Y‖²/n it is 2/n.
        inside: as for `hessian_operator`.

    Returns:
        The operator on flat vectors, (P,), with its parts.

    Raises:
        ValueError: as for `hessian_operator`, S fits no form above, or the loss that is S reads
            parameters itself: J^T S J would leave out what they do there.
    """
    leaves = Leaves(params)

    def run(compute: Callable[[], Any]) -> Any:
        return compute() if inside is None else inside(dict(leaves.by_name), compute)

    def differentiate() -> tuple[Tensor, Tensor, GradientEdge | None]:
        value = outputs(dict(leaves.by_name))
        check_finite(value.detach(), "the network's output")
        leaves.check_graph(value, "the network's output")
        probe = torch.zeros_like(value, requires_grad=True)
        pulled = differentiable_gradients(value, leaves.tensors, probe)
        return value, probe, leaves.joined(pulled)

    varying = [*leaves.tensors, *(p for p in params.values() if p.requires_grad)]
    with graph_mode(), second_derivatives():
        value, probe, linear = run(differentiate)
        scale, root = run(lambda: _output_scalings(output_curvature, value.detach(), varying))
    count = value.numel()

    def vjp(weights: Tensor) -> Tensor:
        with second_derivatives():
            return run(lambda: leaves.pull_back(value, weights.reshape(value.shape)))

    def jvp(vector: Tensor) -> Tensor:
        if linear is None:
            return torch.zeros(count, dtype=leaves.dtype, device=leaves.device)
        with second_derivatives():
            (result,) = run(lambda: torch.autograd.grad(linear, probe, vector, retain_graph=True))
        return result.detach().reshape(-1)

    operator = GaussNewtonOperator(
        leaves.total, lambda v: vjp(scale(jvp(v))), leaves.dtype, leaves.device
    )
    operator.outputs = value.detach().reshape(-1)
    operator.jvp, operator.vjp, operator.root = jvp, vjp, root
    operator.gram = LinearOperator(
        count, lambda u: root(jvp(vjp(root(u)))), leaves.dtype, leaves.device
    )
    return operator


def _gradient(
    loss: Callable[[dict[str, Tensor]], Tensor], leaves: Leaves, check: bool = True
) -> GradientEdge | None:
    """Where the graph of the flat gradient of a loss begins."""
    value = loss(dict(leaves.by_name))
    check_scalar(value)
    check_finite(value.detach(), "the loss")
    if check:
        leaves.check_graph(value, "the loss")
        found = differentiable_gradients(value, leaves.tensors)
    else:
        found = torch.autograd.grad(value, leaves.tensors, create_graph=True, allow_unused=True)
    gradients = [None if g is None else dense(g) for g in found]
    for gradient in gradients if check else ():
        if gradient is not None:
            check_finite(gradient.detach(), "the gradient of the loss")
    return leaves.joined(gradients)


def _output_scalings(
    curvature: Tensor | float | Callable[[Tensor], Tensor],
    outputs: Tensor,
    varying: Sequence[Tensor],
) -> tuple[Product, Product]:
    """Products with S and with S^½ on flat (N,) vectors."""
    if callable(curvature):
        return _loss_scalings(curvature, outputs, varying)
    s = torch.as_tensor(curvature, dtype=outputs.dtype, device=outputs.device)
    check_finite(s, "output_curvature")
    if s.ndim == 0 or s.shape == outputs.shape:
        diagonal = s.reshape(-1)
        negative = bool((diagonal < 0).any())
        half = diagonal.clamp(min=0).sqrt()

        def scale(u: Tensor) -> Tensor:
            return u * diagonal

        def root(u: Tensor) -> Tensor:
            _refuse_negative(negative)
            return u * half

    elif outputs.ndim == 2 and s.shape == (*outputs.shape, outputs.shape[1]):
        negative = not semidefinite(s)
        blocks = torch.zeros_like(s) if negative else block_root(s)

        def scale(u: Tensor) -> Tensor:
            return (s @ u.reshape(*outputs.shape, 1)).reshape(-1)

        def root(u: Tensor) -> Tensor:
            _refuse_negative(negative)
            return (blocks @ u.reshape(*outputs.shape, 1)).reshape(-1)

    else:
        raise ValueError(
            f"output_curvature has shape {tuple(s.shape)} for outputs {tuple(outputs.shape)}; "
            "allowed are a number, the outputs' shape, or (n, c, c)."
        )
    return scale, root


def _loss_scalings(
    loss: Callable[[Tensor], Tensor], outputs: Tensor, varying: Sequence[Tensor]
) -> tuple[Product, Product]:
    """Products with the Hessian of a loss in the outputs; its root is not known."""
    with graph_mode():
        at = outputs.detach().clone().requires_grad_()
        value = loss(at)
        check_scalar(value)
        check_finite(value.detach(), "the loss")
        if not value.requires_grad:
            raise ValueError("the loss has no graph: it does not depend on the outputs.")
        direct = torch.autograd.grad(value, varying, retain_graph=True, allow_unused=True)
        if any(slope is not None for slope in direct):
            raise ValueError(
                "the loss reads the model's parameters itself (a penalty, a second call of the "
                "model), and a Gauss-Newton matrix has them through the outputs alone: leave that "
                "out of the loss, and add its own curvature."
            )
        (slope,) = differentiable_gradients(value, [at])
        if slope is None:
            raise ValueError("the loss has no graph: it does not depend on the outputs.")

    def scale(u: Tensor) -> Tensor:
        if not slope.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(u)
        with second_derivatives():
            (image,) = torch.autograd.grad(
                slope, at, u.reshape(at.shape), retain_graph=True, materialize_grads=True
            )
        return image.detach().reshape(-1)

    def root(u: Tensor) -> Tensor:
        raise ValueError(
            "output_curvature is a loss, whose root is not known; give it as a tensor to use gram."
        )

    return scale, root


def semidefinite(blocks: Tensor) -> bool:
    """Whether symmetric matrices (n, c, c) have no negative eigenvalue, up to rounding."""
    values = torch.linalg.eigvalsh(blocks)
    return not bool((values < -1e-6 * values.abs().max()).any())


def block_root(blocks: Tensor) -> Tensor:
    """Square roots of symmetric positive semi-definite matrices (n, c, c).

    ValueError where one of them has a negative eigenvalue.
    """
    values, vectors = torch.linalg.eigh(blocks)
    _refuse_negative(bool((values < -1e-6 * values.abs().max()).any()))
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT


def _refuse_negative(negative: bool) -> None:
    if negative:
        raise ValueError(
            "output_curvature has a negative eigenvalue, so its square root is not real; "
            "use the operator on parameter space."
        )
