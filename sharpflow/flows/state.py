"""Where a flow is, and what is read off it there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from sharpflow.curvature.warm_start import WarmStart
from sharpflow.errors import FlowError
from sharpflow.flows.objective import Point
from sharpflow.flows.pairs import multiplicities, packed


@dataclass(frozen=True)
class FlowState:
    """Everything that the way from here on depends on.

    Attributes:
        weights: w, (p,), float64.
        average: ν of the update rule, float64; empty for gradient descent.
        time: in steps of the optimiser.
        substep: length of the next substep, before it is fitted into a step.
        longest: that a substep may be.
        vectors: eigenvectors at the last substep, (p, m); (p, 0) before the first.
        changes: of the vectors in the substeps before, (p, m) each, the oldest first.
        gram: inner products of the changes, (h, h), float64.
    """

    weights: Tensor
    average: Tensor
    time: float
    substep: float
    longest: float
    vectors: Tensor
    changes: tuple[Tensor, ...]
    gram: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The state as tensors by name, for safetensors say."""
        numbers = {
            name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in _NUMBERS
        }
        shape = (0, *self.vectors.shape)
        changes = torch.stack(self.changes) if self.changes else self.vectors.new_zeros(shape)
        plain = {name: getattr(self, name).contiguous() for name in _TENSORS}
        return plain | {"changes": changes} | numbers

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "FlowState":
        """The state that `tensors` gave.

        Raises:
            FlowError: a tensor is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = sorted(set(names) - set(tensors))
        if missing:
            raise FlowError(f"a flow's state lacks {', '.join(missing)}; it is of something else.")
        return cls(
            tensors["weights"],
            tensors["average"],
            float(tensors["time"]),
            float(tensors["substep"]),
            float(tensors["longest"]),
            tensors["vectors"],
            tuple(each for each in tensors["changes"]),
            tensors["gram"],
        )

    def warm_start(self) -> WarmStart:
        """The prediction of the next eigenvectors."""
        warm = WarmStart(_STATES)
        if self.vectors.shape[1]:
            kept = {"last": self.vectors, "changes": self.changes, "gram": self.gram}
            warm.load_state_dict(kept, self.vectors.device)
        return warm

    def starting(self, warm: WarmStart) -> "FlowState":
        """The same with another prediction."""
        kept = warm.state_dict()
        return replace(
            self, vectors=kept["last"], changes=tuple(kept["changes"]), gram=kept["gram"]
        )


_NUMBERS = ("time", "substep", "longest")
_TENSORS = ("weights", "average", "vectors", "gram")
_STATES = 5


@dataclass(frozen=True)
class Observation:
    """A flow at one time.

    Attributes:
        time: in steps of the optimiser.
        loss: L(w).
        values: largest eigenvalues of P⁻¹H, descending, (m,); the threshold is 2. Empty where none
            were asked for.
        learning_rate: η.
        substeps: that the step from here took.
        error: how far that step ends from the same with substeps of twice the length, over how far
            −P⁻¹∇L alone would go in it; NaN where it was not tried.
        directions: U of the eigenvalues that are at the threshold, (p, k), with Uᵀ P U = 1.
        covariance: X, (k, k): the oscillation's covariance is Σ = U X Uᵀ.
        violation: of the complementarity problem, see `Complement`.
    """

    time: float
    loss: float
    values: Tensor
    learning_rate: float
    substeps: int
    error: float
    directions: Tensor
    covariance: Tensor
    violation: float = 0.0

    @classmethod
    def stable(
        cls, time: float, loss: float, learning_rate: float, size: int, substeps: int = 0
    ) -> "Observation":
        """What is read off where nothing oscillates, and no eigenvalue was asked for.

        Args:
            time: in steps of the optimiser.
            loss: L(w).
            learning_rate: η.
            size: p.
            substeps: that the step from here took.
        """
        none, empty = torch.zeros(0, dtype=torch.float64), torch.zeros(0, 0, dtype=torch.float64)
        directions = torch.zeros(size, 0, dtype=torch.float64)
        return cls(time, loss, none, learning_rate, substeps, math.nan, directions, empty)

    @property
    def sharpness(self) -> Tensor:
        """The values over η: eigenvalues of H under gradient descent, with the threshold 2/η."""
        return self.values / self.learning_rate

    @property
    def critical(self) -> int:
        """Number k of eigenvalues at the threshold."""
        return self.covariance.shape[0]

    @property
    def averaged_loss(self) -> float:
        """L + ½ Tr(H Σ), the predicted mean of the loss; L + Tr Σ/η under gradient descent."""
        values = self.values[: self.critical]
        return self.loss + 0.5 * float((values * self.covariance.diagonal()).sum())

    @property
    def variance(self) -> float:
        """Tr Σ, the predicted mean of ‖w_t − w(t)‖²."""
        gram = self.directions.double().T @ self.directions.double()
        return float((gram * self.covariance.to(gram)).sum())

    def mean_outputs(self, point: Point) -> Tensor:
        """The predicted mean over the oscillation, f + ½ f''[Σ], of the outputs.

        Args:
            point: the loss at the observed state.

        Returns:
            (n, …).
        """
        outputs = point.outputs
        weights = packed(self.covariance.numpy()) * multiplicities(self.critical)
        if not self.critical:
            return outputs
        bends = point.second_outputs(self.directions)
        return outputs + 0.5 * torch.tensordot(torch.from_numpy(weights).to(bends), bends, 1)

    def variances(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of Σ, descending, (k,), and its eigenvectors, orthonormal, (p, k)."""
        directions = self.directions.double()
        basis, corner = torch.linalg.qr(directions)
        values, turn = torch.linalg.eigh(corner @ self.covariance.to(corner) @ corner.T)
        return values.flip(0), (basis @ turn).flip(1)


@dataclass(frozen=True)
class FlowStep:
    """One step of the optimiser along a flow.

    Attributes:
        state: after it.
        observation: before it.
    """

    state: FlowState
    observation: Observation
