"""A learning rate in units of 2/λ₀, λ₀ the sharpness of each run at its start.

As experiments on large learning rates state them (Lewkowycz et al. 2020, "The large learning rate
phase of deep learning: the catapult mechanism").
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflow.curvature import NonFiniteError, hessian_operator, top_eigenpairs
from sharpflow.errors import ConfigError
from sharpflow.schedules.base import OfStart, Start


class InitialSharpness(OfStart):
    """Rates 2u/λ₀, with u the nominal learning rate, after a linear warm-up."""

    def __init__(self, nominal: float, warmup: int, tol: float):
        self.nominal = nominal
        self.warmup = warmup
        self.tol = tol

    def rates(self, starts: Sequence[Start]) -> Callable[[int], Tensor]:
        """As for `OfStart`.

        Raises:
            ConfigError: a run has no sharpness above 0 at its start, or it did not converge.
        """
        found = torch.tensor([self._sharpness(each) for each in starts], dtype=torch.float64)
        whole = 2.0 * self.nominal / found
        return lambda step: whole * min((step + 1) / (self.warmup + 1), 1.0)

    def _sharpness(self, start: Start) -> float:
        told = f"schedule.kind = 'initial_sharpness': seed {start.seed}"
        try:
            top = top_eigenpairs(hessian_operator(start.loss, start.parameters), tol=self.tol)
        except NonFiniteError:
            raise ConfigError(
                f"{told} starts with a loss or gradient that is not finite."
            ) from None
        value = float(top.values[0])
        if not top.converged:
            raise ConfigError(
                f"{told}: its initial sharpness did not converge to tol = {self.tol:g} (relative "
                f"residual {float(top.residuals[0]):.1e}); raise schedule.tol, or use float64."
            )
        if value <= 0:
            raise ConfigError(
                f"{told} starts where no eigenvalue of the Hessian is above 0 (the largest is "
                f"{value:.3g}), so that no learning rate is unstable there; give learning rates as "
                "they are, or another initialisation."
            )
        return value


def build(options: Mapping[str, Any], nominal: float, steps: int) -> InitialSharpness:
    """The course of `{kind: initial_sharpness, warmup, tol}`."""
    return InitialSharpness(nominal, options["warmup"], options["tol"])
