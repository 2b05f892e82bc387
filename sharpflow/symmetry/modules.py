"""The symmetries of a module, and what breaks those that it nearly has."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from sharpflow.curvature.graphs import at_parameters, cast
from sharpflow.curvature.model_loss import (
    evaluating,
    random_state_kept,
    refuse_random_modules,
    trainable_parameters,
)
from sharpflow.symmetry.find import verified
from sharpflow.symmetry.interventions import Cause, Key, Watch
from sharpflow.symmetry.probe import Function, Probe, distance, random_direction
from sharpflow.symmetry.shared_units import Symmetry

if TYPE_CHECKING:
    import pandas as pd

_HOLDS = 1e-8
"""Deviation below which something that was put right is what broke a symmetry."""

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Broken:
    """A symmetry that a network has but for something.

    Attributes:
        symmetry: it.
        deviation: how far the outputs move along its orbit, over how far they lie from those at
            other parameters; 0 where it would hold if its parameters were free to move.
        causes: what breaks it: without all of these it holds, and without fewer it does not.
    """

    symmetry: Symmetry
    deviation: float
    causes: tuple[Cause, ...]

    def __str__(self) -> str:
        causes = " and ".join(str(cause) for cause in self.causes)
        what = f"{self.symmetry.kind} of {_units(self.symmetry)}, {self.symmetry.name}"
        if not self.deviation:
            return f"{what}: needs {causes}"
        if not causes:
            causes = "what was not found"
        moved = f"along it the outputs move by {self.deviation:.1g} of how much they vary"
        return f"{what}: broken by {causes} ({moved})"


@dataclass(frozen=True, eq=False, repr=False)
class Symmetries(Sequence[Symmetry]):
    """The symmetries of a network.

    Attributes:
        found: those that hold.
        broken: those that nearly do, the nearest first.
    """

    found: tuple[Symmetry, ...]
    broken: tuple[Broken, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Symmetry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Symmetry]: ...
    def __getitem__(self, index: int | slice) -> Symmetry | Sequence[Symmetry]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        lines = [f"{each.kind} of {_units(each)}: {each.name}" for each in self.found]
        if not self.found:
            lines = ["No continuous symmetry was found."]
        shown = self.broken[:5]
        if shown:
            lines.append("Nearly symmetries:" if self.found else "What came closest:")
            lines += [f"  {each}" for each in shown]
            rest = len(self.broken) - len(shown)
            lines += [f"  and {rest} more (.broken)"] if rest else []
        elif not self.found:
            lines.append("Nothing came close.")
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> "pd.DataFrame":
        """A row a symmetry: kind, units, inner, outer; deviation and broken_by of broken ones."""
        import pandas as pd  # takes longer to load than most nets take to search

        rows = [(each, 0.0, "") for each in self.found]
        rows += [(b.symmetry, b.deviation, "; ".join(map(str, b.causes))) for b in self.broken]
        return pd.DataFrame(
            {
                "kind": [each.kind for each, _, _ in rows],
                "units": [each.units for each, _, _ in rows],
                "inner": [", ".join(s.label for s in each.inner) for each, _, _ in rows],
                "outer": [", ".join(s.label for s in each.outer) for each, _, _ in rows],
                "deviation": [deviation for _, deviation, _ in rows],
                "broken_by": [causes for _, _, causes in rows],
            }
        )


def find_symmetries(
    model: nn.Module,
    inputs: Inputs | None = None,
    *,
    only: str | Sequence[str] | None = None,
    tolerance: float = 1e-10,
) -> Symmetries:
    """The continuous symmetries of a module's outputs as functions of its parameters.

    Nothing is asked of the module's layers; see `symmetries_of`. The module is run as it is, in
    training or evaluation mode, with copies of its parameters, buffers and inputs in float64, and
    is left as it was. Those that it nearly has are found by putting right what may break them: ε of
    normalisations and other constants that are added become zero, and functions that are not
    homogeneous become one that is.

    Args:
        model: any module.
        inputs: a tensor, a tuple of arguments, or a dict of keyword arguments. A few samples do;
            what looks linear on them is taken for linear. Without, random ones are made where the
            first parameter's shape tells how.
        only: shell-style patterns of the parameters that may move; by default all that require
            gradients. A symmetry that needs another one is told under `broken`.
        tolerance: largest change of the outputs along the orbit of a symmetry, over how far they
            lie from those at other parameters. A larger one, 1e-3 say, takes those that only ε
            breaks.

    Returns:
        What holds, as a sequence of `Symmetry`, and under `broken` what nearly does. A network
        without symmetry gives an empty one, which says in words what came closest.

    Raises:
        TypeError: model is no module, or the inputs are not what it takes.
        ValueError: no parameter may move, the model cannot be run on the inputs, outputs are
            random, not finite or no numbers, or depend on no parameter, or no inputs were given and
            none could be made.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    with random_state_kept():
        network = _Network(getattr(model, "_orig_mod", model), inputs, only)
        plain = Probe(network.function(), network.params, network.inside, network.padding)
        network.check_repeatable(plain)
        held = verified(plain, tolerance)
        broken = list(_frozen(network, plain, held))
        found = [each for each in held if network.moves(each)]
        watch = network.watched(plain.point(plain.points[0]))
        reference = network.traced(plain.point(plain.points[0]), watch)
        for each in _nearly(network, held, watch):
            deviation = plain.deviation(each)
            if deviation <= tolerance:
                found.append(each)
            else:
                causes = _needed(network, plain, each, watch, reference)
                broken.append(Broken(each, deviation, causes))
    broken.sort(key=lambda each: each.deviation)
    return Symmetries(tuple(found), tuple(broken))


def _units(symmetry: Symmetry) -> str:
    return "1 unit" if symmetry.units == 1 else f"{symmetry.units} units"


class _Network:
    """A module as functions of its parameters, with and without what may break symmetries."""

    def __init__(
        self, model: nn.Module, inputs: Inputs | None, only: str | Sequence[str] | None
    ) -> None:
        self.model = model
        for name, parameter in model.named_parameters():
            if nn.parameter.is_lazy(parameter):
                raise ValueError(
                    f"the parameter {name} has no shape yet (a lazy module): call the model once "
                    "on its inputs first."
                )
            if parameter.is_complex():
                raise ValueError(
                    f"the parameter {name} is complex; symmetries are found among real ones."
                )
        self.params = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
        if not any(p.requires_grad for p in self.params.values()):
            raise ValueError(
                "model has no parameter with requires_grad=True: nothing moves, and there is no "
                "symmetry of training."
            )
        self.varying = set(trainable_parameters(model, only))
        self.padding = _padding(model, self.params)
        refuse_random_modules(model, "the network")
        self.args, self.kwargs = self._arguments(inputs)
        with evaluating("model(inputs)"), torch.no_grad():
            self.function()(dict(self.params))

    def function(self, repaired: frozenset[Key] = frozenset()) -> Function:
        """Outputs as a function of the parameters, with some calls put right."""
        return lambda params: self._run(params, Watch(self.model, repaired))

    def watched(self, params: Mapping[str, Tensor]) -> Watch:
        """What may break symmetries, and when."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        watch = Watch(self.model, params=leaves)
        with torch.enable_grad():
            self._run(leaves, watch)
        return watch

    def traced(self, params: Mapping[str, Tensor], watch: Watch) -> dict[Key, tuple[float, float]]:
        """Traces of what may break symmetries, where all of it is put right."""
        tracing = Watch(self.model, frozenset(watch.causes), tracing=True)
        with torch.no_grad():
            self._run(params, tracing)
        return {key: tracing.traces[key] for key in watch.causes if key in tracing.traces}

    def moves(self, symmetry: Symmetry) -> bool:
        """Whether every parameter of a symmetry may move."""
        return self.varying.issuperset(symmetry.parameters)

    def check_repeatable(self, probe: Probe) -> None:
        """Raise ValueError where two evaluations differ."""
        with torch.no_grad():
            first, second = (probe.outputs(probe.point(probe.points[0])) for _ in range(2))
        if first.shape != second.shape or not torch.equal(first, second):
            raise ValueError(
                "the network is a random function: two evaluations at the same parameters differ; "
                "remove the randomness, or call model.eval()."
            )

    def _run(self, params: Mapping[str, Tensor], watch: Watch) -> Tensor:
        def compute() -> Tensor:
            with watch.watching():
                return _flat(self.model(*self.args, **self.kwargs))

        return self.inside(params, compute)

    def inside(self, params: Mapping[str, Tensor], compute: Callable[[], Any]) -> Any:
        """What `compute()` gives while the network has these parameters, in float64."""
        return at_parameters(self.model, params, compute, torch.float64)

    def _arguments(self, inputs: Inputs | None) -> tuple[tuple, dict[str, Any]]:
        if inputs is None:
            return self._made(), {}
        if isinstance(inputs, Mapping):
            return (), {name: _doubles(value) for name, value in inputs.items()}
        if isinstance(inputs, Tensor):
            return (_doubles(inputs),), {}
        if isinstance(inputs, tuple | list):
            return tuple(_doubles(value) for value in inputs), {}
        raise TypeError(
            f"inputs is a {type(inputs).__name__}; it must be a tensor, a tuple of arguments or a "
            "dict of keyword arguments."
        )

    def _made(self) -> tuple[Tensor, ...]:
        """Random inputs that the model takes.

        Raises:
            ValueError: none of those that the first parameter's shape suggests is taken.
        """
        first = next(iter(self.params.values()))
        for inputs in _guesses(first):
            self.args, self.kwargs = (_doubles(inputs.to(first.device)),), {}
            try:
                with torch.no_grad():
                    outputs = self.function()(dict(self.params))
            except Exception:  # whatever a network says of inputs that it cannot take
                continue
            if bool(torch.isfinite(outputs).all()):
                return self.args
        raise ValueError(
            "no inputs were given, and the model takes none of those that the shape of its first "
            f"parameter, {tuple(first.shape)}, suggests: give inputs, a few samples of its data."
        )


def _padding(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, int]:
    """The rows of embeddings that are padding, and that no gradient reaches."""
    names = {id(parameter): name for name, parameter in params.items()}
    users = [m for m in model.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    shared = Counter(id(module.weight) for module in users)
    found = {}
    for module in users:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and shared[id(module.weight)] == 1:
            name = names.get(id(module.weight))
            if name is not None and module.padding_idx is not None:
                found[name] = module.padding_idx
    return found


def _guesses(first: Tensor) -> Iterator[Tensor]:
    """Inputs that a network may take whose first parameter this is."""
    stream = torch.Generator().manual_seed(0)
    if first.ndim == 2:
        yield torch.randn(64, first.shape[1], generator=stream)
        yield torch.randn(8, 6, first.shape[1], generator=stream)
        yield torch.randint(0, first.shape[0], (8, 8), generator=stream)
    elif first.ndim > 2:
        for side in (32, 28, 16, 64, 96, 224):
            yield torch.randn(8, first.shape[1], *(first.ndim - 2) * [side], generator=stream)


def _doubles(inputs: Any) -> Any:
    return tree_map(lambda x: cast(x, torch.float64) if isinstance(x, Tensor) else x, inputs)


def _flat(outputs: Any) -> Tensor:
    """All numbers of an output, of tensors in tuples, dicts and the like."""
    parts = [x for x in tree_leaves(outputs) if isinstance(x, Tensor)]
    parts = [torch.view_as_real(x) if x.is_complex() else x for x in parts]
    parts = [x.double().flatten() for x in parts if x.is_floating_point()]
    if not parts:
        raise ValueError(
            f"the model gives {type(outputs).__name__} without a tensor of real numbers; there is "
            "nothing that a symmetry could leave as it is."
        )
    return torch.cat(parts)


def _frozen(network: _Network, probe: Probe, held: Sequence[Symmetry]) -> Iterator[Broken]:
    """Symmetries that need parameters which do not move."""
    for each in held:
        if network.moves(each):
            continue
        causes = []
        for name in each.parameters:
            if not network.params[name].requires_grad:
                causes.append(Cause(f"'{name}', which is frozen (requires_grad=False)", ""))
            elif name not in network.varying:
                causes.append(Cause(f"'{name}', which `only` leaves out", ""))
        yield Broken(each, 0.0, tuple(causes))


def _nearly(network: _Network, held: Sequence[Symmetry], watch: Watch) -> list[Symmetry]:
    """Symmetries that appear once everything that may break one is put right."""
    if not watch.causes:
        return []
    function = network.function(frozenset(watch.causes))
    repaired = Probe(function, network.params, network.inside, network.padding)
    return [each for each in verified(repaired, _HOLDS, held) if network.moves(each)]


def _needed(
    network: _Network,
    plain: Probe,
    symmetry: Symmetry,
    watch: Watch,
    reference: Mapping[Key, tuple[float, float]],
) -> tuple[Cause, ...]:
    """A smallest set of causes that have to be put right for a symmetry to hold.

    Where all are put right, most are given the same along the orbit as before, and do nothing to
    it: where one alone is not, it is the cause. Of several those between the uses of the symmetry's
    parameters are tried first, then those after them.
    """
    here = plain.point(plain.points[0])
    there, beside = symmetry.moved(here, random_direction(symmetry)), plain.point(plain.points[1])
    seen = network.traced(there, watch)
    met = [key for key in watch.causes if _differ(seen.get(key), reference.get(key))]
    if len(met) == 1:
        return (watch.causes[met[0]],)
    uses = [time for name in symmetry.parameters for time in watch.uses.get(name, ())]
    start, end = (min(uses), max(uses)) if uses else (0, 0)

    def ordered(keys: Iterable[Key]) -> list[Key]:
        return sorted(keys, key=lambda key: max(start - watch.times[key], watch.times[key] - end))

    def holds(repaired: Sequence[Key]) -> bool:
        function = network.function(frozenset(repaired))
        with torch.no_grad():
            outputs, others = (function(dict(params)).flatten() for params in (here, beside))
        return distance(function, outputs, there, others) <= _HOLDS

    keys = ordered(met if met and holds(met) else watch.causes)
    tried = 1
    while tried < len(keys) and not holds(keys[:tried]):
        tried *= 2
    needed = _explained(holds, [], [], keys[:tried])
    return tuple(cause for key, cause in watch.causes.items() if key in needed)


def _differ(some: tuple[float, float] | None, others: tuple[float, float] | None) -> bool:
    """Whether two traces are of different numbers; those that are missing may be."""
    if some is None or others is None:
        return True
    slack = _HOLDS * max(some[1], others[1])
    return not all(abs(a - b) <= slack for a, b in zip(some, others, strict=True))


def _explained(
    holds: Callable[[Sequence[Key]], bool], base: list[Key], added: list[Key], keys: list[Key]
) -> list[Key]:
    """A minimal part of `keys` with which `holds(base + part)` (QuickXplain, Junker 2004)."""
    if added and holds(base):
        return []
    if len(keys) == 1:
        return keys
    half = len(keys) // 2
    first, second = keys[:half], keys[half:]
    right = _explained(holds, base + first, first, second)
    left = _explained(holds, base + right, right, first)
    return left + right
