"""The balance that Adam's own state tells: sums of √v in the place of variances.

Adam divides by D = √v̂ + ε, with v̂ its running mean of squared gradients. Along Q = diag(±1) the
gradient of every sample vanishes, so that of Σ q D θ² what a step changes is η² Σ q v̂/D, which for
small ε is the difference of the sums of √v̂ on the two sides. Decoupled decay γ takes 2ηγ of the
charge: it rests at Σ q D θ² = η/(2γ) Σ q v̂/D. Decay that is added to the gradient is divided by D
too, so that there Σ q θ² rests at the same. Assumed is that v̂ changes slowly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from sharpflow.symmetry.adam import adam_squares
from sharpflow.symmetry.balance import existing_symmetries
from sharpflow.symmetry.charge_laws import imbalance
from sharpflow.symmetry.shared_units import Symmetry, check_symmetries
from sharpflow.symmetry.tables import Table, total


@dataclass(frozen=True, eq=False)
class AdamNoise:
    """What moves the charges of one symmetry under Adam. All tensors are (units,), float64.

    Where groups differ, rates and decays are relative to the largest of the symmetry's parameters:
    `outer` and `inner` weigh each parameter by its learning rate, the sizes by its decay.

    Attributes:
        symmetry: the symmetry; of a rotation its diagonal, since Adam leaves no other part of it.
        outer_size, inner_size: Σ D θ² on both sides; Σ θ² where decay is added to the gradient.
        outer, inner: Σ v̂/D on both sides, the L1 norm of the gradients' root mean squares.
        learning_rate, weight_decay: η and γ.
    """

    symmetry: Symmetry
    outer_size: Tensor
    inner_size: Tensor
    outer: Tensor
    inner: Tensor
    learning_rate: float
    weight_decay: float

    @property
    def charge(self) -> Tensor:
        """The charges that the law is about."""
        return self.outer_size - self.inner_size

    @property
    def imbalance(self) -> float:
        """‖R_O − R_I‖/(‖R_O‖ + ‖R_I‖) of R = Σ v̂/D, in [0, 1]; NaN where there is no gradient."""
        return imbalance(self.outer, self.inner)

    @property
    def drift(self) -> Tensor:
        """Change of Σ D θ² a step while v̂ stands, to first order in ηγ."""
        return self.learning_rate**2 * (self.outer - self.inner - self._decay * self.charge)

    @property
    def sustained(self) -> Tensor:
        """η/(2γ)·(R_O − R_I), the charges at a stationary point; NaN without decay."""
        return (self.outer - self.inner) / (self._decay or math.nan)

    @property
    def _decay(self) -> float:
        return 2 * self.weight_decay / self.learning_rate if self.weight_decay else 0.0


@dataclass(frozen=True, eq=False)
class AdamBalance(Table):
    """The balance of every symmetry under Adam; printed, a table.

    Attributes:
        symmetries: what moves the charges of each.
        steps: that the optimiser has taken.
    """

    symmetries: tuple[AdamNoise, ...]
    steps: int

    @property
    def title(self) -> str:
        """How many symmetries, and after how many steps."""
        return f"Adam's balance of {len(self.symmetries)} symmetries, after {self.steps} steps"

    def rows(self) -> list[dict[str, Any]]:
        """A row a symmetry.

        Returns:
            By column: `name`, `kind`, `units`; `charge`, `root_out`, `root_in` (Σ v̂/D), `drift` and
            `sustained`, summed over units; `imbalance`.
        """
        return [
            {
                "name": each.symmetry.name,
                "kind": each.symmetry.kind
                + (", diagonal" if each.symmetry.kind == "rotation" else ""),
                "units": each.symmetry.units,
                "charge": total(each.charge),
                "root_out": total(each.outer),
                "root_in": total(each.inner),
                "imbalance": each.imbalance,
                "drift": total(each.drift),
                "sustained": total(each.sustained),
            }
            for each in self.symmetries
        ]


def adam_balance(
    model: nn.Module, optimiser: Optimizer, *, symmetries: Sequence[Symmetry] | None = None
) -> AdamBalance:
    """Whether a model that Adam trains is at Adam's equilibrium, from the optimiser's own state.

    No data are read: v̂ is what Adam holds, a mean over some 1/(1 − β₂) steps. It is
    assumed that the symmetry keeps the loss, as it does not with a penalty in it; `noise_balance`
    measures that (`slope`).

    Args:
        model: that the optimiser trains.
        optimiser: `torch.optim.Adam` or `AdamW`, in any of its forms, after at least one step. Its
            groups may differ in learning rate and decay.
        symmetries: of the model; by default those that `find_symmetries` finds.

    Returns:
        The balance of each symmetry, in their order.

    Raises:
        ValueError: there is no symmetry, the optimiser is another, has taken no step, does not hold
            a parameter, maximises or stands still, or decay is decoupled for some parameters of a
            symmetry and not for others.
    """
    if type(optimiser) not in (Adam, AdamW):
        raise ValueError(
            f"the optimiser is {type(optimiser).__name__}, and this balance is that of Adam and "
            "AdamW; that of SGD is noise_balance."
        )
    if symmetries is None:
        symmetries = existing_symmetries(model, None)
    groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    params = dict(getattr(model, "_orig_mod", model).named_parameters())
    check_symmetries(symmetries, params)
    found, steps = [], 0
    for symmetry in symmetries:
        held = {}
        for name in symmetry.parameters:
            if name not in params:
                raise ValueError(f"a symmetry moves {name!r}, which is no parameter of the model.")
            group = groups.get(id(params[name]))
            if group is None:
                raise ValueError(f"the optimiser does not hold the parameter {name!r}.")
            state = optimiser.state.get(params[name], {})
            held[name] = _Held(name, params[name], group, state, type(optimiser) is AdamW)
            steps = max(steps, held[name].steps)
        found.append(_noise(symmetry, held))
    return AdamBalance(tuple(found), steps)


class _Held:
    """What Adam holds of a parameter, in float64 on the CPU."""

    def __init__(
        self,
        name: str,
        parameter: Tensor,
        group: Mapping[str, Any],
        state: Mapping[str, Any],
        decoupled: bool,
    ) -> None:
        if "exp_avg_sq" not in state:
            raise ValueError(
                f"the optimiser has no state of {name!r} yet; take a step before measuring."
            )
        if group["maximize"] or not group["lr"]:
            what = "maximises" if group["maximize"] else "has the learning rate 0"
            raise ValueError(f"the optimiser {what} for {name!r}: no noise moves it down a loss.")
        self.steps = int(state["step"])
        means = {"own": state["exp_avg_sq"]}
        means |= {"largest": state["max_exp_avg_sq"]} if group["amsgrad"] else {}
        exact = {key: _exact(mean) for key, mean in means.items()}
        squares = adam_squares(exact, group["betas"][1], self.steps)
        self.square = squares["own"]
        largest = squares.get("largest", self.square)
        self.divisor = largest.sqrt() + group["eps"]
        self.value = _exact(parameter)
        self.rate, self.decay = float(group["lr"]), float(group["weight_decay"])
        self.decoupled = bool(group.get("decoupled_weight_decay", decoupled))


def _noise(symmetry: Symmetry, held: Mapping[str, _Held]) -> AdamNoise:
    rate = max(each.rate for each in held.values())
    decay = max(each.decay for each in held.values())
    kinds = {each.decoupled for each in held.values() if each.decay}
    if len(kinds) > 1:
        raise ValueError(
            f"weight decay is decoupled for some parameters of {symmetry.name} and not for others."
        )
    sizes, powers = {}, {}
    for name, each in held.items():
        share = each.decay / decay if decay else rate / each.rate
        weight = 1.0 if kinds == {False} else each.divisor
        sizes[name] = share * weight * each.value.square()
        ratio = torch.where(each.square > 0, each.square / each.divisor, 0.0)
        powers[name] = each.rate / rate * ratio
    sides = (*symmetry.sums(sizes), *symmetry.sums(powers))
    return AdamNoise(symmetry, *sides, learning_rate=rate, weight_decay=decay)


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().double().cpu()
