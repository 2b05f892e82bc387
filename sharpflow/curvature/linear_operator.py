"""Symmetric matrices that are known by their products."""

import cmath
import math
from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor

from sharpflow.arguments import as_number, check_count

Product = Callable[[Tensor], Tensor]


def check_dtype(dtype: torch.dtype, argument: str) -> None:
    """Raise ValueError unless `dtype` is float32 or float64."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{argument} is {dtype}; curvature is measured in torch.float32 or torch.float64 only."
        )


_NOT_SYMMETRIC = (
    "a product of two symmetric operators is not symmetric in general, and eigenpairs, trace and "
    "spectral density need a symmetric one: take D H D by H.scaled(d), or multiply vectors with it "
    "by @."
)


class NonFiniteError(ValueError):
    """Curvature was asked for where a number is NaN or infinite, as in a run that diverged."""


def all_finite(tensor: Tensor) -> bool:
    """Whether it holds neither NaN nor infinity: a finite sum says so, another may be overflow."""
    return cmath.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


def check_finite(tensor: Tensor, argument: str) -> None:
    """Raise NonFiniteError if `tensor` holds NaN or infinity."""
    if not all_finite(tensor):
        raise NonFiniteError(f"{argument} holds NaN or infinity; curvature needs finite numbers.")


def over_unit(images: Tensor, unit: float) -> tuple[Tensor, float]:
    """Products of an operator over a power of two, so that no squares of theirs vanish or overflow.

    Args:
        images: the products.
        unit: the power of two that was chosen for the operator before; 0 where none was yet.

    Returns:
        The products, divided, and the power: 1, but where they are of an extreme scale; 0 while all
        of them are 0.
    """
    unit = unit or _unit_of(images)
    return (images if unit in (0.0, 1.0) else images / unit), unit


def _unit_of(images: Tensor) -> float:
    """A power of two near the largest entry where that is extreme, else 1; 0 where all are 0."""
    largest = float(images.abs().max())
    if largest == 0.0:
        return 0.0
    least = math.frexp(torch.finfo(images.dtype).tiny)[1]
    exponent = max(math.frexp(largest)[1] - 1, least)
    return 1.0 if abs(exponent) < -least // 4 else math.ldexp(1.0, exponent)


ASYMMETRY = 2e-3
"""Largest difference of aᵀHb and bᵀHa over ‖H‖; that of H and Hᵀ enters it squared."""


def check_symmetric(square: Tensor, largest: float, noise: float) -> None:
    """See that a diagonal block of a matrix is symmetric.

    Args:
        square: the block, as products gave it.
        largest: entry of the matrix, by its absolute value, as far as it was seen.
        noise: of the products, `LinearOperator.noise`.

    Raises:
        ValueError: as `check_skew`.
    """
    check_skew(float((square - square.T).abs().max()), largest, noise)


def check_skew(skew: float, largest: float, noise: float) -> None:
    """See that entries that symmetry makes equal differ by no more than rounding does.

    Args:
        skew: what they differ by.
        largest: as for `check_symmetric`.
        noise: likewise.

    Raises:
        ValueError: they differ by more.
    """
    if skew > (ASYMMETRY + 4 * noise) * largest:
        raise ValueError(
            f"the operator's products are not those of a symmetric matrix (by "
            f"{100 * skew / largest:.2g} %): of a loss, something that it calls has a wrong second "
            'derivative, or none; products="differences" needs first ones only.'
        )


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
        noise: error of a product with a unit vector over ‖H‖, beyond rounding; 0 unless products
            are differences.
        matrix: the matrix itself, where the operator was made from one; else None.
    """

    noise: float = 0.0
    matrix: Tensor | None = None

    def __init__(
        self,
        size: int,
        product: Product,
        dtype: torch.dtype,
        device: torch.device | str,
        block_product: Product | None = None,
    ) -> None:
        check_dtype(dtype, "dtype")
        check_count("size", size)
        self.shape = (int(size), int(size))
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

        operator = cls(matrix.shape[0], product, matrix.dtype, matrix.device, product)
        operator.matrix = matrix
        return operator

    def matvec(self, vectors: Tensor) -> Tensor:
        """Product with one vector (P,) or a block (P, b); the result has the same shape.

        Raises:
            TypeError: they are no tensor.
            ValueError: shape, dtype or device differ from the operator's, or the product is not
                finite.
        """
        if not isinstance(vectors, Tensor):
            raise TypeError(
                f"vectors is a {type(vectors).__name__}; it must be a tensor: "
                "torch.as_tensor(vectors)."
            )
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

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: "Factor") -> "OperatorProduct": ...
    def __matmul__(self, other: "Tensor | Factor") -> "Tensor | OperatorProduct":
        """Product with vectors, as `matvec`, or with another operator: an `OperatorProduct`."""
        if isinstance(other, LinearOperator | OperatorProduct):
            return OperatorProduct(self, other)
        return self.matvec(other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        """The sum of two operators on one space."""
        _check_one_space(self, other, "added")
        return self._derived(lambda v: self.matvec(v) + other.matvec(v), other.noise)

    def __radd__(self, other: int) -> "LinearOperator":
        """0 + H, from which `sum` of operators starts."""
        if other != 0:
            raise TypeError(f"{other!r} and an operator cannot be added.")
        return self

    def __mul__(self, factor: float) -> "LinearOperator":
        """The operator times a number; TypeError for what is none."""
        number = as_number(factor)
        if not math.isfinite(number):
            raise TypeError(
                f"an operator is multiplied by a finite number, not by {factor!r}: H @ v is a "
                "product with vectors or an operator, H.scaled(d) is D H D."
            )
        return self._derived(lambda v: self.matvec(v) * number)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "LinearOperator":
        """The operator over a number; TypeError for what is none."""
        number = as_number(divisor)
        if not number:
            raise ZeroDivisionError("an operator is divided by 0.")
        return self * (1.0 / number)

    def __neg__(self) -> "LinearOperator":
        """−H, whose top eigenpairs are the bottom ones of H."""
        return self * -1.0

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        """The difference of two operators on one space."""
        return self + -other

    def scaled(self, factors: Tensor) -> "LinearOperator":
        """D H D with the diagonal matrix D of `factors`, (P,).

        Raises:
            TypeError: they are no tensor.
            ValueError: the shape is another, or a factor is not finite.
        """
        if not isinstance(factors, Tensor):
            raise TypeError(
                f"factors is a {type(factors).__name__}; it must be a tensor ({self.shape[0]},)."
            )
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

    def _derived(self, product: Product, noise: float = 0.0) -> "LinearOperator":
        derived = LinearOperator(self.shape[0], product, self.dtype, self.device, product)
        derived.noise = max(self.noise, noise)
        return derived

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
        """The (P, P) matrix, symmetrised; costs P products and P² numbers of memory.

        Raises:
            ValueError: the products are not those of a symmetric matrix, or not finite.
        """
        columns = self.matvec(torch.eye(self.shape[0], dtype=self.dtype, device=self.device))
        check_symmetric(columns, float(columns.abs().max()), self.noise)
        return (columns + columns.T) / 2


class OperatorProduct:
    """The product A B of two matrices that are known by their products, as `A @ B` gives it.

    It multiplies vectors and no more. Eigenvalue solvers, the trace and spectral densities refuse
    it: they need a symmetric matrix, and A B is symmetric only where A and B commute.

    Args:
        left: A, (P, P).
        right: B, (P, P).

    Raises:
        ValueError: they act on different spaces.

    Attributes:
        shape: (P, P).
        dtype, device: of the vectors it takes and returns.
        products: number of vectors multiplied so far (a block of b vectors counts b).
    """

    def __init__(self, left: "Factor", right: "Factor") -> None:
        _check_one_space(left, right, "multiplied")
        self.shape, self.dtype, self.device = left.shape, left.dtype, left.device
        self.products = 0
        self._left, self._right = left, right

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: "Factor") -> "OperatorProduct": ...
    def __matmul__(self, other: "Tensor | Factor") -> "Tensor | OperatorProduct":
        """Product with one vector (P,) or a block (P, b), or with another operator."""
        if isinstance(other, LinearOperator | OperatorProduct):
            return OperatorProduct(self, other)
        result = self._left @ (self._right @ other)
        self.products += 1 if other.ndim == 1 else other.shape[1]
        return result

    @property
    def matvec(self) -> Product:
        """What solvers ask symmetric operators for; here it raises TypeError."""
        raise TypeError(_NOT_SYMMETRIC)


Factor = LinearOperator | OperatorProduct
"""What may stand in a product of operators."""


def _check_one_space(first: Factor, second: Factor, verb: str) -> None:
    if not isinstance(second, LinearOperator | OperatorProduct):
        raise TypeError(f"an operator and a {type(second).__name__} cannot be {verb}.")
    spaces = [(each.shape, each.dtype, each.device.type) for each in (first, second)]
    if spaces[0] != spaces[1]:
        raise ValueError(
            f"operators of shapes {first.shape} and {second.shape} in {first.dtype} on "
            f"{first.device} and {second.dtype} on {second.device} cannot be {verb}."
        )


def check_operator(operator: object) -> None:
    """Raise TypeError unless this is a `LinearOperator`, with how to make one."""
    if isinstance(operator, OperatorProduct):
        raise TypeError(_NOT_SYMMETRIC)
    if not isinstance(operator, LinearOperator):
        raise TypeError(
            f"operator is a {type(operator).__name__}; it must be a LinearOperator: of a matrix, "
            "LinearOperator.from_dense(matrix); of a loss, hessian_operator(loss, params); of a "
            "model, ModelCurvature(model, loss_fn, inputs, targets).hessian()."
        )
