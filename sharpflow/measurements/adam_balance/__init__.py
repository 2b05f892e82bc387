"""The noise that Adam's own state has of each side of a symmetry, and the charge in its metric.

Derived in docs/background/adam_equilibrium.md; the sums are those of `sharpflow.symmetry.adam`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import check_finite
from sharpflow.measurements.base import Measurement, Snapshot, Values
from sharpflow.measurements.base import Options as Options
from sharpflow.measurements.symmetry_noise import chosen_symmetries
from sharpflow.symmetry import adam_relaxation_steps, adam_sums


class AdamBalance(Measurement):
    """Of every unit: R of both sides, the charges, Σ Dθ², and the steps to the equilibrium.

    `adam_outer` and `adam_inner` are R = Σ v̂/(√v̂ + ε), `adam_charge` is Σ Dθ² of the outer
    parameters less that of the inner ones, `adam_size` their sum, and `adam_plain_charge` and
    `adam_plain_size` are the same without D. `adam_imbalance` is Σ|R_outer − R_inner| over
    Σ(R_outer + R_inner), of all units.
    """

    def __init__(self, parameters: Iterable[str]):
        self._parameters = tuple(parameters)

    def measure(self, snapshot: Snapshot) -> Values:
        """All of it; NonFiniteError for a run that left the finite numbers."""
        problem = snapshot.problem
        division = problem.optimiser.division(snapshot.optimiser_state, snapshot.step)
        if division is None:
            return {}
        for name, tensor in snapshot.parameters.items():
            check_finite(tensor, name)
        chosen = chosen_symmetries(snapshot, self._parameters)
        rates = problem.learning_rate(snapshot.step - 1)
        rate = float(rates[snapshot.run] if isinstance(rates, Tensor) else rates)
        decay = problem.optimiser.weight_decay if problem.optimiser.decoupled else 0.0
        parameters = {name: t.double() for name, t in snapshot.parameters.items()}
        squares = {name: t.double() for name, t in division.squares.items()}
        found = [adam_sums(each, parameters, squares, division.epsilon) for each in chosen]
        outer, inner = (_row(getattr(sums, side) for sums in found) for side in ("outer", "inner"))
        times = (adam_relaxation_steps(sums, rate, division.beta, decay) for sums in found)
        return {
            "adam_outer": outer,
            "adam_inner": inner,
            "adam_charge": _row(sums.charge for sums in found),
            "adam_plain_charge": _row(sums.plain_charge for sums in found),
            "adam_plain_size": _row(sums.plain_size for sums in found),
            "adam_size": _row(sums.size for sums in found),
            "adam_relaxation_steps": _row(times),
            "adam_imbalance": float(np.abs(outer - inner).sum() / (outer + inner).sum()),
        }


def _row(of_symmetries: Iterable[Tensor]) -> np.ndarray:
    return torch.cat([values.cpu() for values in of_symmetries]).numpy()


def build(options: Mapping[str, Any]) -> AdamBalance:
    """The measurement of `{every, parameters}`."""
    return AdamBalance(options["parameters"])
