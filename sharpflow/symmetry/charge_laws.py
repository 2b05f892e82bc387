"""How SGD moves the charges of a symmetry, where they come to rest, and how long that takes.

Along the orbit of X = e^A the sides' values grow by X and X⁻¹ and their gradients by X⁻¹ and X, so
that what is known at one point of the orbit is known at all of them. With K the Grams of the
values, P = G/S + (1 + β)/(1 − β) M those of the gradients of SGD with momentum β (G of the noise of
a sample, M of the mean gradient) and weight decay γ, a charge C = K_O − K_I moves by

    E[ΔC] = c (P_O − P_I − κ C),  c = η²/(1 − β)²,  κ = γ(1 − β)/η · (2 − ηγ(1 + β)/(1 − β)²)

a step: exactly at β = 0, and for β > 0 if the mean gradient, the noise's covariance and the
parameters change little over 1/(1 − β) steps (derived in docs/background/theory.md, section 5). It
rests where N T N = R with N = X², R = P_O + κ K_I and T = P_I + κ K_O.

A loss that the symmetry does not keep, as one with a penalty, has a slope F = O·ḡ_O − I·ḡ_I along
the orbit, and −c ω F in the drift, ω = 2 (1 − β)/η · (1 − ηγ(1 + β)/(1 − β)²). How F changes along
the orbit is not known at one of its points: where it counts, no equilibrium is told.

Where units are read to the k-th power, the outer values grow by X^k, and the charge is k K_O − K_I.
Each law holds with k K_O, k P_O in the place of K_O and P_O, except where it ends: at the root of
a decreasing function of λ.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpflow.arguments import check_count, check_positive
from sharpflow.symmetry.shared_units import Symmetry

_FAR, _HALVINGS = 40.0, 64
"""How far λ is looked for, and how often that is halved."""
_SLIGHT = 0.03
"""Share of the loss's slope in what moves a charge up to which an equilibrium is told."""
_SILENT = 1e-12
"""What is added to the Grams of a rotation, over their size: a direction without noise has one."""


@dataclass(frozen=True)
class Sgd:
    """Steps of stochastic gradient descent, as `torch.optim.SGD` makes them.

    Attributes:
        learning_rate: η.
        batch_size: S.
        momentum: β of heavy-ball momentum, without dampening.
        weight_decay: γ, added to the gradient as γθ.

    Raises:
        ValueError: a number is out of its range.
    """

    learning_rate: float
    batch_size: int
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        check_count("batch_size", self.batch_size)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1); got {self.momentum!r}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0 and self._second < 2):
            most = 2 * (1 - self.momentum) ** 2 / (1 + self.momentum) / self.learning_rate
            raise ValueError(
                f"weight_decay must be in [0, {most:.3g}), above which nothing decays; "
                f"got {self.weight_decay!r}"
            )

    @property
    def speed(self) -> float:
        """c: what a charge moves by for each unit of what pushes it."""
        return (self.learning_rate / (1 - self.momentum)) ** 2

    @property
    def decay(self) -> float:
        """κ: what weight decay takes from a charge a step, over c."""
        first = self.weight_decay * (1 - self.momentum) / self.learning_rate
        return first * (2 - self._second)

    @property
    def descent(self) -> float:
        """ω: what the loss's slope along an orbit takes from a charge a step, over c."""
        return 2 * (1 - self.momentum) / self.learning_rate * (1 - self._second)

    @property
    def _second(self) -> float:
        lasting = (1 + self.momentum) / (1 - self.momentum) ** 2
        return self.learning_rate * self.weight_decay * lasting

    def power(self, noise: Tensor, mean: Tensor) -> Tensor:
        """P = G/S + (1 + β)/(1 − β) M: what pushes one side of a symmetry."""
        return noise / self.batch_size + (1 + self.momentum) / (1 - self.momentum) * mean


@dataclass(frozen=True, eq=False)
class SymmetryNoise:
    """What moves the charges of one symmetry at the parameters that a model has.

    All tensors are float64, of shape (units,), for a rotation (units, units).

    Attributes:
        symmetry: the symmetry.
        outer_size, inner_size: Grams of the values on its two sides, |O|² and |I|².
        outer, inner: noise Grams, of the covariance of the gradient of one sample; zero on the
            inner side of a scale.
        outer_mean, inner_mean: Grams of the mean gradient.
        slope: F = O·ḡ_O − I·ḡ_I, by which the mean loss grows along the orbit: 0 where the symmetry
            keeps it, to rounding, and not where the loss holds a penalty on the parameters, say.

    Those of the outer side are multiplied by the symmetry's degree.
    """

    symmetry: Symmetry
    outer_size: Tensor
    inner_size: Tensor
    outer: Tensor
    inner: Tensor
    outer_mean: Tensor
    inner_mean: Tensor
    slope: Tensor

    @property
    def charge(self) -> Tensor:
        """Noether charges |O|² − |I|², or O Oᵀ − I Iᵀ."""
        return self.outer_size - self.inner_size

    @property
    def imbalance(self) -> float:
        """‖G_O − G_I‖/(‖G_O‖ + ‖G_I‖), in [0, 1]: 0 at the noise equilibrium; NaN without noise."""
        return imbalance(self.outer, self.inner)


def imbalance(outer: Tensor, inner: Tensor) -> float:
    """‖A − B‖/(‖A‖ + ‖B‖) of what two sides have, in [0, 1]; NaN where both have nothing."""
    total = float(outer.norm() + inner.norm())
    return float((outer - inner).norm()) / total if total else math.nan


def charge_drift(noise: SymmetryNoise, sgd: Sgd) -> Tensor:
    """E[ΔC] of one step of SGD, with what decay and the loss's slope along the orbit do.

    Args:
        noise: from `noise_balance`.
        sgd: how the model is trained.

    Returns:
        The shape of the charges.
    """
    return sgd.speed * (_push(noise, sgd) - sgd.decay * noise.charge)


def sustained_charge(noise: SymmetryNoise, sgd: Sgd) -> Tensor:
    """κ⁻¹(P_O − P_I − ω F), the charges that the noise at hand holds against weight decay.

    At a stationary point they are the charges themselves; to first order in ηγ and at β = 0 they
    are η/(2γ)·((G_O − G_I)/S + M_O − M_I) of a loss that the symmetry keeps.

    Args:
        noise: from `noise_balance`.
        sgd: how the model is trained, with weight decay.

    Returns:
        The shape of the charges.

    Raises:
        ValueError: there is no weight decay.
    """
    if not sgd.weight_decay:
        raise ValueError("weight_decay is 0: without decay no charge has to be held.")
    return _push(noise, sgd) / sgd.decay


def equilibrium_charge(noise: SymmetryNoise, sgd: Sgd) -> Tensor:
    """The charges at which noise, mean gradient and decay are in equilibrium on this orbit.

    Nothing else moves meanwhile: symmetries that share a parameter, as those of neighbouring layers
    do, move each other's charges, and come to rest together at others than these.

    Without decay and mean gradient it is the point of the orbit with the least Tr Σ. At a
    stationary point the charge, this one and `sustained_charge` are the same; elsewhere this one
    takes into account that the noise changes on the way.

    Args:
        noise: from `noise_balance`.
        sgd: how the model is trained.

    Returns:
        (units,): NaN for a unit without noise, whose charge nothing moves, and infinite for one
        that has it on one side alone, or for a scale without decay, which only grows. For a
        rotation (units, units), of which the eigenvalues are those of the equilibrium: which way
        they point depends on the path. There a direction without noise counts as balanced.

    Raises:
        ValueError: the loss's slope along the orbit is over 3 % of what moves a charge, or a number
            is on both sides of the symmetry.
    """
    outer, inner, _ = _rest(noise, sgd)
    return outer - inner


def relaxation_steps(noise: SymmetryNoise, sgd: Sgd) -> Tensor:
    """Steps in which a small distance of a charge from its equilibrium shrinks by e.

    They are (K_O + K_I)/(2c √(R T)) at the equilibrium; for a scale 1/(4ηγ) at β = 0; of degree k
    with k² K_O + K_I above and c (k² P_O + P_I + κ (k² K_O + K_I)) below.

    Args:
        noise: from `noise_balance`.
        sgd: how the model is trained.

    Returns:
        (units,), for a rotation of its modes, slowest last; infinite where nothing leads there.

    Raises:
        ValueError: as for `equilibrium_charge`.
    """
    outer, inner, pull = _rest(noise, sgd)
    sizes = noise.symmetry.degree * outer + inner
    if pull.ndim == 1:
        steps = sizes / (2 * sgd.speed * pull)
        return torch.where((pull > 0) & sizes.isfinite(), steps, math.inf)
    root = _power(pull, -0.5)
    return torch.linalg.eigvalsh(root @ sizes @ root) / (2 * sgd.speed)


def keeps(noise: SymmetryNoise, sgd: Sgd) -> bool:
    """Whether of what moves a charge the loss's slope along the orbit is at most 3 % in each unit.

    Args:
        noise: from `noise_balance`.
        sgd: how the model is trained.
    """
    return _slope_share(noise, sgd) <= _SLIGHT


def _slope_share(noise: SymmetryNoise, sgd: Sgd) -> float:
    """ω F over all that moves the charge of a unit, the largest of all; of norms in a rotation."""
    slope = sgd.descent * noise.slope.abs()
    sizes = noise.outer_size + noise.inner_size
    others = sum(_powers(noise, sgd)) + sgd.decay * sizes
    if slope.ndim == 2:
        slope, others = slope.norm(), others.norm()
    return float((slope / (slope + others.clamp(min=0))).nan_to_num().max())


def _push(noise: SymmetryNoise, sgd: Sgd) -> Tensor:
    """P_O − P_I − ω F."""
    outer, inner = _powers(noise, sgd)
    return outer - inner - sgd.descent * noise.slope


def _powers(noise: SymmetryNoise, sgd: Sgd) -> tuple[Tensor, Tensor]:
    return sgd.power(noise.outer, noise.outer_mean), sgd.power(noise.inner, noise.inner_mean)


def _rest(noise: SymmetryNoise, sgd: Sgd) -> tuple[Tensor, Tensor, Tensor]:
    """K_O and K_I at the equilibrium, and the pull that both sides then have, √(R T)."""
    if shared := noise.symmetry.crossing:
        raise ValueError(
            f"'{shared}' has numbers on both sides of the symmetry {noise.symmetry.name}, so that "
            "units move each other's: where their charges come to rest is not known from one "
            "point. charge_drift and sustained_charge are right."
        )
    share = _slope_share(noise, sgd)
    if share > _SLIGHT:
        raise ValueError(
            f"the symmetry {noise.symmetry.name} does not keep the loss, whose slope along it is "
            f"{share:.2g} of what moves a charge (a penalty on the parameters?): where the charge "
            "comes to rest is not known from one point. charge_drift and sustained_charge are "
            "right; a penalty that is weight decay can be given as weight_decay of Sgd."
        )
    outer, inner = _powers(noise, sgd)
    if noise.symmetry.degree != 1:
        return _rest_of_degree(noise, outer, inner, sgd.decay)
    right, left = (
        outer + sgd.decay * noise.inner_size,
        inner + sgd.decay * noise.outer_size,
    )
    if right.ndim == 1:
        right, left = right.clamp(min=0), left.clamp(min=0)
        stretch = (right / left).sqrt()  # e^{2λ}: NaN where nothing pulls
        nothing = torch.zeros_like(right)
        return (
            torch.where((noise.outer_size == 0) & (right > 0), nothing, noise.outer_size * stretch),
            torch.where((noise.inner_size == 0) & (left > 0), nothing, noise.inner_size / stretch),
            (right * left).sqrt(),
        )
    slight = _SILENT * float((right + left).diagonal().abs().max()) * torch.eye(len(right))
    right, left = right + slight.to(right), left + slight.to(left)
    root, back = _power(left, 0.5), _power(left, -0.5)
    stretch = back @ _power(root @ right @ root, 0.5) @ back  # N = X² with N T N = R
    moved, unmoved = _power(stretch, 0.5), _power(stretch, -0.5)
    return (
        moved @ noise.outer_size @ moved,
        unmoved @ noise.inner_size @ unmoved,
        moved @ left @ moved,
    )


def _rest_of_degree(
    noise: SymmetryNoise, outer: Tensor, inner: Tensor, decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_rest`, of units that are read to a power: by bisection, unit by unit."""
    degree = noise.symmetry.degree
    outer, inner = outer.clamp(min=0), inner.clamp(min=0)
    sizes = noise.outer_size, noise.inner_size

    def moved(path: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        up, down = (2 * degree * path).exp(), (-2 * path).exp()
        return outer / up, inner / down, sizes[0] * up, sizes[1] * down

    low, high = (torch.full_like(outer, end) for end in (-_FAR, _FAR))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        power_out, power_in, size_out, size_in = moved(middle)
        rising = power_out + decay * size_in > power_in + decay * size_out
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    power_out, power_in, size_out, size_in = moved((low + high) / 2)
    pull = (degree * power_out + power_in + decay * (degree * size_out + size_in)) / 2
    pushed_up, pushed_down = outer + decay * sizes[1] > 0, inner + decay * sizes[0] > 0
    ways = (pushed_up, pushed_down), (pushed_down, pushed_up)
    for size, now, (more, less) in zip((size_out, size_in), sizes, ways, strict=True):
        size[more & ~less & (now > 0)] = math.inf
        size[less & ~more] = 0.0
        size[~less & ~more] = math.nan
    pull[~(pushed_up & pushed_down)] = 0.0
    return size_out, size_in, pull


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive definite matrix; its lowest eigenvalues are kept above 0."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    floor = torch.finfo(matrix.dtype).eps * values.abs().max()
    return (vectors * values.clamp(min=float(floor)).pow(exponent)) @ vectors.mT
