"""Charges of a network's symmetries, the gradient noise of their sides, and what it predicts.

Source: ziyin2024, section 4. With Grams G_O and G_I of the noise of the outer and of the inner
parameters of a symmetry, and M_O and M_I of the mean gradient, one step of SGD moves the charges by
E[ΔC] = η²((G_O − G_I)/S + M_O − M_I) + ((1 − ηγ)² − 1) C, exactly; they are still where the two
terms cancel. Under momentum the charges of the point where the parameters would come to rest,
z = θ − ηβv/(1 − β), move so, with η/(1 − β) in the place of η, but for −2η/(1 − β) zᵀQ∇L, Q the
generator, which does not vanish, for the gradient is that at θ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import check_finite
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.models.base import Parameters, Pass
from sharpflow.symmetry import GradientMoments, Symmetry, symmetries_of
from sharpflow.training import generator
from sharpflow.training.batches import OnlineSamples
from sharpflow.training.streams import number

_NUMBERS, _LEAST, _MOST = 2**20, 8, 1000
"""Numbers of gradients that are held at once: about what a cache holds; but so many gradients at
least, and at most."""
_AGREEMENT = 1e-3
"""Relative distance of the mean gradient of pairs of samples from the gradient of them all."""
_POPULATION = 1000
_LOOKED_AT = 8
"""Samples whose outputs the symmetries leave as they are."""
_PURPOSE = "symmetry_noise"

Pair = tuple[Tensor, Tensor]
"""Of the outer and of the inner side."""


class Noise(NamedTuple):
    """What gradients at one state say.

    Attributes:
        moments: of single samples' gradients, or of batches'.
        whole: the number that they were drawn from; None for a distribution.
        size: samples of each of them.
        shrink: the noise of a batch of S is that of one sample over S, times this.
    """

    moments: GradientMoments
    whole: int | None
    size: int
    shrink: float


class SymmetryNoise(Measurement):
    """Of the units of all chosen symmetries, at one state.

    `symmetry_of` says at the first state which symmetry each unit is of, and `symmetry_group` by
    which of the option `parameters` it was chosen, the first that fits. Noise is that of one
    sample's gradient: `symmetry_noise_outer` and `…_inner` are the diagonals of both noise Grams,
    `symmetry_gradient_…` those of the mean gradient, `symmetry_root_…` sums of √E[ĝ²] over each
    side, ĝ the gradient of a batch. With A and B the two sides of a symmetry, as whole matrices,
    `symmetry_imbalance` is Σ‖A − B‖/Σ(‖A‖ + ‖B‖) of the noise over the symmetries of each group,
    `symmetry_root_imbalance` that of the roots, and `symmetry_charge_share` that of the parameters.

    `symmetry_drift` is the expected change of the charge in the next step, without what decay
    does, and `symmetry_charge_predicted` what drift and decay make of the first charge, by the
    linear interpolation of the drift between measured states. Under momentum they are those of
    the point where the parameters would come to rest.
    """

    def __init__(self, options: Options):
        self._options = options
        self._path: dict[str, Tensor] = {}

    def memory(self) -> dict[str, Tensor]:
        """The predicted charges so far, and what the next stretch begins with."""
        return dict(self._path)

    def recall(self, memory: dict[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        self._path = dict(memory)

    def measure(self, snapshot: Snapshot) -> Values:
        """All of it; NonFiniteError for a run that left the finite numbers."""
        for name, tensor in snapshot.parameters.items():
            check_finite(tensor, name)
        chosen = chosen_symmetries(snapshot, self._options["parameters"])
        noise = self._noise(snapshot, chosen)
        seen = partial(_entries, whole=self._options["matrices"])
        parameters = snapshot.parameters
        places = range(len(chosen))
        roots = {name: square.sqrt() for name, square in self._squares(snapshot, noise).items()}
        sides = {
            "noise": [_times(noise.size, noise.moments.noise(p, noise.whole)) for p in places],
            "gradient": [noise.moments.drift(place, noise.whole) for place in places],
            "root": [symmetry.sums(roots) for symmetry in chosen],
        }
        values: Values = {}
        for name, pairs in sides.items():
            values[f"symmetry_{name}_outer"] = seen(outer for outer, _ in pairs)
            values[f"symmetry_{name}_inner"] = seen(inner for _, inner in pairs)
        charges = seen(symmetry.charge(parameters) for symmetry in chosen)
        patterns = self._options["parameters"]
        groups = [group for s in chosen if (group := _group(s, patterns)) is not None]
        gaps = partial(_gaps, groups=groups)
        values |= {
            "symmetry_charge": charges,
            "symmetry_charge_share": gaps([s.grams(parameters) for s in chosen]),
            "symmetry_imbalance": gaps(sides["noise"]),
            "symmetry_root_imbalance": gaps(sides["root"]),
        }
        if snapshot.step == 0:
            counts = [len(seen([symmetry.charge(parameters)])) for symmetry in chosen]
            values["symmetry_of"] = np.repeat(np.arange(len(chosen)), counts)
            values["symmetry_group"] = np.repeat(groups, counts)
        if self._options["law"] == "sgd":
            values |= self._linear(snapshot, noise, chosen, sides)
        return values

    def _noise(self, snapshot: Snapshot, chosen: tuple[Symmetry, ...]) -> Noise:
        problem, options = snapshot.problem, self._options
        batches, training = problem.batches, problem.training
        seed = problem.seeds[snapshot.run]
        source = generator(problem.stream, seed, _PURPOSE, snapshot.step)
        size = options["batch"] or training["batch"]
        moments = GradientMoments(chosen)
        names = tuple(dict.fromkeys(name for symmetry in chosen for name in symmetry.parameters))
        if options["gradients"] == "batches":
            if size is None:
                raise ConfigError(
                    "measurements.symmetry_noise: gradients = batches needs a batch size, and "
                    "training takes all samples: give it a batch."
                )
            inputs, targets = _drawn(snapshot, options["draws"], size, source)
            _accumulate(snapshot, moments, names, inputs, targets)
            return Noise(moments, None, size, 1.0)
        if isinstance(batches, OnlineSamples):
            samples, whole = options["samples"] or _POPULATION, None
            inputs, targets = (t[:, 0] for t in _drawn(snapshot, samples, 1, source))
        else:
            inputs, targets = batches.of_run(snapshot.run)
            whole = len(inputs)
            samples = options["samples"] or whole
            if samples < whole:
                rows = torch.randperm(whole, generator=source)[:samples].to(inputs.device)
                inputs, targets = inputs[rows], targets[rows]
        _check_samples(snapshot, inputs, targets)
        _accumulate(snapshot, moments, names, inputs[:, None], targets[:, None])
        shrink = 1.0
        if training["sampling"] == "epochs" and size is not None:
            count = batches.samples or 1
            shrink = (count - size) / max(count - 1, 1)
        return Noise(moments, whole, 1, shrink)

    def _squares(self, snapshot: Snapshot, noise: Noise) -> Parameters:
        """E[ĝ²] of the gradient ĝ of a batch, by parameter."""
        size = self._options["batch"] or snapshot.problem.training["batch"]
        part = noise.size * noise.shrink / size if size else 0.0
        kept = part - noise.moments.share_of_mean(noise.whole)
        mean = noise.moments.mean
        return {
            name: (mean[name].square() + kept * value).clamp(min=0)
            for name, value in noise.moments.variance(noise.whole).items()
        }

    def _linear(
        self,
        snapshot: Snapshot,
        noise: Noise,
        chosen: tuple[Symmetry, ...],
        sides: Mapping[str, list[Pair]],
    ) -> Values:
        """Drift and predicted charges."""
        problem = snapshot.problem
        optimiser, batch = problem.optimiser, problem.training["batch"]
        assert optimiser.response is not None, "the law of linear steps is for those that have them"
        rates = torch.as_tensor(problem.learning_rate(min(snapshot.step, problem.steps - 1)))
        rate = float(rates if rates.ndim == 0 else rates[snapshot.run])
        step = rate * optimiser.response
        trained = {n: t for n, t in snapshot.parameters.items() if n not in problem.frozen}
        rest = optimiser.at_rest(trained, snapshot.optimiser_state, rate)
        share = noise.shrink / batch if batch else 0.0
        drifts = []
        for symmetry, random, steady in zip(chosen, sides["noise"], sides["gradient"], strict=True):
            square = share * (random[0] - random[1]) + steady[0] - steady[1]
            drifts.append(step**2 * square)
            if rest is not trained:
                outer, inner = symmetry.grams(rest, noise.moments.mean)
                across = outer - inner
                drifts[-1] -= step * (across + across.mT if across.ndim == 2 else 2 * across)
        seen = partial(_entries, whole=self._options["matrices"])
        drift = torch.from_numpy(seen(drifts))
        kept = (1 - step * optimiser.weight_decay) ** 2
        predicted = torch.from_numpy(seen(symmetry.charge(rest) for symmetry in chosen))
        if snapshot.step:
            count = snapshot.step - int(self._path["step"])
            mean = (kept + float(self._path["kept"])) / 2
            left = mean ** torch.arange(count - 1, -1, -1, dtype=torch.float64)
            late = torch.arange(count, dtype=torch.float64) / count
            before = self._path["drift"]
            predicted = (
                mean**count * self._path["predicted"]
                + left.sum() * before
                + (left * late).sum() * (drift - before)
            )
        self._path = {
            "step": torch.tensor(snapshot.step),
            "kept": torch.tensor(kept, dtype=torch.float64),
            "drift": drift,
            "predicted": predicted,
        }
        return {
            "symmetry_drift": drift.numpy(),
            "symmetry_charge_predicted": predicted.numpy(),
        }


def chosen_symmetries(snapshot: Snapshot, patterns: Iterable[str]) -> tuple[Symmetry, ...]:
    """The symmetries of the run's network that move a parameter with such a name.

    They are looked for once an evaluation, among the trained parameters.

    Args:
        snapshot: a run at a step.
        patterns: shell-style.

    Raises:
        ConfigError: there are none.
    """
    found = snapshot.once("symmetries", lambda: _symmetries(snapshot))
    patterns = tuple(patterns)
    chosen = tuple(symmetry for symmetry in found if _group(symmetry, patterns) is not None)
    if not chosen:
        known = "; ".join(symmetry.name for symmetry in found)
        raise ConfigError(
            "measurements.symmetry_noise: no symmetry of the network moves a parameter named like "
            f"{', '.join(patterns)}; it has {known or 'none at all'}."
        )
    return chosen


def _group(symmetry: Symmetry, patterns: Iterable[str]) -> int | None:
    """Place of the first pattern that one of a symmetry's parameters is named like."""
    for place, pattern in enumerate(patterns):
        if any(fnmatchcase(name, pattern) for name in symmetry.parameters):
            return place
    return None


def _symmetries(snapshot: Snapshot) -> tuple[Symmetry, ...]:
    problem = snapshot.problem
    trained = {n: t for n, t in snapshot.parameters.items() if n not in problem.frozen}
    fixed = {n: t.double() for n, t in snapshot.parameters.items() if n not in trained}
    moment = problem.moment(snapshot.state, snapshot.step)
    buffers = {name: _double(t) for name, t in moment.buffers.items()}
    outputs = problem.model.network(replace(moment, buffers=buffers), snapshot.run)
    few = _double(snapshot.inputs[:_LOOKED_AT])
    return symmetries_of(lambda given: outputs(fixed | given, few), trained)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def gradients_of(snapshot: Snapshot, inputs: Tensor, targets: Tensor) -> Parameters:
    """Gradients of the mean losses of K batches at a run's parameters, each (K, *shape).

    The batches take the place of the ensemble's runs.

    Args:
        snapshot: a run at a step.
        inputs: (K, S, ...).
        targets: (K, S, ...), of the same samples.
    """
    problem, run, count = snapshot.problem, snapshot.run, len(inputs)

    def repeated(tensors: Mapping[str, Tensor]) -> Parameters:
        return {name: t.expand(count, *t.shape) for name, t in tensors.items()}

    moment = Pass()
    if not problem.model.stateless:
        held = problem.moment(snapshot.state, snapshot.step).buffers
        address = (problem.stream, problem.seeds[run], f"{_PURPOSE}_forward")
        seeds = (number(*address, snapshot.step + place) for place in range(count))
        moment = Pass(repeated({name: t[run] for name, t in held.items()}), tuple(seeds))
    return problem.loss_and_gradient(
        repeated(snapshot.parameters), inputs, targets, moment
    ).gradients


def _accumulate(
    snapshot: Snapshot,
    moments: GradientMoments,
    names: tuple[str, ...],
    inputs: Tensor,
    targets: Tensor,
) -> None:
    size = sum(t.numel() for t in snapshot.parameters.values())
    chunk = min(max(_LEAST, _NUMBERS // size), _MOST)
    for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        found = gradients_of(snapshot, x, y)
        moments.add({name: found[name] for name in names})


def _drawn(snapshot: Snapshot, count: int, size: int, source: torch.Generator) -> Pair:
    """Inputs and targets (count, size, ...), as training draws its own."""
    batches = snapshot.problem.batches
    if isinstance(batches, OnlineSamples):
        population = batches.population
        return population.sample(torch.randn(count, size, population.size, generator=source))
    inputs, targets = batches.of_run(snapshot.run)
    rows = batches.draw(count, source, size).to(inputs.device)
    return inputs[rows], targets[rows]


def _check_samples(snapshot: Snapshot, inputs: Tensor, targets: Tensor) -> None:
    """Refuse a network in which the samples of a batch meet; looked at once an evaluation."""
    if snapshot.problem.model.draws or len(inputs) < 2:
        return

    def check() -> bool:
        count = 2 * (min(len(inputs), 2 * _LOOKED_AT) // 2)
        x, y = inputs[:count], targets[:count]
        pairs = gradients_of(snapshot, *(t.unflatten(0, (count // 2, 2)) for t in (x, y)))
        whole = gradients_of(snapshot, x[None], y[None])
        gap = sum(float((g.mean(0) - whole[name][0]).square().sum()) for name, g in pairs.items())
        size = sum(float(g.square().sum()) for g in pairs.values()) / (count // 2)
        return gap <= _AGREEMENT**2 * size

    if not snapshot.once(f"{_PURPOSE}/apart", check):
        raise ConfigError(
            "measurements.symmetry_noise: the mean of the samples' gradients is not the gradient "
            "of their mean loss, for the samples of a batch meet, as under batch normalisation: "
            "set gradients: batches."
        )


def relative_gap(pairs: Iterable[Pair]) -> float:
    """Σ‖A − B‖/Σ(‖A‖ + ‖B‖) over pairs of vectors or matrices; 0 where all of them vanish."""
    gaps, sizes = 0.0, 0.0
    for a, b in pairs:
        gaps += float((a - b).norm())
        sizes += float(a.norm() + b.norm())
    return gaps / sizes if sizes else 0.0


def _gaps(pairs: list[Pair], groups: list[int]) -> np.ndarray:
    """`relative_gap` of the pairs of each group, from the first on; 0 for one that is empty."""
    members = zip(groups, pairs, strict=True)
    found: dict[int, list[Pair]] = {group: [] for group in range(max(groups) + 1)}
    for group, pair in members:
        found[group].append(pair)
    return np.array([relative_gap(own) for own in found.values()])


def _entries(grams: Iterable[Tensor], whole: bool = False) -> np.ndarray:
    """Grams as the table has them, all in a row: of matrices the diagonals or upper triangles."""
    rows = []
    for gram in grams:
        if gram.ndim == 2:
            upper = torch.triu_indices(*gram.shape, device=gram.device)
            gram = gram[upper[0], upper[1]] if whole else gram.diagonal()
        rows.append(gram.double().cpu())
    return torch.cat(rows).numpy()


def _times(factor: float, pair: Pair) -> Pair:
    return factor * pair[0], factor * pair[1]


def build(options: Mapping[str, Any]) -> SymmetryNoise:
    """The measurement of its options."""
    return SymmetryNoise(options)
