"""Generators of continuous symmetries: symmetric matrices Q with l(e^{λQ} θ) = l(θ).

A generator acts on a dict of parameter tensors, so that Q never has to be formed; a dense matrix is
one of them. Source: `ziyin2024`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.symmetry._checks import check_symmetric

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Generator:
    """A symmetric linear map Q on parameters.

    Attributes:
        name: a short description, for messages.
        apply: θ ↦ Qθ. Parameters that Q does not touch are left out of the result.
        flow: (θ, λ) ↦ e^{λQ} θ, every parameter present.

    Both work under `torch.func.vmap`.
    """

    name: str
    apply: Callable[[Params], dict[str, Tensor]]
    flow: Callable[[Params, float], dict[str, Tensor]]


def weighted(weights: Mapping[str, float]) -> Generator:
    """Q that multiplies each named parameter by its own number, and every other one by zero.

    Args:
        weights: parameter name → diagonal entry of Q.

    Raises:
        ValueError: no weight is given, or (on use) a name is not among the parameters.
    """
    if not weights:
        raise ValueError("weights must name at least one parameter; it is empty")
    weights = dict(weights)

    def apply(params: Params) -> dict[str, Tensor]:
        _require(params, weights)
        return {name: weight * params[name] for name, weight in weights.items()}

    def flow(params: Params, strength: float) -> dict[str, Tensor]:
        _require(params, weights)
        factor = torch.as_tensor(strength, dtype=torch.float64)
        return {
            name: value * torch.exp(factor * weights[name]).to(value) if name in weights else value
            for name, value in params.items()
        }

    label = ", ".join(f"{weight:+g} on {name}" for name, weight in weights.items())
    return Generator(f"diagonal ({label})", apply, flow)


def rescaling(u: str, w: str) -> Generator:
    """Q = +1 on the outer layer and −1 on the inner one: U → e^λ U, W → e^{−λ} W.

    A symmetry of two consecutive layers with a positively homogeneous activation between them
    (linear, ReLU). Its charge is ‖U‖² − ‖W‖².

    Args:
        u: name of the outer parameter.
        w: name of the inner parameter.

    Raises:
        ValueError: both names are the same, or (on use) one is not among the parameters.
    """
    if u == w:
        raise ValueError(f"u and w must be two different parameters; both are {u!r}")
    return weighted({u: 1.0, w: -1.0})


def scale(names: Iterable[str]) -> Generator:
    """Q = identity on the named parameters: their common scale.

    A symmetry of a loss that depends on them only through their direction (weight or batch
    normalisation). Its charge is the sum of their squared norms. Give every name for the global
    scale, and one name for that of a layer.

    Raises:
        ValueError: there is no name, one string instead of names, or (on use) a name that is not
            among the parameters.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a collection of parameter names; got the string {names!r}")
    return weighted(dict.fromkeys(names, 1.0))


def matrix_symmetry(u: str, w: str, a: Tensor) -> Generator:
    """Q of U → U e^{λA}, W → e^{−λA} W for a symmetric A: Q(U, W) = (U A, −A W).

    The full symmetry of two linear layers, U (d2, d) and W (d, d0); A = I gives `rescaling`. Its
    charge is Tr[A (Uᵀ U − W Wᵀ)].

    Args:
        u: name of the outer parameter, (d2, d).
        w: name of the inner parameter, (d, d0).
        a: (d, d), symmetric.

    Raises:
        ValueError: both names are the same, a is not symmetric, or (on use) its size is not the
            width of the layers.
    """
    if u == w:
        raise ValueError(f"u and w must be two different parameters; both are {u!r}")
    check_symmetric("a", a)
    if a.ndim != 2:
        raise ValueError(f"a must be one matrix; got shape {tuple(a.shape)}")

    def check(params: Params) -> None:
        _require(params, (u, w))
        if params[u].shape[-1] != a.shape[0] or params[w].shape[-2] != a.shape[0]:
            raise ValueError(
                f"a is {a.shape[0]} × {a.shape[0]} but the layers have shapes "
                f"{tuple(params[u].shape)} and {tuple(params[w].shape)}"
            )

    def apply(params: Params) -> dict[str, Tensor]:
        check(params)
        matrix = a.to(params[u])
        return {u: params[u] @ matrix, w: -(matrix @ params[w])}

    def flow(params: Params, strength: float) -> dict[str, Tensor]:
        check(params)
        matrix = strength * a.to(params[u])
        moved = {
            u: params[u] @ torch.linalg.matrix_exp(matrix),
            w: torch.linalg.matrix_exp(-matrix) @ params[w],
        }
        return {**params, **moved}

    return Generator(f"matrix symmetry of {u} and {w}", apply, flow)


def dense(q: Tensor) -> Generator:
    """Q given as a symmetric (P, P) matrix over the parameters flattened in the dict's order.

    Raises:
        ValueError: q is not symmetric, or (on use) its size is not the number of parameters.
    """
    check_symmetric("q", q)
    if q.ndim != 2:
        raise ValueError(f"q must be one matrix; got shape {tuple(q.shape)}")

    def multiply(matrix: Tensor, params: Params) -> dict[str, Tensor]:
        flat = flatten(params)
        if len(flat) != matrix.shape[0]:
            raise ValueError(
                f"q is {matrix.shape[0]} × {matrix.shape[0]} but there are {len(flat)} parameters"
            )
        return unflatten(matrix.to(flat) @ flat, params)

    def flow(params: Params, strength: float) -> dict[str, Tensor]:
        return multiply(torch.linalg.matrix_exp(strength * q), params)

    return Generator("dense", lambda params: multiply(q, params), flow)


def as_generator(q: Generator | Tensor) -> Generator:
    """A generator as it is, a matrix as `dense`.

    Raises:
        ValueError: q is neither, or a matrix that is not symmetric.
    """
    if isinstance(q, Generator):
        return q
    if isinstance(q, Tensor):
        return dense(q)
    raise ValueError(f"q must be a Generator or a matrix; got {type(q).__name__}")


def flatten(params: Params) -> Tensor:
    """All parameters as one vector (P,), in the dict's order."""
    return torch.cat([value.reshape(-1) for value in params.values()])


def unflatten(flat: Tensor, like: Params) -> dict[str, Tensor]:
    """Inverse of `flatten`, with the names and shapes of `like`."""
    parts = flat.split([value.numel() for value in like.values()])
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


def symmetry_deviation(
    loss: Callable[..., Tensor],
    params: Params,
    generator: Generator | Tensor,
    *inputs: Tensor,
    strengths: Iterable[float] = (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0),
) -> float:
    """The largest relative change of a loss along e^{λQ} θ.

    Args:
        loss: loss(params, *inputs), a scalar or, sharper, one loss a sample.
        params: the parameters θ at which to test.
        generator: Q, a `Generator` or a symmetric matrix.
        inputs: handed to `loss` as they are.
        strengths: the values of λ.

    Returns:
        max |l(e^{λQ} θ) − l(θ)| over strengths and samples, over max |l(θ)|; infinite where the
        loss leaves the finite numbers.

    Raises:
        ValueError: the loss is not finite at θ, or two evaluations at θ differ (it is random).
    """
    generator = as_generator(generator)
    with torch.no_grad():
        reference = loss(params, *inputs)
        if not bool(torch.isfinite(reference).all()):
            raise ValueError("loss must be finite at params; it is not")
        size = max(float(reference.abs().max()), torch.finfo(reference.dtype).tiny)
        repeat = float((loss(params, *inputs) - reference).abs().max()) / size
        if repeat > default_tolerance(reference):
            raise ValueError(
                f"loss must be deterministic; two evaluations at params differ by {repeat:.3g} "
                "(is a model with dropout in training mode?)"
            )
        worst = 0.0
        for strength in strengths:
            moved = loss(generator.flow(params, strength), *inputs)
            deviation = float((moved - reference).abs().max()) / size
            worst = max(worst, deviation if deviation == deviation else float("inf"))
    return worst


def is_symmetry(
    loss: Callable[..., Tensor],
    params: Params,
    generator: Generator | Tensor,
    *inputs: Tensor,
    strengths: Iterable[float] = (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0),
    tolerance: float | None = None,
) -> bool:
    """Whether `symmetry_deviation` is within `tolerance` (default: √eps of the parameters' dtype).

    A numerical test at one θ and on the given inputs: it can refute a symmetry, not prove one.
    """
    if tolerance is None:
        tolerance = default_tolerance(next(iter(params.values())))
    deviation = symmetry_deviation(loss, params, generator, *inputs, strengths=strengths)
    return deviation <= tolerance


def default_tolerance(like: Tensor) -> float:
    """√eps of a tensor's dtype: 1.5e-8 in float64, 3.5e-4 in float32."""
    return torch.finfo(like.dtype).eps ** 0.5


def _require(params: Params, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in params]
    if missing:
        raise ValueError(
            f"the generator acts on {', '.join(missing)}, which is not among the parameters "
            f"{', '.join(params)}"
        )
