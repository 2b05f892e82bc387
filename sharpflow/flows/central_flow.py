"""The central flow: the mean path of an optimiser that oscillates at the edge of stability.

Source: Cohen, Damian, Talwalkar, Kolter and Lee 2024, "Understanding Optimization in Deep Learning
with Central Flows" (arXiv 2410.24206).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sharpflow.arguments import as_number, is_count
from sharpflow.curvature.eigen import top_eigenpairs
from sharpflow.curvature.linear_operator import ASYMMETRY, all_finite
from sharpflow.curvature.warm_start import WarmStart
from sharpflow.errors import FlowError
from sharpflow.flows.complementarity import Complement, complement
from sharpflow.flows.gradient_flow import begin, check_kinds
from sharpflow.flows.objective import Objective, Point
from sharpflow.flows.pairs import multiplicities, packed, pairwise_rows, unpacked
from sharpflow.flows.rules import Rule, check_positive
from sharpflow.flows.smoothness import gradient_order
from sharpflow.flows.state import FlowState, FlowStep, Observation

_THRESHOLD = 2.0
_TRACKED = 1.5
_SLACK = 0.02
"""How far above the threshold a start may lie, relatively: what an eigenvalue's error may be."""
_KEPT = 0.9
_STABLE = 1.05
"""Longest substep times the largest eigenvalue of P⁻¹H."""
_SMALLEST = 2.0**-12
_MOVE = 0.01
"""How much of itself uᵀHu changes by in differences of it."""
_WRONG = 0.02
_SMOOTH, _JUMPING = 1.6, 0.75
"""Orders of the gradient's second differences: above the first ∇²L is continuous, below the second
∇L is not."""


class CentralFlow:
    """dw/dt = −P⁻¹ (∇L + ½ ∇⟨H, Σ⟩), dν/dt = c (∇L² + [H Σ H] − ν).

    The oscillation's covariance Σ = U X Uᵀ, with U the eigenvectors of P⁻¹H at the threshold
    (Uᵀ P U = 1), is what keeps the eigenvalues there: X ⪰ 0 ⟂ d/dt Uᵀ(2P − H)U ⪰ 0, a semidefinite
    complementarity problem that is linear in X. [H Σ H] is its diagonal for RMSprop, its trace for
    scalar RMSprop. Under gradient descent P = 1/η, and the threshold on H is 2/η.

    Time is in steps of the optimiser. A substep of length h takes X from the problem at its end,
    Uᵀ(2P − H)U + h d/dt Uᵀ(2P − H)U ⪰ 0 over all eigenvalues above `critical`, so that what a
    substep leaves of the constraint the next one mends. Gradients are averaged over both ends
    (Heun's method); third derivatives and U are those of its beginning. Hence it is of second order
    where nothing is at the threshold and of first order where something is.

    h times the largest eigenvalue of P⁻¹H is at most 1.05. Below the threshold Heun's method with a
    motion whose rate changes by the share 2d in a substep, where Euler's method ends the share d
    from it, errs by ⅔d²: h keeps this below `tol`, in units of how far −P⁻¹∇L alone would move
    the weights. That includes nothing of what third derivatives change by. So at steps 0, 1, 2, 4,
    8 … and every `check_every` the whole step is taken again in substeps of half the length, until
    the two ends differ by less than `tol` times that distance (`Observation.error`), and the finer
    one is kept; the longest substep follows from it until the next time.

    Args:
        objective: what is descended; it must have third derivatives.
        rule: of the steps.
        tol: as said.
        critical: eigenvalues of P⁻¹H above it are in the complementarity problem; below 2.
        limit: most eigenvalues that may be.
        accuracy: relative residual of the eigenpairs.
        check_every: steps from one search for eigenvalues that were overtaken to the next.
        kinks: whether an objective that has no third derivatives is followed all the same, with
            those that it has away from its kinks.

    Raises:
        FlowError: the objective has no third derivatives, or a number is out of its range.
    """

    def __init__(
        self,
        objective: Objective,
        rule: Rule,
        *,
        tol: float = 0.01,
        critical: float = 1.95,
        limit: int = 10,
        accuracy: float = 1e-3,
        check_every: int = 50,
        kinks: bool = False,
    ) -> None:
        check_kinds(objective, rule)
        for name, value in (("tol", tol), ("accuracy", accuracy)):
            check_positive(f"central flow: {name}", value)
        for name, value in (("limit", limit), ("check_every", check_every)):
            if not is_count(value):
                raise FlowError(
                    f"central flow: {name} is {value!r}; it must be a whole number of at least 1."
                )
        if objective.kinks and not kinks:
            raise FlowError(_NO_THIRD.format(what=objective.kinks))
        self.objective, self.rule, self.kinks = objective, rule, kinks
        if not 0 < as_number(critical) < _THRESHOLD:
            raise FlowError(f"central flow: critical is {critical!r}; it must lie between 0 and 2.")
        self.tol, self.limit, self.accuracy = tol, limit, accuracy
        self.critical, self.tracked = critical, min(_TRACKED, critical)
        self.check_every = check_every

    def start(
        self, weights: Tensor | None = None, average: Tensor | None = None, time: float = 0.0
    ) -> FlowState:
        """The state from which the flow goes; arguments as for `StableFlow.start`.

        Raises:
            FlowError: the largest eigenvalue of P⁻¹H is above the threshold, the objective has
                kinks near the weights that are not to be followed, its third derivative is not the
                derivative of its second one, or as there.
        """
        state = begin(self.objective, self.rule, weights, average, time)
        found = self.eigenpairs(self.objective.at(state.weights), state)
        values, vectors = found.values, found.vectors
        if float(values[0]) > _THRESHOLD * (1 + _SLACK):
            largest = float(values[0]) / self.rule.learning_rate
            raise FlowError(
                f"central flow: it starts above the threshold, with a largest eigenvalue of "
                f"{largest:.4g} where {_THRESHOLD / self.rule.learning_rate:.4g} (2/η) is stable: "
                "there the optimiser's first steps are no slow motion with an oscillation on it. "
                "Take a smaller learning rate, or start later, after some steps of the optimiser."
            )
        kinked = bool(self.objective.kinks) or self._kinked(state.weights)
        if kinked and not self.kinks:
            what = (
                "the loss has kinks near its start: the gradient or the Hessian jumps there, which"
            )
            raise FlowError(_NO_THIRD.format(what=what))
        if not kinked and not self.objective.spread:
            check_third_derivatives(self.objective, state.weights, vectors[:, :1])
        return state.starting(found.warm)

    def _kinked(self, weights: Tensor) -> bool:
        least = _JUMPING if self.objective.spread else _SMOOTH
        return gradient_order(self.objective, weights) < least

    def step(self, state: FlowState) -> FlowStep:
        """One step of the optimiser's time.

        Raises:
            FlowError: more than `limit` eigenvalues are at the threshold, nothing holds them there,
                or the flow leaves the finite numbers.
        """
        time = round(state.time)
        regular = time % self.check_every == 0
        checked = regular or (time < self.check_every and time & (time - 1) == 0)
        ahead = self._advance(state, state.longest, cold=regular and time > 0)
        error = math.nan
        if checked:
            while True:
                finer = self._advance(state, ahead.used / 2, cold=False)
                between = float((finer.state.weights - ahead.state.weights).norm())
                error = between / finer.reach
                ahead = finer
                if error <= self.tol or ahead.used <= _SMALLEST:
                    break
        change = 1.0 if math.isnan(error) else 0.9 * self.tol / max(error, 1e-300)
        longest = min(1.0, ahead.used * min(max(change, 0.5), 4.0)) if checked else state.longest
        after = replace(ahead.state, time=state.time + 1.0, longest=longest)
        return FlowStep(after, replace(ahead.observation, error=error))

    def _advance(self, state: FlowState, longest: float, cold: bool) -> "_Advance":
        """One step of the optimiser's time in substeps that are no longer than `longest`."""
        end = state.time + 1.0
        allowed = math.sqrt(1.5 * self.tol)
        now, taken, used, reach = state, 0, 0.0, 0.0
        first: Observation | None = None
        found: Tracked | None = None
        while end - now.time > 1e-9:
            point = self.objective.at(now.weights)
            if found is None or float(found.values[0]) > self.tracked:
                found = self.eigenpairs(point, now, cold and taken == 0)
                now = now.starting(found.warm)
            piece = Substep(self.objective, self.rule, point, now, found, self.critical)
            stable = _STABLE / max(float(found.values[0]), 1.0)
            length = _fitted(min(now.substep, longest, stable), end - now.time)
            while True:
                moved = piece.take(length)
                estimate = moved.change_of_euler / moved.reach
                change = 0.9 * allowed / max(estimate, 1e-300)
                if estimate <= allowed or length <= _SMALLEST:
                    break
                length = _fitted(length * min(max(change, 0.2), 0.9), end - now.time)
            if first is None:
                first = piece.observation(moved.complement)
            taken, used, reach = taken + 1, max(used, length), reach + moved.reach
            now = replace(
                now,
                weights=now.weights + moved.motion,
                average=now.average + moved.change,
                time=now.time + length,
                substep=min(1.0, length * min(max(change, 0.2), 2.0)),
            )
            if not all_finite(now.weights):
                raise FlowError(f"central flow: it left the finite numbers at time {now.time:g}.")
        assert first is not None
        return _Advance(now, replace(first, substeps=taken), used, reach)

    def eigenpairs(self, point: Point, state: FlowState, cold: bool = False) -> "Tracked":
        """Eigenvalues of P⁻¹H down to one that is not tracked, and vectors of P^-½ H P^-½.

        Args:
            point: the loss at the state.
            state: with what the solver starts from.
            cold: whether to look for eigenvalues that were overtaken, too.

        Returns:
            What was found, and where the next solve starts from.

        Raises:
            FlowError: more than `limit` are critical, or products are not symmetric.
        """
        metric = self.rule.metric(state.average).to(self.objective.dtype)
        operator = point.hessian()
        if metric.numel() == 1:
            operator = operator * (1.0 / float(metric))
        else:
            operator = operator.scaled(metric.rsqrt())
        warm = state.warm_start()
        initial = warm.guess()
        most = min(self.limit + 1, self.objective.size)
        count = 1 if initial is None else min(initial.shape[1], most)
        while True:
            found = top_eigenpairs(operator, count, self.accuracy, initial)
            if cold and initial is not None:
                again = top_eigenpairs(operator, count, self.accuracy)
                slack = again.residuals + found.residuals
                found = again if bool((again.values > found.values + slack).any()) else found
            if float(found.values[-1]) <= self.tracked or count == most:
                break
            initial, count = found.refined, count + 1
        if found.asymmetry > ASYMMETRY:
            raise FlowError(
                "central flow: products with the Hessian are not those of a symmetric matrix (by "
                f"{100 * found.asymmetry:.2g} %): something that the network or the loss calls has "
                "a wrong second derivative, as weight_norm has in PyTorch 2.13. Write it in plain "
                "operations."
            )
        if int((found.values > self.critical).sum()) > self.limit:
            raise FlowError(
                f"central flow: more than {self.limit} eigenvalues are at the threshold at time "
                f"{state.time:g}; give a larger limit, or a smaller learning rate."
            )
        # one below those that are tracked is kept, and those that came down go a little later
        kept = min(count, int((found.values > _KEPT * self.tracked).sum()) + 1)
        warm.update(found.refined[:, :kept])
        return Tracked(found.values[:kept].cpu(), found.vectors[:, :kept], warm, operator.products)


_NO_THIRD = (
    "central flow: {what} has no usable third derivative, and the flow is driven by the gradient "
    "of the sharpness, which is one; take a smooth activation (tanh, softplus, gelu, swish or "
    "torch.nn's ELU) and mean pooling, or say kinks=True to follow what is left without it."
)


def check_third_derivatives(objective: Objective, weights: Tensor, direction: Tensor) -> None:
    """Check the gradient of uᵀHu against differences of uᵀHu along it.

    Args:
        objective: what is differentiated.
        weights: where, (p,).
        direction: u, (p, 1).

    Raises:
        FlowError: they differ by more than 2 % and than what two differences differ by.
    """
    unit = direction[:, 0] / direction[:, 0].norm()

    def bend(step: float) -> float:
        moved = weights + step * along
        return float((unit @ objective.at(moved).hessian().matvec(unit)).double())

    slope = objective.at(weights).third_derivatives(unit[:, None])[0].double()
    length = float(slope.norm())
    if length == 0.0:
        return
    along = slope / length
    step = _MOVE * abs(bend(0.0)) / length
    if step == 0.0:
        return
    coarse, fine = ((bend(h) - bend(-h)) / (2 * h) for h in (step, step / 2))
    if abs(fine - length) > _WRONG * abs(length) + 2 * abs(fine - coarse):
        raise FlowError(
            f"central flow: the third derivative that autograd gives along the gradient of the "
            f"sharpness is {length:.4g}, and differences of the second one give {fine:.4g}; a "
            "function that the network or the loss calls has kinks, or a backward pass that is not "
            "differentiable (a custom autograd function, a fused kernel): write it in plain "
            "operations."
        )


@dataclass(frozen=True)
class Tracked:
    """Eigenpairs at a state.

    Attributes:
        values: of P⁻¹H, descending, (m,).
        vectors: of P^-½ H P^-½, orthonormal, (p, m).
        warm: what the next solve starts from.
        products: with the Hessian that they took.
    """

    values: Tensor
    vectors: Tensor
    warm: WarmStart
    products: int


@dataclass(frozen=True)
class _Advance:
    """A step of the optimiser's time, its longest substep, and how far drift alone would go."""

    state: FlowState
    observation: Observation
    used: float
    reach: float


@dataclass(frozen=True)
class _Moved:
    """What a substep gives.

    Motion of w and ν, how far Euler's method ends from it in w, how far drift alone goes, and X.
    """

    motion: Tensor
    change: Tensor
    change_of_euler: float
    reach: float
    complement: Complement


class Substep:
    """The flow linearised in X at one point, from which substeps of several lengths are tried."""

    def __init__(
        self,
        objective: Objective,
        rule: Rule,
        point: Point,
        state: FlowState,
        found: Tracked,
        critical: float,
    ) -> None:
        self.objective, self.rule, self.point, self.state = objective, rule, point, state
        self.values = values = found.values
        count = int((values > critical).sum())
        self.metric = rule.metric(state.average)
        self.gradient = point.gradient
        self.unit = torch.finfo(objective.dtype).eps * float(state.weights.norm()) + 1e-300
        # U with Uᵀ P U = 1 from the eigenvectors of P^-½ H P^-½
        root = self.metric.sqrt().reshape(-1, 1).to(found.vectors)
        self.directions = found.vectors[:, :count] / root
        third = point.third_derivatives(self.directions)
        self.forces = third  # ∇⟨H, uᵢuⱼᵀ⟩
        self.squares = self.metric_parts = third.new_zeros(len(third), 0).double()
        if state.average.numel():  # else P stays as it is
            first, second = pairwise_rows(self.directions)
            weighed = self.metric.to(first)
            self.squares = 4.0 * rule.square(weighed * first, weighed * second).double()  # HU = 2PU
            self.metric_parts = rule.square(first, second).double()
        # d/dt Uᵀ(2P − H)U = constant + 2 [dP/dν-part of dν/dt] + third · P⁻¹(∇L + ½ Tᵀ X)
        scaled = third / self.metric.to(third)
        self._steepness = (0.5 * scaled @ third.T).double().cpu().numpy()
        self._scaled = scaled
        self.multiplicities = multiplicities(count)
        self._level = np.diag(_THRESHOLD - values[:count].numpy())

    def rates(
        self, gradient: Tensor, metric: Tensor, average: Tensor, time: float
    ) -> tuple[Tensor, Tensor, float]:
        """dw/dt and dν/dt without oscillation, and c."""
        pace = self.rule.pace(time)
        wide = gradient.double() if average.numel() else gradient
        square = self.rule.square(wide, wide)
        return -gradient / metric, pace * (square - average), pace

    def take(self, length: float) -> _Moved:
        """A substep."""
        state, rule = self.state, self.rule
        here = self.rates(self.gradient, self.metric, state.average, state.time)
        motion, change, _ = self._move(length, *here)
        weights, average = state.weights + motion, state.average + change
        there = self.rates(
            self.objective.at(weights).gradient, rule.metric(average), average,
            state.time + length,
        )  # fmt: skip
        better, change, found = self._move(
            length, (here[0] + there[0]) / 2, (here[1] + there[1]) / 2, (here[2] + there[2]) / 2
        )
        reach = length * float(here[0].norm()) + self.unit
        return _Moved(better, change, float((better - motion).norm()), reach, found)

    def _move(
        self, length: float, drift: Tensor, relaxation: Tensor, pace: float
    ) -> tuple[Tensor, Tensor, Complement]:
        """Motion of w and ν in a substep whose rates without oscillation are given."""
        count = len(self._level)
        if not count:
            found = complement(np.zeros((0, 0)), np.zeros((0, 0)))
            return length * drift, length * relaxation, found
        slope = self.rule.slope(self.state.average)
        curving = (self.forces @ drift.to(self.forces)).double()
        stiffening = 2.0 * (self.metric_parts @ (slope * relaxation))
        constant = packed(self._level) + length * (stiffening - curving).cpu().numpy()
        held = 2.0 * pace * ((self.metric_parts * slope) @ self.squares.T).cpu().numpy()
        found = complement(unpacked(constant, count), length * (self._steepness + held))
        weights = torch.from_numpy(self.multiplicities * packed(found.matrix)).to(drift.device)
        push = weights.to(self._scaled) @ self._scaled
        motion = length * (drift - 0.5 * push)
        change = length * (relaxation + pace * (weights @ self.squares))
        return motion, change, found

    def observation(self, found: Complement) -> Observation:
        """What is read off here, with X that a substep from here took."""
        return Observation(
            self.state.time, self.point.loss, self.values,
            self.rule.learning_rate, 0, 0.0, self.directions, torch.from_numpy(found.matrix),
            found.violation,
        )  # fmt: skip


def _fitted(length: float, left: float) -> float:
    """A length, no larger, of which a whole number fits into what is left."""
    return left / math.ceil(left / length - 1e-9)
