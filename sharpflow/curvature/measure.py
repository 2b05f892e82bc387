"""Sharpness of any torch module: once, or followed along its training."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sharpflow.arguments import check_count
from sharpflow.curvature.basis import Storage
from sharpflow.curvature.closed_form import ClosedForm
from sharpflow.curvature.differences import Products
from sharpflow.curvature.eigen import (
    LARGE,
    EigenResult,
    check_arguments,
    check_pairs,
    leading,
    top_eigenpairs,
)
from sharpflow.curvature.graphs import attributes_kept
from sharpflow.curvature.linear_operator import LinearOperator, NonFiniteError
from sharpflow.curvature.model_loss import (
    LossOfModel,
    ModelLoss,
    check_data,
    trainable_parameters,
)
from sharpflow.curvature.preconditioning import check_optimiser, preconditioning
from sharpflow.curvature.shortcut import DisagreementError, Shortcut
from sharpflow.curvature.streamed_loss import StreamedLoss, Weight, check_form
from sharpflow.curvature.verification import verify
from sharpflow.curvature.warm_start import WarmStart

_HISTORY = 7
_NEAR, _APART = 0.9, 0.8
"""Ratio of the next eigenvalue to the last wanted one from which on, and down to which, it is
followed too: it may overtake."""
_LOOK = 5
"""Measurements from one look at the pair after the wanted ones to the next, where it is not."""


class SharpnessTracker:
    """Follows the top Hessian eigenpairs of a model while it is trained.

    Each `measure` starts from eigenvectors predicted from the last ones (`WarmStart`). Every
    `check_every` measurements a cold start from fresh random vectors is made too, and the larger
    values are kept, so that a pair that was overtaken is not followed for ever; and while the next
    eigenvalue lies within a tenth of the last one that is wanted, it is followed as well, at a
    product or two more. Frozen parameters (`requires_grad` false) are left out.

    Where an `accuracy` is enough, most measurements of a smooth loss need no second derivative, and
    those from random vectors two products by autograd: see `Shortcut`, which compares differences
    of gradients with autograd again and again.

    Args:
        model: any module.
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss; without targets
            `loss_fn(model, batch)` that of a batch.
        inputs: (n, …), or a tuple of such for several arguments; without targets an iterable of
            batches of any kind (a `DataLoader` that does not shuffle, a list), of which one is held
            at a time: see `StreamedLoss`.
        targets: (n, …), or None.
        k: number of eigenpairs.
        tol: as for `top_eigenpairs`.
        accuracy: relative error of the eigenvalues that is enough, 0.01 say, instead of `tol`; see
            `top_eigenpairs`. Cheaper, for an eigenvalue is far better known than its vector.
        micro_batch: most samples whose graph is held at once; each product then runs the network
            again, and the loss must be a mean or a sum over samples.
        weight: with batches, what the mean over them weighs one with; by default its number of
            samples.
        only: shell-style patterns of the parameters that vary, `blocks.3.*` say; all by default.
        optimiser: a `torch.optim` optimiser of the model: measured is P^-½ H P^-½ with P from its
            present state (the *effective sharpness* of Adam and its like; the sharpness itself
            under `SGD` with one learning rate), which compares with `threshold`. See
            `preconditioning`.
        distributed: with batches, whether each process of `torch.distributed` has some of its own;
            see `StreamedLoss`.
        dtype: float32 or float64: measured is a copy of the model and its data in this precision,
            bfloat16 models in float32 say; by default the model must have one of the two.
        products: `"autograd"`, or `"differences"` of gradients for what has no second derivative in
            autograd (`EmbeddingBag`, CTC, fused attention): two gradients a product, an error of
            up to 1e-3 in float32 and 1e-8 in float64, and nothing converges below it. With kinks
            (ReLU) take `dtype=torch.float64`. See `DifferenceOperator`. By default autograd, and
            with `accuracy` differences where they were seen to agree with it.
        check_every: measurements from one cold start to the next.
        max_products: as for `top_eigenpairs`.
        basis_size: likewise; memory is about (basis_size + k)·P numbers.
        storage: where the solver keeps its basis.
        history: states that start vectors are predicted from, each P·k numbers of memory; by
            default 7, and 1 where P is above four million.
        generator: for random start vectors; by default one with a fixed seed.

    Raises:
        ValueError: the loss is a random function (dropout in training mode, say), `micro_batch`
            would change it (batch norm in training mode), or the data hold NaN or half precision,
            or differ in length; and as for `StreamedLoss`, `preconditioning` and `verify`.
        TypeError: inputs or targets are of a kind that is not read.

    Attributes:
        model: the module.
        optimiser, distributed: as given.
        dense: whether the closed form for dense stacks under the mean squared error is used.
        corrections: how often a cold check found larger eigenvalues than the warm start.
        verified: what the first measurement was checked against, and the relative differences that
            were found: see `verify`. Empty before it.
        threshold: with an optimiser, the largest stable eigenvalue at the last measured state; NaN
            before.
        shortcuts: how many measurements were made by differences of gradients in place of autograd.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[..., Tensor],
        inputs: Any,
        targets: Tensor | None = None,
        *,
        k: int = 1,
        tol: float = 1e-3,
        accuracy: float | None = None,
        micro_batch: int | None = None,
        weight: Weight | None = None,
        only: str | Sequence[str] | None = None,
        optimiser: torch.optim.Optimizer | None = None,
        distributed: bool = False,
        dtype: torch.dtype | None = None,
        products: Products | None = None,
        check_every: int = 50,
        max_products: int | None = None,
        basis_size: int | None = None,
        storage: Storage | None = None,
        history: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_arguments(k, tol, accuracy, max_products, basis_size)
        check_count("check_every", check_every)
        self.k, self.tol, self.check_every = k, tol, check_every
        self.corrections = 0
        self._solver = {
            "accuracy": accuracy,
            "max_products": max_products,
            "basis_size": basis_size,
            "storage": storage,
        }
        self._generator = generator or torch.Generator().manual_seed(0)
        self.model, self._only, self.optimiser = model, only, optimiser
        self.distributed = distributed
        if optimiser is not None:
            check_optimiser(optimiser)
        self._micro_batch, self._dtype = micro_batch, dtype
        self._products: Products = products or "autograd"
        self.shortcuts = 0
        own = accuracy is not None and products is None
        self._shortcut = Shortcut(accuracy or tol, check_every, max_products) if own else None
        self._general: LossOfModel | None = None
        self._closed: ClosedForm | None = None
        check_form(targets, micro_batch, weight=weight, distributed=distributed)
        if targets is None:
            self._general = StreamedLoss(
                model, loss_fn, inputs, weight, only, distributed, dtype, self._products
            )
        else:
            self._data = (model, loss_fn, inputs, targets)
            check_data(inputs, targets, dtype)
            exact = dtype is None and self._products == "autograd"
            plain = optimiser is None or type(optimiser) is torch.optim.SGD
            if exact and not micro_batch and only is None and plain:
                self._closed = ClosedForm.recognise(*self._data)
        self._next_ratio, self._warned = math.nan, False
        self._following = 0  # pairs after those that are wanted
        self._next: Tensor | None = None  # the vector after those, as it was last seen
        self._size = 0
        self._measurements = 0
        self.verified: dict[str, float] = {}
        self.threshold = float("nan")
        self._scaling: Tensor | None = None
        if not self.dense and self._general is None:
            self._general_loss()
        self._precision = self._present_precision()
        size = sum(p.numel() for p in trainable_parameters(model, only).values())
        check_pairs(k, size)
        if history is None:
            history = _HISTORY if size <= LARGE else 1
        self._warm = WarmStart(history)

    @property
    def dense(self) -> bool:
        """Whether the closed form is used."""
        return self._closed is not None

    def measure(self, vectors: bool = True) -> EigenResult:
        """Top `k` eigenpairs at the model's present parameters.

        What was changed since the last call in the model, its modules or its loss, parameters that
        were frozen or freed say, is noticed, and the result is checked anew where it matters.

        Args:
            vectors: whether the eigenvectors are wanted; without them the result's are (P, 0),
                which saves mapping them back from compressed inputs.

        Returns:
            The pairs. `vectors` (P, k) are in the order of the trainable `model.parameters()`,
            flattened; `matvecs` counts the cold check's products too.
        """
        with attributes_kept(self.model):
            return self._measure(vectors)

    def _measure(self, vectors: bool) -> EigenResult:
        self._prepare()
        closed = self._closed
        compressed = closed is not None and closed.basis is not None
        result = None if closed is not None else self._by_differences()
        if result is None or not result.converged:
            operator = self._operator()
            if self._size != operator.shape[0]:
                self._warm.clear()
                self._size, self._following, self._next = operator.shape[0], 0, None
            start, spent, trusted = self._start(), 0, True
            if result is not None:
                start, spent = result.refined, result.matvecs
                trusted = result.error_kind == "estimate"
            if compressed and self.k > operator.shape[0]:
                return self._measure_uncompressed(vectors, 0)
            cold = start is None
            result = self._cold(operator) if cold else self._solve(operator, start, trusted=trusted)
            result = dataclasses.replace(result, matvecs=spent + result.matvecs)
            if self._warm and self._measurements % self.check_every == 0:
                result = self._check(operator, result)
            if compressed and bool((result.values < 0).any()):
                return self._measure_uncompressed(vectors, result.matvecs)
            del operator  # its graph, before a check makes its own
            short = self._shortcut
            if short is not None and closed is None and not (cold and short.open):
                wanted = leading(result, self.k)
                short.compare(self._general_loss(), self._scaling, wanted)
        followed = self._followed(result)
        result = leading(result, self.k)
        found = result.vectors if vectors or not self.verified else _none_of(result.vectors)
        if closed is not None:
            found = closed.to_parameters(found)
        if not self.verified:
            along, value = found[:, 0], float(result.values[0])
            if self._scaling is not None:  # vᵀDHDv is the curvature along Dv, times its length
                along = self._scaling * along
                value /= float(along.norm()) ** 2
                along = along / along.norm()
            asymmetry = None if closed else result.asymmetry
            short = self._shortcut
            seen = short.error if short is not None and short.open else None
            self.verified = verify(self._general_loss(), asymmetry, value, along, seen)
            found = found if vectors else _none_of(found)
        self._measurements += 1
        self._warm.update(followed)
        return dataclasses.replace(result, vectors=found)

    def _start(self) -> Tensor | None:
        """Start vectors (P, k or k + 1), every so often with the one after those wanted."""
        guess = self._warm.guess()
        if guess is None or self._next is None or self._following or self._measurements % _LOOK:
            return guess
        return torch.cat([guess, self._next[:, None]], dim=1)

    def _followed(self, found: EigenResult) -> Tensor:
        """The vectors (P, k or k + 1) that the next measurement starts from."""
        k = self.k
        looked = self._following or self._measurements % _LOOK == 0
        if looked and len(found.values) > k and self._size <= LARGE:
            self._next = found.refined[:, k].clone()
        ratio = self._next_ratio
        if self._following and len(found.values) > k:
            ratio = float(found.values[k]) / abs(float(found.values[k - 1]) or 1.0)
        near = ratio > (_APART if self._following else _NEAR)  # false for NaN
        self._following = int(near and len(found.values) > k)
        return found.refined[:, : k + self._following]

    def _by_differences(self) -> EigenResult | None:
        """Pairs by the shortcut; None where it is not open."""
        short = self._shortcut
        if short is None or not self._warm or self._measurements % self.check_every == 0:
            return None
        loss = self._general_loss()
        loss.check_state()
        start = self._start()
        count = self.k if start is None else start.shape[1]
        operator = short.operator(loss, self._scaling, count)
        if operator is None:
            return None
        try:
            found = self._solve(operator, start, **short.limits(count))
            sure = found.converged and short.confirm(loss, self._scaling, leading(found, self.k))
        except NonFiniteError:  # autograd tells what is not finite
            return None
        if not sure:
            short.close()
            return dataclasses.replace(found, converged=False)
        self.shortcuts += 1
        return dataclasses.replace(found, errors=found.errors + short.error)

    def _measure_uncompressed(self, vectors: bool, spent: int) -> EigenResult:
        """Measure, after so many products, with the zero curvatures that compression leaves out."""
        self._closed = ClosedForm.recognise(*self._data, compress=False)
        self._warm.clear()
        found = self._measure(vectors)
        return dataclasses.replace(found, matvecs=spent + found.matvecs)

    def _prepare(self) -> None:
        """See what has changed in the model since the last measurement."""
        general = self._general
        now = self._present_precision()
        if now != self._precision:
            raise ValueError(
                f"the model's parameters are {now} now, and were {self._precision} when the "
                "tracker was made: make a new one, with data that go with them."
            )
        self._scaling = self._metric(
            general.parameters() if general else trainable_parameters(self.model, self._only)
        )
        before = self._closed
        if before is not None:
            compress = before.basis is not None
            found = ClosedForm.recognise(*self._data, compress=compress, earlier=before)
            self._closed = found if self._scaling is None else None
            if self._closed is not before:
                self._warm.clear()
                if self._closed is None or self._closed.structure != before.structure:
                    self._general, self.verified = None, {}

    def _present_precision(self) -> str:
        """Dtypes and devices that the model is measured in."""
        kinds = {(self._dtype or p.dtype, p.device) for p in self.model.parameters()}
        return ", ".join(sorted(f"{str(dtype)[6:]} on {device}" for dtype, device in kinds))

    def _operator(self) -> LinearOperator:
        if self._closed is not None:
            return self._closed.hessian()
        operator = self._general_loss().hessian()
        return operator if self._scaling is None else operator.scaled(self._scaling)

    def _metric(self, params: Mapping[str, Tensor]) -> Tensor | None:
        """P^-½ of the optimiser, whose threshold is kept; None where it is the identity."""
        if self.optimiser is None:
            return None
        found = preconditioning(self.optimiser, params)
        self.threshold = found.threshold
        if bool((found.diagonal == 1).all()):
            return None
        self._warn_of_evaluation()
        return found.diagonal.to(self._dtype or found.diagonal.dtype).rsqrt()

    def _warn_of_evaluation(self) -> None:
        """Say once that P is that of another loss: where batches normalise, gradients may be 0."""
        norms = (pair for pair in self.model.named_modules() if isinstance(pair[1], _BatchNorm))
        still = (name for name, m in norms if not m.training and m.running_mean is not None)
        if not self._warned and (name := next(still, None)) is not None:
            self._warned = True
            warnings.warn(
                f"{name or 'the model'} is a batch norm in evaluation mode, and the second moments "
                "of the optimiser are of gradients in training mode: where those vanish (a bias in "
                "front of it) the effective sharpness is huge and means nothing. Measure in "
                "training mode, where there is a monitor by eval_mode=False.",
                stacklevel=2,
            )

    def _general_loss(self) -> LossOfModel:
        if self._general is None:
            self._general = ModelLoss(
                *self._data, self._micro_batch, self._only, self._dtype, self._products
            )
        return self._general

    @property
    def noise(self) -> float:
        """Error of the last operator's products over ‖H‖; 0 where they are exact to rounding."""
        return self._general.noise if self._general is not None else 0.0

    def _solve(self, operator: LinearOperator, start: Tensor | None, **options: Any) -> EigenResult:
        found = top_eigenpairs(
            operator,
            self.k,
            self.tol,
            initial=start,
            generator=self._generator,
            next_ratio=self._next_ratio,
            more=int(self._size <= LARGE or self._next_ratio > _NEAR),
            **(self._solver | options),
        )
        # too small a basis sees little of the next eigenvalue: what a larger one saw counts on
        if start is None or start.shape[1] > self.k or found.matvecs >= self.k + 2:
            self._next_ratio = found.next_value / abs(float(found.values[self.k - 1]) or 1.0)
        return found

    def _cold(self, exact: LinearOperator) -> EigenResult:
        """Pairs from a random start: by differences of gradients where autograd confirms them."""
        short, most = self._shortcut, self._solver["max_products"]
        few = most is not None and most < 4 * self.k
        # of a large model a graph that is kept and gradients beside it are too much memory
        if short is None or self._closed is not None or few or exact.shape[0] > LARGE:
            return self._solve(exact, None)
        loss = self._general_loss()
        operator = short.cold(loss, self._scaling, exact)
        found = None
        try:
            found = self._solve(operator, None, **short.cold_limits(self.k))
        except NonFiniteError:  # autograd tells what is not finite
            if not operator.agrees:
                raise
        except DisagreementError:
            operator.apart = True
        if operator.apart:
            short.refuse()
        if found is not None and not operator.agrees:
            return found
        spent = operator.products
        if found is not None and found.converged:
            sure = short.accept(operator, found, self.k, loss)
            spent += self.k
            if sure is not None:
                self.shortcuts += 1
                return dataclasses.replace(sure, matvecs=spent)
        if not operator.apart:
            short.close()
        left = None if most is None else max(self.k, most - spent)
        again = self._solve(exact, None, max_products=left)
        return dataclasses.replace(again, matvecs=spent + again.matvecs)

    def _check(self, operator: LinearOperator, warm: EigenResult) -> EigenResult:
        cold = self._cold(operator)
        spent = warm.matvecs + cold.matvecs
        first, second = leading(warm, self.k), leading(cold, self.k)
        size = first.values.abs()
        if self._solver["accuracy"] is None:
            slack = first.residuals + second.residuals + self.tol * size
        else:
            slack = (first.errors + second.errors) * size
        missed = bool((second.values > first.values + slack).any())
        if missed:
            self.corrections += 1
            self._warm.clear()
        better = cold if missed else warm
        return dataclasses.replace(better, matvecs=spent)

    def state_dict(self) -> dict[str, Any]:
        """What a tracker of the same model, loss and data needs to go on as this one would.

        Tensors (P·(k + 1) numbers for each of the `history`, and P more, 2 P by differences of
        gradients; not copied), numbers and strings: `torch.load` reads them with
        `weights_only=True`. Measurements after `load_state_dict` are those of this tracker to the
        last bit where the model, the optimiser and the data are.
        """
        return {
            "of": self._description(),
            "form": _form(self._closed),
            "warm_start": self._warm.state_dict(),
            "generator": self._generator.get_state(),
            "size": self._size,
            "measurements": self._measurements,
            "corrections": self.corrections,
            "verified": dict(self.verified),
            "threshold": self.threshold,
            "next_ratio": self._next_ratio,
            "following": self._following,
            "next": self._next,
            "shortcuts": self.shortcuts,
            "shortcut": self._shortcut.state_dict() if self._shortcut is not None else None,
            "distance": self._general.distance_state() if self._general is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the tracker that a state is of.

        Args:
            state: from `state_dict`.

        Raises:
            ValueError: it is no state of a tracker, or of one of another model, k, parameter
                patterns, optimiser, precision, kind of generator or loss.
        """
        _check_whole(state, self.state_dict())
        _check_same(state["of"], self._description())
        closed, form = self._closed, state["form"]
        if form == "general":
            closed = None
        elif closed is not None and form != _form(closed):
            closed = ClosedForm.recognise(*self._data, compress=form == "compressed")
        if form != _form(closed):
            raise ValueError("the state is of a tracker of another loss, or of other data.")
        self._closed = closed
        device = next(iter(trainable_parameters(self.model).values())).device
        self._warm.load_state_dict(state["warm_start"], device)
        self._generator.set_state(state["generator"].cpu())
        self._size, self._measurements = state["size"], state["measurements"]
        self.corrections, self.threshold = state["corrections"], state["threshold"]
        self._next_ratio, self._following = state["next_ratio"], state["following"]
        self._next = None if state["next"] is None else state["next"].to(device)
        self.shortcuts = state["shortcuts"]
        if self._shortcut is not None and state["shortcut"] is not None:
            self._shortcut.load_state_dict(state["shortcut"], device)
        self.verified = dict(state["verified"])
        if self._general is not None or state["distance"] is not None:
            self._general_loss().load_distance_state(state["distance"], device)

    def _description(self) -> dict[str, Any]:
        named = list(self.model.named_parameters())
        return {
            "parameters": {n: f"{str(p.dtype)[6:]} {list(p.shape)}" for n, p in named},
            "k": self.k,
            "only": [self._only] if isinstance(self._only, str) else list(self._only or ()),
            "optimiser": type(self.optimiser).__name__ if self.optimiser else "none",
            "generator": self._generator.device.type,
            "dtype": str(self._dtype)[6:] if self._dtype is not None else "that of the model",
        }


_NO_STATE = "this is no state of a SharpnessTracker; give what its state_dict() gave."


def _check_whole(theirs: Any, ours: Mapping[str, Any]) -> None:
    """Raise ValueError unless a state has what one of this tracker has, of the same kinds."""
    if not isinstance(theirs, Mapping) or theirs.keys() != ours.keys():
        raise ValueError(_NO_STATE)
    for key, mine in ours.items():
        other = theirs[key]
        if isinstance(mine, Mapping) and key in ("warm_start", "shortcut") and other is not None:
            _check_whole(other, mine)
        elif (key == "generator" or isinstance(mine, str)) and not isinstance(other, type(mine)):
            raise ValueError(_NO_STATE)


def _none_of(vectors: Tensor) -> Tensor:
    """(P, 0), which keeps nothing of some vectors (P, k) alive."""
    return vectors.new_empty(len(vectors), 0)


def _form(closed: ClosedForm | None) -> str:
    return "general" if closed is None else "dense" if closed.basis is None else "compressed"


def _check_same(theirs: Any, ours: Mapping[str, Any]) -> None:
    """Raise ValueError, with the first difference, unless two descriptions agree."""
    if theirs.keys() != ours.keys():
        raise ValueError(_NO_STATE)
    there, here = theirs["parameters"], ours["parameters"]
    for name in [*here, *there]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"the state is of another model: its parameter {name!r} is "
                f"{there.get(name, 'absent')}, and {here.get(name, 'absent')} in this one."
            )
    for key, value in ours.items():
        if theirs[key] != value:
            raise ValueError(
                f"the state is of a tracker with {key} = {theirs[key]!r}, and here it is "
                f"{value!r}; make the tracker as that one was made."
            )


def sharpness(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    inputs: Any,
    targets: Tensor | None = None,
    *,
    tol: float = 1e-3,
    accuracy: float | None = None,
    micro_batch: int | None = None,
    weight: Weight | None = None,
    only: str | Sequence[str] | None = None,
    optimiser: torch.optim.Optimizer | None = None,
    distributed: bool = False,
    dtype: torch.dtype | None = None,
    products: Products | None = None,
    max_products: int | None = None,
    basis_size: int | None = None,
    storage: Storage | None = None,
    generator: torch.Generator | None = None,
) -> float:
    """Largest (algebraic) Hessian eigenvalue of `loss_fn(model(inputs), targets)`.

    Without targets it is that of the mean of `loss_fn(model, batch)` over the batches of `inputs`.

    It compares with 2/η, the stability threshold of gradient descent with learning rate η.
    Arguments and errors as `SharpnessTracker`. Warns (RuntimeWarning) if the eigenvalue
    has not converged to `tol`.
    """
    tracker = SharpnessTracker(
        model,
        loss_fn,
        inputs,
        targets,
        tol=tol,
        accuracy=accuracy,
        micro_batch=micro_batch,
        weight=weight,
        only=only,
        optimiser=optimiser,
        distributed=distributed,
        dtype=dtype,
        products=products,
        max_products=max_products,
        basis_size=basis_size,
        storage=storage,
        generator=generator,
    )
    result = tracker.measure(vectors=False)
    value = float(result.values[0])
    if not result.converged:
        below = (
            f" Differences of gradients have an error of {2 * tracker.noise:.1g} of it here: ask "
            "for no smaller tol, or for dtype=torch.float64."
        )
        warnings.warn(
            f"sharpness {value:.6g} has not converged to "
            f"{f'tol={tol:g}' if accuracy is None else f'accuracy={accuracy:g}'} after "
            f"{result.matvecs} products: its residual is {float(result.residuals[0]):.3g}."
            f"{below * (2 * tracker.noise > (tol if accuracy is None else accuracy))}",
            RuntimeWarning,
            stacklevel=2,
        )
    return value
