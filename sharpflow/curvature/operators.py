"""Matrix-free Hessian and Gauss-Newton operators: one graph a state, one backward a product."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Parameters = Mapping[str, Tensor]
Product = Callable[[Tensor], Tensor]
_MISSING = (
    "not implemented",
    "double backward",
    "differentiate twice",
    "once_differentiable",
    "cudnn RNN backward",
)
"""Parts of what autograd says where a second derivative is missing."""
Inside = Callable[[dict[str, Tensor], Callable[[], Any]], Any]


def check_dtype(dtype: torch.dtype, argument: str) -> None:
    """Raise ValueError unless `dtype` is float32 or float64."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{argument} is {dtype}; curvature is measured in torch.float32 or torch.float64 only."
        )


class NonFiniteError(ValueError):
    """Curvature was asked for where a number is NaN or infinite, as in a run that diverged."""


def check_finite(tensor: Tensor, argument: str) -> None:
    """Raise NonFiniteError if `tensor` holds NaN or infinity."""
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        raise NonFiniteError(f"{argument} holds NaN or infinity; curvature needs finite numbers.")


class LinearOperator:
    """A symmetric P × P matrix known by its products.

    Args:
        size: P.
        product: maps (P,) to (P,).
        dtype: of the vectors.
        device: of the vectors.
        block_product: maps (P, b) to (P, b), where there is something better than b products.

    Raises:
        ValueError: P is below 1, or the dtype is not float32 or float64.

    Attributes:
        shape: (P, P).
        dtype, device: of the vectors it takes and returns.
        products: number of vectors multiplied so far (a block of b vectors counts b).
    """

    def __init__(
        self,
        size: int,
        product: Product,
        dtype: torch.dtype,
        device: torch.device | str,
        block_product: Product | None = None,
    ) -> None:
        check_dtype(dtype, "dtype")
        if size < 1:
            raise ValueError(f"size is {size}; an operator needs at least one dimension.")
        self.shape = (size, size)
        self.dtype = dtype
        self.device = torch.device(device)
        self.products = 0
        self._product = product
        self._block_product = block_product

    @classmethod
    def from_dense(cls, matrix: Tensor) -> "LinearOperator":
        """Operator of a symmetric (P, P) tensor. ValueError if it is not square, or not finite."""
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix has shape {tuple(matrix.shape)}; it must be square.")
        check_dtype(matrix.dtype, "matrix")
        check_finite(matrix, "matrix")

        def product(vectors: Tensor) -> Tensor:
            return matrix @ vectors

        return cls(matrix.shape[0], product, matrix.dtype, matrix.device, product)

    def matvec(self, vectors: Tensor) -> Tensor:
        """Product with one vector (P,) or a block (P, b); the result has the same shape.

        Raises:
            ValueError: shape, dtype or device differ from the operator's, or the product is not
                finite.
        """
        if vectors.ndim not in (1, 2) or vectors.shape[0] != self.shape[0]:
            raise ValueError(
                f"vectors has shape {tuple(vectors.shape)}; "
                f"it must be ({self.shape[0]},) or ({self.shape[0]}, b)."
            )
        if vectors.dtype != self.dtype or vectors.device.type != self.device.type:
            raise ValueError(
                f"vectors is {vectors.dtype} on {vectors.device}; "
                f"the operator works in {self.dtype} on {self.device}."
            )
        if vectors.ndim == 1:
            result = self._product(vectors)
            self.products += 1
        else:
            result = self._multiply_block(vectors)
            self.products += vectors.shape[1]
        check_finite(result, "the operator's product")
        return result

    __matmul__ = matvec

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        """The sum of two operators on one space."""
        if (other.shape, other.dtype, other.device.type) != (
            self.shape,
            self.dtype,
            self.device.type,
        ):
            raise ValueError(
                f"operators of shapes {self.shape} and {other.shape} in {self.dtype} on "
                f"{self.device} and {other.dtype} on {other.device} cannot be added."
            )
        return self._derived(lambda v: self.matvec(v) + other.matvec(v))

    def __mul__(self, factor: float) -> "LinearOperator":
        """The operator times a number."""
        return self._derived(lambda v: self.matvec(v) * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "LinearOperator":
        """−H, whose top eigenpairs are the bottom ones of H."""
        return self * -1.0

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        """The difference of two operators on one space."""
        return self + -other

    def scaled(self, factors: Tensor) -> "LinearOperator":
        """D H D with the diagonal matrix D of `factors`, (P,).

        Raises:
            ValueError: the shape is another, or a factor is not finite.
        """
        if factors.shape != self.shape[:1]:
            raise ValueError(
                f"factors has shape {tuple(factors.shape)}; it must be ({self.shape[0]},)."
            )
        check_finite(factors, "factors")
        d = factors.to(self.device, self.dtype)

        def product(v: Tensor) -> Tensor:
            each = d if v.ndim == 1 else d[:, None]
            return each * self.matvec(each * v)

        return self._derived(product)

    def _derived(self, product: Product) -> "LinearOperator":
        return LinearOperator(self.shape[0], product, self.dtype, self.device, product)

    def _multiply_block(self, vectors: Tensor) -> Tensor:
        count = vectors.shape[1]
        if count == 0:
            return torch.zeros_like(vectors)
        if count == 1:
            return self._product(vectors[:, 0])[:, None]
        if self._block_product is None:
            rows = torch.empty(count, self.shape[0], dtype=self.dtype, device=self.device)
            for index in range(count):
                rows[index] = self._product(vectors[:, index])
            return rows.T
        return self._block_product(vectors)

    def to_dense(self) -> Tensor:
        """The (P, P) matrix, symmetrised; costs P products and P² numbers of memory."""
        columns = self.matvec(torch.eye(self.shape[0], dtype=self.dtype, device=self.device))
        return (columns + columns.T) / 2


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


class Leaves:
    """Copies of the parameters that carry gradients; one tensor under two names is one leaf."""

    def __init__(self, params: Parameters) -> None:
        if not params:
            raise ValueError("params is empty; curvature needs at least one parameter tensor.")
        kinds = {(p.dtype, p.device) for p in params.values()}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"params mixes {found}; all must share one dtype and one device.")
        ((self.dtype, self.device),) = kinds
        check_dtype(self.dtype, "params")
        self.names = {id(parameter): name for name, parameter in params.items()}
        unique: dict[int, Tensor] = {}
        self.by_name: dict[str, Tensor] = {}
        for name, parameter in params.items():
            check_finite(parameter.detach(), f"params[{name!r}]")
            if id(parameter) not in unique:
                with torch.inference_mode(False):  # a clone made inside has no autograd
                    unique[id(parameter)] = parameter.detach().clone().requires_grad_()
            self.by_name[name] = unique[id(parameter)]
        self.tensors = list(unique.values())
        self.sizes = [leaf.numel() for leaf in self.tensors]
        self.total = sum(self.sizes)
        if self.total == 0:
            raise ValueError("params holds no number; curvature needs at least one.")

    def split(self, vector: Tensor) -> list[Tensor]:
        """Parts of a flat vector, each of its leaf's shape."""
        parts = vector.split(self.sizes)
        return [part.view(t.shape) for part, t in zip(parts, self.tensors, strict=True)]

    def check_graph(self, value: Tensor, what: str) -> None:
        """Check that the graph of `value` comes from the leaves.

        A function that reads a parameter itself, and not the tensor that it is given for it, has a
        curvature that this module cannot see.

        Raises:
            ValueError: it has no graph, comes from no leaf, or from what a leaf is a copy of.
        """
        if not value.requires_grad:
            raise ValueError(
                f"{what} has no graph: it detaches its parameters, computes without autograd, or "
                "depends on none of them."
            )
        ours = {id(leaf) for leaf in self.tensors}
        used = False
        for variable in _leaves_of(value):
            if id(variable) in self.names:
                raise ValueError(
                    f"{what} reads {self.names[id(variable)]!r} itself and not the tensor that it "
                    "is given for it, so that its curvature would be left out; use the given "
                    "parameters (torch.func.functional_call(model, params, inputs))."
                )
            used = used or id(variable) in ours
        if not used:
            raise ValueError(
                f"{what} depends on none of the parameters that it is given; use them "
                "(torch.func.functional_call(model, params, inputs))."
            )

    def flatten(self, parts: Sequence[Tensor | None]) -> Tensor:
        """The flat vector of parts; None stands for zeros."""
        pairs = zip(parts, self.tensors, strict=True)
        return torch.cat(
            [(torch.zeros_like(t) if p is None else p.detach()).reshape(-1) for p, t in pairs]
        )

    def pull_back(self, sources: list[Tensor], weights: list[Tensor]) -> Tensor:
        """Flat gradient of <sources, weights> with respect to the leaves; the graph is kept."""
        if not sources:
            return torch.zeros(self.total, dtype=self.dtype, device=self.device)
        return self.flatten(
            torch.autograd.grad(
                sources, self.tensors, weights, retain_graph=True, allow_unused=True
            )
        )


def _leaves_of(value: Tensor) -> Iterator[Tensor]:
    """The leaf tensors that a value's graph comes from."""
    if value.grad_fn is None:
        yield value
        return
    seen, ahead = {value.grad_fn}, [value.grad_fn]
    while ahead:
        node = ahead.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            yield variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                ahead.append(following)


@contextmanager
def _second_derivatives() -> Iterator[None]:
    """Say in a sentence what autograd says of a function without a second derivative."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).splitlines()[0]
        if any(words in text for words in _MISSING):
            raise ValueError(
                f"something that the loss calls has no second derivative in autograd ({text}); "
                "replace it by an equivalent of differentiable operations."
            ) from error
        raise


class _Host(nn.Module):
    """Calls a function while `functional_call` has changed the parameters of a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def at_parameters(model: nn.Module, params: Parameters, compute: Callable[[], Any]) -> Any:
    """What `compute()` gives while a module has other parameters, and copies of its buffers.

    Whatever reads the module's parameters meanwhile, a penalty in a loss say, reads `params`.
    """
    state = {f"model.{name}": buffer.clone() for name, buffer in model.named_buffers()}
    state |= {f"model.{name}": parameter for name, parameter in params.items()}
    return functional_call(_Host(model), state, (compute,))


def check_dependence(function: Callable[[dict[str, Tensor]], Tensor], params: Parameters) -> None:
    """Check that a function reads the parameters that it is given, and no others of theirs.

    Raises:
        ValueError: its value has no graph, depends on none of them, or on what they are copies of.
    """
    leaves = Leaves(params)
    with graph_mode():
        leaves.check_graph(function(dict(leaves.by_name)), "the loss")


@contextmanager
def graph_mode() -> Iterator[None]:
    """Autograd on, whatever stands around the call, and attention that has a second derivative."""
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def flatten_parameters(params: Parameters) -> Tensor:
    """Parameters as one (P,) vector, in the order of the operators of this module."""
    unique = {id(p): p for p in params.values()}
    return torch.cat([p.detach().reshape(-1) for p in unique.values()])


def hessian_operator(
    loss: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    inside: Inside | None = None,
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

    Returns:
        The operator on flat vectors, (P,).
    """
    leaves = Leaves(params)

    def run(compute: Callable[[], Any]) -> Any:
        return compute() if inside is None else inside(dict(leaves.by_name), compute)

    def differentiate() -> list[Tensor | None]:
        value = loss(dict(leaves.by_name))
        _check_scalar(value)
        check_finite(value.detach(), "the loss")
        leaves.check_graph(value, "the loss")
        return list(
            torch.autograd.grad(value, leaves.tensors, create_graph=True, allow_unused=True)
        )

    with graph_mode(), _second_derivatives():
        gradients = run(differentiate)
    for gradient in gradients:
        if gradient is not None:
            check_finite(gradient.detach(), "the gradient of the loss")
    curved = {i: g for i, g in enumerate(gradients) if g is not None and g.requires_grad}
    sources = list(curved.values())

    def product(vector: Tensor) -> Tensor:
        parts = leaves.split(vector.contiguous())
        with _second_derivatives():
            return run(lambda: leaves.pull_back(sources, [parts[i] for i in curved]))

    return LinearOperator(leaves.total, product, leaves.dtype, leaves.device)


def gauss_newton_operator(
    outputs: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    output_curvature: Tensor | float | Callable[[Tensor], Tensor] = 1.0,
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

    Returns:
        The operator on flat vectors, (P,), with its parts.
    """
    leaves = Leaves(params)
    with graph_mode():
        value = outputs(dict(leaves.by_name))
        check_finite(value.detach(), "the network's output")
        leaves.check_graph(value, "the network's output")
        probe = torch.zeros_like(value, requires_grad=True)
        pulled = list(
            torch.autograd.grad(value, leaves.tensors, probe, create_graph=True, allow_unused=True)
        )
    used = {i: p for i, p in enumerate(pulled) if p is not None and p.requires_grad}
    linear = list(used.values())
    scale, root = _output_scalings(output_curvature, value.detach())
    count = value.numel()

    def vjp(weights: Tensor) -> Tensor:
        return leaves.pull_back([value], [weights.reshape(value.shape)])

    def jvp(vector: Tensor) -> Tensor:
        if not used:
            return torch.zeros(count, dtype=leaves.dtype, device=leaves.device)
        parts = leaves.split(vector.contiguous())
        (result,) = torch.autograd.grad(linear, probe, [parts[i] for i in used], retain_graph=True)
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


def _check_scalar(value: Tensor) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss returned {shape}; it must return a tensor with one number.")


def _output_scalings(
    curvature: Tensor | float | Callable[[Tensor], Tensor], outputs: Tensor
) -> tuple[Product, Product]:
    """Products with S and with S^½ on flat (N,) vectors."""
    if callable(curvature):
        return _loss_scalings(curvature, outputs)
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


def _loss_scalings(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> tuple[Product, Product]:
    """Products with the Hessian of a loss in the outputs; its root is not known."""
    with graph_mode():
        at = outputs.detach().clone().requires_grad_()
        value = loss(at)
        _check_scalar(value)
        check_finite(value.detach(), "the loss")
        if not value.requires_grad:
            raise ValueError("the loss has no graph: it does not depend on the outputs.")
        (slope,) = torch.autograd.grad(value, at, create_graph=True)

    def scale(u: Tensor) -> Tensor:
        if not slope.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(u)
        with _second_derivatives():
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
