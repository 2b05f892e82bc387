"""Every curvature operator of a model, its loss and its data, at its present parameters."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sharpflow.arguments import check_count
from sharpflow.curvature.batches import batch_size
from sharpflow.curvature.graphs import Inside
from sharpflow.curvature.likelihoods import draw_targets
from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.operators import GaussNewtonOperator, gauss_newton_operator
from sharpflow.curvature.sample_losses import check_samples, sample_losses
from sharpflow.curvature.streamed_loss import (
    Forward,
    StreamedLoss,
    Weight,
    check_form,
)

_T = TypeVar("_T")
Params = dict[str, Tensor]
Piece = Callable[[Any, Params, Inside], LinearOperator]
_ELSEWHERE = "another process could not make its part of the operator; its error says why."
_ADJOINT = 1e-3
"""Largest relative difference of uᵀ(Jv) and (Jᵀu)ᵀv; rounding in float32 takes a hundredth."""


class ModelCurvature:
    """The curvature operators of a model's loss, each a `LinearOperator`.

    Every method gives the operator at the model's present parameters, and the operator stays there
    when the model is trained on. Of parameters that do not vary it has no copies: where those have
    changed, a product that reads them is refused. Nothing of the model is changed, and no random
    state.

    With L = (1/n) Σ ℓᵢ(fᵢ(θ)) over samples, outputs fᵢ, J = ∂f/∂θ and gᵢ = ∇ℓᵢ the operators are
    ∇²L, the Gauss-Newton matrix Jᵀ(∂²L/∂f²)J, the Fisher matrices of gᵢ, the covariance of gᵢ, and
    J Jᵀ.

    Args:
        model: any module.
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss. Without targets
            `loss_fn(model, batch)` is that of a batch, which has a Hessian; with `forward` it is
            `loss_fn(outputs, batch)`, which has all operators. A loss of `torch.nn`, as a module or
            a function, reads batches that are pairs (inputs, targets), and needs no `forward`.
        inputs: (n, …), or a tuple of such; without targets an iterable of batches, of which one is
            held at a time: as for `sharpness`.
        targets: (n, …), or None.
        forward: `forward(model, batch)` gives the outputs of a batch, a tensor.
        micro_batch: most samples whose graph is held at once; each product then runs the network
            again.
        weight: with batches, what the mean over them weighs one with; by default its number of
            samples. The samples of a batch share it in the Fisher matrices and the covariance.
        only: shell-style patterns of the parameters that vary.
        distributed: with batches, whether each process of `torch.distributed` has its own.

    Raises:
        ValueError: an option belongs to the other form of the data, or as for `sharpness`.
        TypeError: inputs or targets are of a kind that is not read.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[..., Tensor],
        inputs: Any,
        targets: Tensor | None = None,
        *,
        forward: Forward | None = None,
        micro_batch: int | None = None,
        weight: Weight | None = None,
        only: str | Sequence[str] | None = None,
        distributed: bool = False,
    ) -> None:
        self._loss_fn = loss_fn
        self._loss: ModelLoss | StreamedLoss
        check_form(targets, micro_batch, forward=forward, weight=weight, distributed=distributed)
        if targets is None:
            self._loss = StreamedLoss(
                model, loss_fn, inputs, weight, only, distributed, forward=forward
            )
        else:
            self._loss = ModelLoss(model, loss_fn, inputs, targets, micro_batch, only)

    def hessian(self) -> LinearOperator:
        """Hessian ∇²L, (P, P)."""
        return self._loss.hessian()

    def gauss_newton(self) -> LinearOperator:
        """Gauss-Newton matrix Jᵀ S J, (P, P), with S the Hessian of the loss in the outputs.

        Source: Schraudolph 2002. Under the cross-entropy and the squared error it is the Fisher
        matrix of the model's predictive distribution (Martens 2020).

        Raises:
            ValueError: the loss reads the model's parameters itself, as a penalty does, or
                `forward` is missing.
            TypeError: the outputs are no tensor.
        """
        self._require_outputs()

        def piece(part: Any, params: Params, inside: Inside) -> GaussNewtonOperator:
            data = self._loss.data_of(part)
            return self._through(
                lambda: self._outputs(part), part, params, inside, lambda f: self._loss_fn(f, data)
            )

        return self._operator(piece, self._loss.parts)

    def empirical_fisher(self) -> LinearOperator:
        """Empirical Fisher matrix (1/n) Σ gᵢ gᵢᵀ of the gradients of single samples, (P, P).

        It is the Gauss-Newton matrix of the vector of the samples' losses under S = 1/n. With the
        data's own targets it is not the Fisher matrix (Kunstner et al. 2019). Where the loss is a
        sum over samples, gᵢ is what a sample adds to its gradient.

        Raises:
            ValueError: the loss is not the mean (of one batch also: the sum) over samples of the
                loss of one, outputs of a sample depend on others, or `forward` is missing.
        """
        self._check_samples()
        return self._operator(lambda *given: self._of_samples(*given)[0], self._shares)

    def noise_covariance(self) -> LinearOperator:
        """Covariance (1/n) Σ gᵢ gᵢᵀ − ḡ ḡᵀ of the gradients of single samples, (P, P).

        ḡ is their mean. The noise of a gradient over a batch of B samples, drawn with replacement,
        has 1/B of it. It is the Gauss-Newton matrix of the samples' losses under the centring
        matrix over n, that is, under the Hessian of half their variance.

        Raises:
            ValueError: as for `empirical_fisher`.
        """
        self._check_samples()
        params, inside = self._present(), self._loss.held()
        with torch.inference_mode(False):
            mean = torch.cat([torch.zeros_like(p).reshape(-1) for p in params.values()])
        with self._loss.shared(mean):
            for part, share in self._shares():
                fisher, count = self._of_samples(part, params, inside)
                _adjoint(fisher)
                mean += fisher.vjp(torch.full_like(fisher.outputs, share / count))
        if torch.isnan(mean).any():
            raise ValueError(_ELSEWHERE)

        def piece(part: Any, params: Params, inside: Inside) -> LinearOperator:
            fisher, count = self._of_samples(part, params, inside)

            def product(vector: Tensor) -> Tensor:
                return fisher.vjp((fisher.jvp(vector) - mean @ vector) / count)

            return LinearOperator(len(mean), product, mean.dtype, mean.device)

        return self._operator(piece, self._shares)

    def monte_carlo_fisher(
        self, draws: int = 1, generator: torch.Generator | None = None
    ) -> LinearOperator:
        """Fisher matrix of the model's predictive distribution, from targets drawn from it, (P, P).

        (1/nd) Σ τᵢ gᵢᵣ gᵢᵣᵀ with gᵢᵣ the gradient of the loss of sample i at its r-th drawn target,
        and 1/τᵢ that loss over the negative log-likelihood (see `draw_targets`): its expectation is
        `gauss_newton()`, 1/n of it where the loss is a sum. The targets are drawn here and held, so
        that the operator is one matrix: d targets a sample.

        Args:
            draws: d, targets a sample.
            generator: of the random numbers; by default one with a fixed seed.

        Raises:
            ValueError: as for `empirical_fisher`; the loss is no likelihood that is known:
                cross-entropy of class indices, mean squared error or binary cross-entropy with
                logits of `torch.nn`; or `draws` is below 1.
        """
        check_count("draws", draws)
        if generator is None:
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            generator = torch.Generator().manual_seed(rank)
        self._check_samples()
        params = self._present()

        def draw() -> list[tuple[Tensor, Tensor]]:
            seen = []
            for part, _ in self._shares():
                with torch.no_grad():
                    outputs = self._loss.inside(params, partial(self._outputs, part))
                seen.append((outputs, self._loss.data_of(part)))
            # not while data are read, after which the state of a global generator is put back
            return [draw_targets(self._loss_fn, f, y, draws, generator) for f, y in seen]

        held = self._together(draw)

        def parts() -> Iterable[tuple[Any, float]]:
            for (part, share), drawn in zip(self._shares(), held, strict=True):
                yield (part, drawn), share

        def piece(part: Any, params: Params, inside: Inside) -> GaussNewtonOperator:
            part, (targets, terms) = part

            def losses() -> Tensor:
                outputs = self._outputs(part)
                repeated = outputs.expand(draws, *outputs.shape).flatten(0, 1)
                return sample_losses(self._loss_fn, repeated, targets.flatten(0, 1))

            scale = (terms / (draws * len(terms))).repeat(draws)
            return self._through(losses, part, params, inside, scale)

        return self._operator(piece, parts)

    def neural_tangent_kernel(self) -> LinearOperator:
        """Neural tangent kernel J Jᵀ of the flattened outputs, (N, N) (Jacot et al. 2018).

        N is the number of samples times that of outputs of one, in the order of the data. Under
        the mean squared error over all N outputs the Gauss-Newton matrix is (2/N) JᵀJ, and has
        2/N of this one's nonzero eigenvalues. From batches, each product reads them twice.

        Raises:
            ValueError: `forward` is missing, or the data are spread over processes.
            TypeError: the outputs are no tensor.
        """
        self._require_outputs()
        loss = self._loss
        if isinstance(loss, StreamedLoss) and loss.distributed:
            raise ValueError(
                "a neural tangent kernel acts on the outputs of all samples, and with distributed "
                "no process has them: give the batches to one process."
            )
        loss.check_state()

        def piece(part: Any, params: Params, inside: Inside) -> GaussNewtonOperator:
            return self._through(lambda: self._outputs(part), part, params, inside, 1.0)

        inside = loss.held()
        if self._whole:
            ((part, _),) = loss.parts()
            return _adjoint(piece(part, loss.parameters(), inside)).gram
        params = self._present()
        self._check_first(piece, params, inside, loss.parts)
        sizes = []
        for part, _ in loss.parts():
            with torch.no_grad():
                sizes.append(loss.inside(params, partial(self._outputs, part)).numel())
        like = next(iter(params.values()))

        def product(weights: Tensor) -> Tensor:
            columns = weights.reshape(len(weights), -1)
            pulled = torch.zeros(sum(p.numel() for p in params.values()), columns.shape[1]).to(like)
            for (part, _), rows in zip(loss.parts(), columns.split(sizes), strict=True):
                one = piece(part, params, inside)
                pulled += torch.stack([one.vjp(row) for row in rows.T], 1)
            images = []
            for part, _ in loss.parts():
                one = piece(part, params, inside)
                images.append(torch.stack([one.jvp(column) for column in pulled.T], 1))
            return torch.cat(images).reshape(weights.shape)

        return LinearOperator(sum(sizes), product, like.dtype, like.device, product)

    @property
    def _whole(self) -> bool:
        """Whether the data are one part, whose graph is kept."""
        return isinstance(self._loss, ModelLoss) and self._loss.micro_batch is None

    def _shares(self) -> Iterable[tuple[Any, float]]:
        return self._loss.shares()

    def _present(self) -> Params:
        return {name: p.detach().clone() for name, p in self._loss.parameters().items()}

    def _operator(
        self, piece: Piece, parts: Callable[[], Iterable[tuple[Any, float]]]
    ) -> LinearOperator:
        """Σ over parts of their weight times the operator of one."""
        self._loss.check_state()
        inside = self._loss.held()
        if self._whole:
            ((part, _),) = parts()
            return _adjoint(piece(part, self._loss.parameters(), inside))
        params = self._present()
        self._check_first(piece, params, inside, parts)
        return self._loss.summed(
            params, lambda: ((piece(part, params, inside), weight) for part, weight in parts())
        )

    def _check_first(
        self,
        piece: Piece,
        params: Params,
        inside: Inside,
        parts: Callable[[], Iterable[tuple[Any, float]]],
    ) -> None:
        self._together(lambda: _adjoint(piece(next(iter(parts()))[0], params, inside)))

    def _together(self, compute: Callable[[], _T]) -> _T:
        """What `compute()` gives; what fails in one process ends all."""
        like = next(iter(self._loss.parameters().values()))
        done = torch.zeros(1, device=like.device)
        with self._loss.shared(done):
            result = compute()
        if torch.isnan(done):
            raise ValueError(_ELSEWHERE)
        return result

    def _require_outputs(self) -> None:
        if isinstance(self._loss, StreamedLoss) and self._loss.forward is None:
            raise ValueError(
                "of loss_fn(model, batch) only the Hessian is known: give forward(model, batch), "
                "which returns the outputs, and loss_fn(outputs, batch)."
            )

    def _check_samples(self) -> None:
        self._require_outputs()
        self._loss.check_state()
        self._together(lambda: check_samples(self._loss, self._loss_fn))

    def _outputs(self, part: Any) -> Tensor:
        outputs = self._loss.outputs_of(part)
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"the outputs are a {type(outputs).__name__}; they must be a tensor: let forward "
                "or the model pick it."
            )
        return outputs

    def _through(
        self,
        values: Callable[[], Tensor],
        part: Any,
        params: Params,
        inside: Inside,
        curvature: Any,
    ) -> GaussNewtonOperator:
        """Jᵀ S J of what a part has at the parameters that the model is given."""
        with self._loss.naming(part):
            return gauss_newton_operator(lambda _: values(), params, curvature, inside=inside)

    def _of_samples(
        self, part: Any, params: Params, inside: Inside
    ) -> tuple[GaussNewtonOperator, int]:
        """Σ gᵢ gᵢᵀ over the mean of a part's samples, and how many they are."""
        data = self._loss.data_of(part)

        def losses() -> Tensor:
            return sample_losses(self._loss_fn, self._outputs(part), data)

        count = batch_size(data)
        return self._through(losses, part, params, inside, 1 / count), count


def _adjoint(operator: _T) -> _T:
    """The operator, checked for products with J and Jᵀ that belong together.

    A product with J differentiates one with Jᵀ, which kernels do wrong that detach in their
    backward pass.

    Raises:
        ValueError: uᵀ(Jv) and (Jᵀu)ᵀv differ for a random u, and v along Jᵀu.
    """
    if isinstance(operator, GaussNewtonOperator):
        stream = torch.Generator().manual_seed(0)
        outputs = operator.outputs
        u = torch.randn(outputs.shape, generator=stream, dtype=torch.float64).to(outputs)
        back = operator.vjp(u)
        size = float(back.norm())
        there = float(u @ operator.jvp(back / size)) if size > 0 else 0.0
        if abs(there - size) > _ADJOINT * size:
            raise ValueError(
                "products with the Jacobian and with its transpose do not agree: something that "
                "the model or the loss calls has no second derivative, or a wrong one."
            )
    return operator
