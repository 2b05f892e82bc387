"""Products by differences of gradients, while they are seen to agree with those of autograd."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature.eigen import EigenResult, scale_of
from sharpflow.curvature.graphs import length_of
from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.model_loss import LossOfModel, is_far, moved
from sharpflow.curvature.operators import flatten_parameters

_LENGTH = {torch.float32: 1.5e-5, torch.float64: 1e-6}
"""Distance of two gradients over the norm of the parameters: that which is tried first."""
_COLD = {torch.float32: 4e-6, torch.float64: 1e-8}
"""The same from a random start, where all but the first are one-sided, whose error grows as h."""
_FACTORS = (1.0, 0.25, 4.0)
_PRODUCTS = 25
"""Most of them for each pair, before autograd takes over: kinks hide where pairs are."""
_LONGEST = 32
"""Most measurements from one comparison to the next."""


class DisagreementError(ValueError):
    """Products by differences of gradients were seen to be wrong."""


class ConfirmedOperator(LinearOperator):
    """Products by differences of gradients, if that with the first vector is autograd's.

    The first is made both ways, and autograd's is taken. Where the two differ all others are by
    autograd too. After it each has to be symmetric with the one before.

    Args:
        exact: products by autograd.
        differences: of the same matrix.
        allowed: largest relative difference of the first products.

    Attributes:
        exact: as given.
        error: difference of the first products with a unit vector; NaN before it.
        agrees: whether differences are used; None before the first product.
        apart: whether the two differed by more than half, as kinks make them.
    """

    def __init__(self, exact: LinearOperator, differences: LinearOperator, allowed: float) -> None:
        super().__init__(exact.shape[0], self._multiply, exact.dtype, exact.device)
        self.exact, self._differences, self._allowed = exact, differences, allowed
        self.error, self.apart = float("nan"), False
        self.agrees: bool | None = None
        self._before: tuple[Tensor, Tensor] | None = None  # the last vector and its product

    def _multiply(self, vector: Tensor) -> Tensor:
        if self.agrees is None:
            image = self._compared(vector)
        else:
            image = (self._differences if self.agrees else self.exact).matvec(vector)
        if self.agrees and self._before is not None:
            self._check_symmetry(*self._before, vector, image)
        self._before = (vector.clone(), image) if self.agrees else None
        return image

    def _compared(self, vector: Tensor) -> Tensor:
        image = self.exact.matvec(vector)
        try:
            error = float((self._differences.matvec(vector) - image).norm())
        except (RuntimeError, ValueError):  # of kernels that autograd does not use
            error = float("inf")
        size = float(image.norm())
        self.agrees = error <= self._allowed * size
        self.apart = not error <= size / 2
        self.error = error / max(float(vector.norm()), 1e-30)
        return image

    def _check_symmetry(self, first: Tensor, its: Tensor, vector: Tensor, image: Tensor) -> None:
        """Raise `DisagreementError` where kinks that the first vector did not meet show."""
        apart = abs(float(torch.dot(first, image)) - float(torch.dot(vector, its)))
        size = min(float(its.norm() * vector.norm()), float(image.norm() * first.norm()))
        if not apart <= self._allowed * size:
            raise DisagreementError("products by differences of gradients are not symmetric.")


class Shortcut:
    """Decides which measurements of a trajectory may make products from gradients alone.

    A product by autograd costs two gradients or more, after a graph that costs as much. A
    difference of gradients needs neither: k central ones along the k start vectors, and then one
    gradient a product, taken from the mean of the last two. Their error, h²/6 times a fourth
    derivative of the loss along the start vectors and h/2 times a third one in the other products,
    is not known in advance, and kinks (ReLU) spoil them. So they are compared with autograd at the
    eigenvectors that it has found, and are used if they are right there to a fifth of the accuracy
    that is asked for. From then on the eigenvalues that they give are compared with central
    differences at 2h after 1, 2, 4, … and then every 32 measurements, and where the parameters have
    moved by a tenth of their length: truncation is four times as large there, rounding half as
    large. Where the two differ by more autograd measures instead. Rounding shows in residuals too,
    which are those of the products that were used.

    From a random start autograd makes the first product, and one of each vector that was found:
    `cold` and `accept`.

    Args:
        accuracy: relative error of eigenvalues that is allowed.
        patience: measurements until differences that failed are tried again.
        most: products of a measurement, or None.

    Attributes:
        error: of eigenvalues, relative, at the last comparison; NaN before it.
    """

    def __init__(self, accuracy: float, patience: int, most: int | None = None) -> None:
        self.error = float("nan")
        self._allowed, self._patience, self._most = accuracy / 5, patience, most
        self._noise = 0.0
        self._distance: float | None = None  # over ‖θ‖; None where none is near enough
        self._place: Tensor | None = None  # θ at the last comparison
        self._wait, self._interval = 0, 1

    @property
    def open(self) -> bool:
        """Whether differences were right at the last comparison."""
        return self._distance is not None

    def operator(
        self, loss: LossOfModel, scaling: Tensor | None, count: int
    ) -> LinearOperator | None:
        """The Hessian by differences at the present parameters; None where autograd has to measure.

        Args:
            loss: of the model.
            scaling: D of D H D, (P,), or None.
            count: start vectors, to which central differences are given.
        """
        if self._distance is None or self._place is None:
            return None
        if sum(p.numel() for p in loss.present().values()) != len(self._place):
            self.close()
            return None
        return self._differences(loss, scaling, count, self._distance)

    def limits(self, count: int) -> dict[str, Any]:
        """Of the solver: what accuracy is left for it, and products after which it has failed."""
        most = max(count, min(_PRODUCTS * count, self._most or _PRODUCTS * count))
        return {"accuracy": 4 * self._allowed, "max_products": most}

    def cold_limits(self, count: int) -> dict[str, Any]:
        """The same from a random start; left are those of `accept`, and as many if it refuses."""
        most = {} if self._most is None else {"max_products": self._most - 2 * count}
        return {"accuracy": 3 * self._allowed} | most

    def close(self) -> None:
        """Let autograd measure, and compare anew."""
        self._distance, self._wait = None, 0

    def confirm(self, loss: LossOfModel, scaling: Tensor | None, found: EigenResult) -> bool:
        """Whether pairs that differences gave may be believed; compares them where that is due.

        Args:
            loss: of the model.
            scaling: D of D H D, (P,), or None.
            found: pairs of D H D.
        """
        assert self._distance is not None
        assert self._place is not None
        here = flatten_parameters(loss.present())
        self._wait -= 1
        if self._wait > 0 and not is_far(here, self._place):
            return True
        error, _ = self._seen(loss, scaling, found, 2 * self._distance)
        if not error <= self._allowed:  # true for NaN
            self.close()
            return False
        self.error, self._place = error, here
        self._wait = self._interval = min(2 * self._interval, _LONGEST)
        return True

    def compare(self, loss: LossOfModel, scaling: Tensor | None, found: EigenResult) -> None:
        """Choose the distance by eigenpairs that autograd has found at the present parameters.

        Args:
            loss: of the model.
            scaling: D of D H D, (P,), or None.
            found: pairs of D H D.
        """
        if self._distance is None and self._wait > 0:
            self._wait -= 1
            return
        first = self._distance or _LENGTH[found.vectors.dtype]
        self.close()
        for factor in _FACTORS:
            try:
                error, noise = self._seen(loss, scaling, found, factor * first)
            except (RuntimeError, ValueError):  # of kernels that autograd does not use
                break
            if error <= self._allowed and noise <= 2.5 * self._allowed:
                self._trust(loss, factor * first, error, noise)
                return
            if not noise <= 0.1:
                break  # kinks: no other distance helps
        self._wait = self._patience

    def cold(
        self, loss: LossOfModel, scaling: Tensor | None, exact: LinearOperator
    ) -> ConfirmedOperator:
        """The Hessian for a random start: by differences where a first product confirms them.

        Args:
            loss: of the model.
            scaling: D of D H D, (P,), or None.
            exact: D H D by autograd.
        """
        differences = self._differences(loss, scaling, 1, _COLD[exact.dtype])
        return ConfirmedOperator(exact, differences, min(50 * self._allowed, 0.1))

    def accept(
        self, operator: ConfirmedOperator, found: EigenResult, count: int, loss: LossOfModel
    ) -> EigenResult | None:
        """Pairs of a random start as autograd sees them; None where it sees others.

        Each vector is multiplied by autograd. Its quotient is the value that is returned, and has
        to be that of differences to a fifth of the accuracy. What the first products differed by,
        and the asymmetry of those by differences, are errors of products: over the value they may
        be two fifths of the accuracy, for where there is a larger eigenvalue of the other sign they
        are measured against that. The largest of these is added to the errors. The asymmetry that
        is returned is that of autograd's products.

        Args:
            operator: that found the pairs, whose first products agreed.
            found: the pairs, and maybe some after them, which stay.
            count: pairs that are wanted.
            loss: of the model.
        """
        vectors = found.vectors[:, :count]
        images = operator.exact.matvec(vectors)
        lengths = _inner(vectors, vectors).diagonal().sqrt()
        inner = _inner(vectors, images) / lengths / lengths[:, None]
        values, turn = torch.linalg.eigh((inner + inner.T) / 2)
        values, turn = values.flip(0), turn.flip(1).to(vectors)
        vectors, images = vectors @ turn, images @ turn
        least = scale_of(values, found.norm, vectors.dtype)
        residuals = (images - vectors * values.to(vectors)).norm(dim=0).double().cpu()
        error = float(((values - found.values[:count]).abs() / least).max())
        noise = max(operator.error, found.asymmetry * found.norm)
        extra = max(error, noise / float(least.min()))
        errors = found.errors[:count] if found.error_kind == "bound" else residuals / least
        right = error <= self._allowed and extra <= 2 * self._allowed
        if not (right and float((errors + extra).max()) <= 5 * self._allowed):
            return None
        distance = self._distance or _LENGTH[vectors.dtype]
        self._trust(loss, distance, error, noise / max(found.norm, 1e-30))
        after = slice(count, None)
        refined = images / images.norm(dim=0).clamp(min=1e-30)
        return replace(
            found,
            values=torch.cat([values, found.values[after]]),
            vectors=torch.cat([vectors, found.vectors[:, after]], dim=1),
            residuals=torch.cat([residuals, found.residuals[after]]),
            errors=torch.cat([errors + extra, found.errors[after]]),
            refined=torch.cat([refined, found.refined[:, after]], dim=1),
            asymmetry=float((inner - inner.T).abs().max()) / max(found.norm, 1e-30),
        )

    def refuse(self) -> None:
        """Let autograd measure for a while: kinks."""
        self._distance, self._wait = None, self._patience

    def _trust(self, loss: LossOfModel, distance: float, error: float, noise: float) -> None:
        """Use differences at a distance from here on, and compare them after one measurement."""
        self._distance, self.error, self._noise = distance, error, noise
        self._place = flatten_parameters(loss.present())
        self._wait = self._interval = 1

    def _seen(
        self, loss: LossOfModel, scaling: Tensor | None, found: EigenResult, distance: float
    ) -> tuple[float, float]:
        """Errors of the eigenvalues, and of products over ‖H‖, the largest."""
        vectors = found.vectors
        operator = self._differences(loss, scaling, vectors.shape[1], distance)
        images = operator.matvec(vectors).double()
        there = vectors.double()
        along = (there * images).sum(0).cpu()
        beside = (images - there * along.to(there.device)).norm(dim=0).cpu()
        scale = max(found.norm, 1e-30)
        error = float(((along - found.values).abs() / found.values.abs().clamp(min=1e-30)).max())
        extra = (beside.square() - found.residuals.square()).clamp(min=0).sqrt()
        noise = max(float(extra.max()) / scale, error * float(found.values.abs().max()) / scale)
        return error, noise

    def _differences(
        self, loss: LossOfModel, scaling: Tensor | None, count: int, distance: float
    ) -> LinearOperator:
        params = loss.present()
        like = next(iter(params.values()))
        size = sum(p.numel() for p in params.values())
        step = distance * max(length_of(params.values()), 1e-3)
        left = count
        middle = torch.empty(0)

        def slope(direction: Tensor, length: float) -> Tensor:
            return loss.gradient(moved(params, direction, length), second=False)

        def product(vector: Tensor) -> Tensor:
            nonlocal left, middle
            length = float(vector.norm())
            if length == 0.0:
                return torch.zeros_like(vector)
            unit = vector / length
            if left > 0:
                left -= 1
                ahead, behind = slope(unit, step), slope(unit, -step)
                middle = (ahead + behind) / 2
                image = (ahead - behind) / (2 * step)
            else:
                image = (slope(unit, step) - middle) / step
            return (image * length).to(vector.dtype)

        operator = LinearOperator(size, product, like.dtype, like.device)
        operator.noise = self._noise
        return operator if scaling is None else operator.scaled(scaling)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later decisions depend on; the tensor is not copied."""
        return {
            "error": self.error,
            "noise": self._noise,
            "distance": self._distance,
            "place": self._place,
            "wait": self._wait,
            "interval": self._interval,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over what `state_dict` gave, with the tensor on a device."""
        self.error, self._noise = state["error"], state["noise"]
        self._distance, place = state["distance"], state["place"]
        self._place = None if place is None else place.to(device)
        self._wait, self._interval = state["wait"], state["interval"]


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Inner products (k, k) of columns (P, k), in float64: float32's sums of P terms lose 1e-4."""
    stripes = zip(first.split(2**20), second.split(2**20), strict=True)
    parts = [(a.double().T @ b.double()).cpu() for a, b in stripes]
    return torch.stack(parts).sum(0)
