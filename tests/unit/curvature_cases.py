"""One table of cases of curvature, and dense float64 references made without sharpflow.

A case is a model, a loss, a set of parameters and a form of data. Not every combination stands in
it: every model, loss, set and form does, and the pairs that are likely to meet in one code path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
from small_classifier import draw
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

N = 10
SIZES = (5, 3, 2)
"""Of the batches: unequal, so that a plain mean over them is another number."""

VECTORS = draw(N, 5, seed=1)
IMAGES = draw(N, 1, 5, 5, seed=2)
SERIES = draw(N, 4, 3, seed=3)
WORDS = torch.arange(3 * N).reshape(N, 3) % 11 % 6


class Residual(nn.Module):
    """x + f(x), with group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head((h + self.inner(F.silu(self.norm(h)))).mean((2, 3)))


class Recurrent(nn.Module):
    """A recurrent layer, read at its last step."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(3, 3, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attentive(nn.Module):
    """`nn.MultiheadAttention` on a residual stream, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.head(self.norm(h + self.attention(h, h, h, need_weights=False)[0]).mean(1))


class Block(nn.Module):
    """A transformer's block on fused attention."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.causal = causal

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.mix(self.norm(h)).chunk(3, -1)
        heads = [t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=self.causal)
        return h + F.gelu(self.out(mixed.transpose(1, 2).flatten(2)))


class Decoder(nn.Module):
    """A causal language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4)
        self.places = nn.Parameter(0.1 * torch.randn(3, 4))
        self.block = Block(4, causal=True)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.block(self.words(words) + self.places))


class Vision(nn.Module):
    """Patches, a class token, a block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.token = nn.Parameter(0.1 * torch.randn(1, 1, 4))
        self.places = nn.Parameter(0.1 * torch.randn(5, 4))
        self.block = Block(4, causal=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(h), 1, 4), h], 1) + self.places
        return self.head(self.block(h)[:, 0])


class TwoInputs(nn.Module):
    """Two tensors in, and a parameter that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4, bias=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, series: Tensor) -> Tensor:
        return self.head(torch.tanh(self.left(x)) * self.right(series.mean(1)))


class OwnLoss(nn.Module):
    """A model of named inputs that gives its loss, as those of HuggingFace do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(6, 4), nn.Linear(4, 6)

    def forward(self, words: Tensor, labels: Tensor) -> SimpleNamespace:
        logits = self.head(torch.tanh(self.words(words)))
        return SimpleNamespace(loss=F.cross_entropy(logits.mT, labels), logits=logits)


class Checkpointed(nn.Module):
    """Its inner part runs again in the backward pass."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)
        self.again = True

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False) if self.again else self.inner(x)


def dense(activation: type[nn.Module], *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), activation(), *more, nn.Linear(6, 3))


def convolutional(pool: type[nn.Module], activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), activation(), pool(2), nn.Conv2d(3, 3, 2), nn.Flatten(), nn.Linear(3, 3)
    )


def tied() -> nn.Sequential:
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(5, 3))


def evaluated(model: nn.Module) -> nn.Module:
    """In evaluation mode, with running statistics that are not the ones it began with."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = 0.3 * torch.randn(6)
            module.running_var = 0.5 + torch.rand(6)
    return model.eval()


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    return nn.Sequential(norm(nn.Linear(5, 6)), nn.GELU(), nn.Linear(6, 3))


@dataclass(frozen=True)
class Model:
    """How a model is made, what it reads, and patterns of some of its parameters."""

    make: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...] = (VECTORS,)
    some: tuple[str, ...] = ("0.*",)
    names: tuple[str, ...] = ("x", "z")

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(0)
        return self.make().double().to(dtype)


MODELS = {
    "linear": Model(lambda: nn.Sequential(nn.Linear(5, 3)), some=("0.weight",)),
    "tanh": Model(lambda: dense(nn.Tanh)),
    "relu": Model(lambda: dense(nn.ReLU)),
    "gelu": Model(lambda: dense(nn.GELU)),
    "deep": Model(lambda: dense(nn.Tanh, nn.Linear(6, 6), nn.Softplus()), some=("*.weight",)),
    "average": Model(lambda: convolutional(nn.AvgPool2d, nn.ELU), (IMAGES,)),
    "maximum": Model(lambda: convolutional(nn.MaxPool2d, nn.ReLU), (IMAGES,)),
    "channels_last": Model(
        lambda: convolutional(nn.AvgPool2d, nn.SiLU).to(memory_format=torch.channels_last),
        (IMAGES.expand(N, 1, 5, 5).contiguous(memory_format=torch.channels_last),),
    ),
    "residual": Model(Residual, (IMAGES,), ("inner.*", "norm.*")),
    "norm_train": Model(lambda: dense(nn.Tanh, nn.BatchNorm1d(6))),
    "norm_eval": Model(lambda: evaluated(dense(nn.Tanh, nn.BatchNorm1d(6))), some=("2.*",)),
    "layer_norm": Model(lambda: dense(nn.GELU, nn.LayerNorm(6)), some=("2.*",)),
    "lstm": Model(partial(Recurrent, nn.LSTM), (SERIES,), ("layer.*_hh_*",)),
    "gru": Model(partial(Recurrent, nn.GRU), (SERIES,), ("layer.*",)),
    "attention": Model(Attentive, (SERIES,), ("attention.*",)),
    "encoder": Model(
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(3, 1, 4, 0.2, "gelu", batch_first=True),
            nn.Flatten(),
            nn.Linear(12, 3),
        ).eval(),
        (SERIES,),
    ),
    "decoder": Model(Decoder, (WORDS,), ("block.*",)),
    "vision": Model(Vision, (IMAGES,), ("block.*", "token")),
    "weight_norm": Model(lambda: normed(parametrizations.weight_norm), some=("0.param*",)),
    "spectral_norm": Model(lambda: normed(parametrizations.spectral_norm).eval()),
    "embedding": Model(
        lambda: nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(9, 3)), (WORDS,)
    ),
    "tied": Model(tied),
    "two_inputs": Model(TwoInputs, (VECTORS, SERIES), ("left.*", "unused")),
    "own_loss": Model(OwnLoss, (WORDS,), ("head.*",), ("words",)),
    "checkpointed": Model(
        lambda: dense(nn.GELU, Checkpointed(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()))
    ),
}


def classes_of(shape: torch.Size) -> Tensor:
    """Labels of unequal frequencies, in an order that differs between the batches."""
    count = shape[:-1].numel()
    return (torch.arange(count) ** 2 % 7 % shape[-1]).reshape(shape[:-1])


def ignored(shape: torch.Size) -> Tensor:
    labels = classes_of(shape).reshape(-1)
    labels[: len(labels) // 4] = -100
    return labels.reshape(shape[:-1])


def one_hot(shape: torch.Size) -> Tensor:
    return F.one_hot(classes_of(shape), shape[-1]).double()


def normal(shape: torch.Size) -> Tensor:
    return draw(*shape, seed=7)


def shares(shape: torch.Size) -> Tensor:
    return normal(shape).softmax(-1)


CLASS_WEIGHTS = torch.tensor([1.0, 5.0, 0.1, 2.0, 0.5, 3.0], dtype=torch.float64)


@dataclass(frozen=True)
class Loss:
    """A loss of outputs (n, …, c) and targets, with the curvature of a penalty if it has one."""

    function: Callable[[Tensor, Tensor], Tensor]
    targets: Callable[[torch.Size], Tensor] = classes_of
    penalty: float = 0.0
    weight: Callable[[Tensor], float] | None = None
    """What the mean over batches weighs a batch's targets with, unless the number of samples."""


def rows(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss on rows of scores; words are rows too."""
    return lambda f, y: function(f.reshape(-1, f.shape[-1]), y.reshape(-1))


def weighted(f: Tensor, y: Tensor) -> Tensor:
    weights = CLASS_WEIGHTS[: f.shape[-1]].to(f)
    return F.cross_entropy(f.reshape(-1, f.shape[-1]), y.reshape(-1), weights)


LOSSES = {
    "mse": Loss(F.mse_loss, normal),
    "mse_sum": Loss(nn.MSELoss(reduction="sum"), normal),
    "ce": Loss(F.cross_entropy),
    "words": Loss(rows(F.cross_entropy)),
    "ce_sum": Loss(nn.CrossEntropyLoss(reduction="sum")),
    "smoothed": Loss(nn.CrossEntropyLoss(label_smoothing=0.1)),
    "weighted": Loss(
        weighted,
        weight=lambda y: float(CLASS_WEIGHTS[y.reshape(-1)].sum()),
    ),
    "ignoring": Loss(
        rows(F.cross_entropy),
        ignored,
        weight=lambda y: int((y != -100).sum()),
    ),
    "soft": Loss(nn.CrossEntropyLoss(), shares),
    "bce": Loss(nn.BCEWithLogitsLoss(), one_hot),
    "huber": Loss(nn.HuberLoss(delta=0.7), normal),
    "kl": Loss(lambda f, y: F.kl_div(f.log_softmax(-1), y, reduction="batchmean"), shares),
    "nll": Loss(lambda f, y: F.nll_loss(f.log_softmax(-1), y)),
    "penalised": Loss(F.cross_entropy, penalty=0.3),
    "own": Loss(lambda *_: torch.empty(0), lambda shape: WORDS.flip(0)),
}


@dataclass(frozen=True)
class Case:
    """A row of the table; `refused` is the part of the sentence that a measurement ends in."""

    model: str
    loss: str
    subset: str = "all"
    data: str = "whole"
    refused: str = field(default="", compare=False)

    def __str__(self) -> str:
        return "-".join((self.model, self.loss, self.subset, self.data))


TABLE = """
linear mse all whole
linear ce all whole
linear mse_sum only micro
linear bce frozen tuples
tanh mse all whole
tanh mse only whole
tanh mse frozen whole
tanh mse all micro
tanh mse all loader
tanh mse_sum all whole
tanh ce all whole
tanh ce_sum all micro
tanh huber all whole
tanh penalised all tuples
tanh soft only dicts
relu mse all whole
relu ce all whole
relu ce frozen micro
relu weighted only tuples
gelu mse all whole
gelu ce all whole
gelu smoothed all micro
gelu smoothed only loader
gelu weighted all whole
gelu weighted frozen dicts
gelu ignoring all tuples
gelu bce all whole
gelu bce all micro
gelu huber only micro
gelu kl all whole
gelu kl all loader
gelu nll all whole
gelu nll frozen dicts
gelu soft all micro
gelu penalised all whole
gelu penalised only whole
gelu penalised frozen micro
deep mse all whole
deep mse only micro
deep kl only tuples
average ce all whole
average mse all tuples
average huber only micro
maximum ce all whole
maximum ce_sum frozen micro
maximum nll all loader
channels_last ce all whole
channels_last mse only loader
channels_last bce all micro
residual ce all whole
residual mse only whole
residual smoothed frozen micro
residual weighted all dicts
norm_train ce all whole
norm_train mse only whole
norm_train penalised frozen whole
norm_eval ce all whole
norm_eval mse all loader
norm_eval ce only micro
layer_norm ce all whole
layer_norm mse only tuples
layer_norm kl frozen micro
lstm ce all whole
lstm mse only whole
lstm ce frozen tuples
lstm huber all micro
gru ce all whole
gru smoothed only loader
gru mse all micro
attention ce all whole
attention bce only tuples
attention mse all micro
encoder ce all whole
encoder nll frozen loader
encoder mse only micro
decoder words all whole
decoder ignoring all whole
decoder words only loader
decoder ignoring all dicts
decoder words frozen micro
vision ce all whole
vision smoothed only tuples
vision mse frozen micro
spectral_norm ce all whole
spectral_norm mse frozen tuples
embedding ce all whole
embedding bce only dicts
embedding penalised all micro
tied ce all whole
tied mse all loader
tied penalised all whole
two_inputs ce all whole
two_inputs mse only micro
two_inputs huber frozen tuples
two_inputs nll all dicts
own_loss own all dicts
own_loss own only dicts
own_loss own frozen dicts
checkpointed ce all whole
checkpointed mse only whole
"""
REFUSALS = """
gelu weighted all micro: mean or a sum over samples
decoder ignoring all micro: mean or a sum over samples
norm_train ce all micro: batch norm
norm_train ce all tuples: batch norm
norm_train mse only loader: batch norm
checkpointed ce all micro: batch norm
weight_norm ce all whole: second derivative
weight_norm mse only loader: second derivative
weight_norm nll all micro: second derivative
"""

CASES = tuple(Case(*line.split()) for line in TABLE.strip().splitlines())
REFUSED = tuple(
    Case(*line.partition(": ")[0].split(), refused=line.partition(": ")[2])
    for line in REFUSALS.strip().splitlines()
)


class Rows(Dataset):
    """Samples of the data, for a `DataLoader`."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        return tuple(tensor[row] for tensor in self.tensors)


@dataclass(frozen=True)
class Setup:
    """A case made: what a user has in hand.

    Attributes:
        model: fresh, with some parameters frozen where the case says so.
        loss_fn: of outputs and targets; a penalty reads the model itself.
        inputs, targets: of all samples.
        only: patterns, or None.
    """

    case: Case
    model: nn.Module
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    inputs: tuple[Tensor, ...]
    targets: Tensor
    only: tuple[str, ...] | None

    @property
    def params(self) -> dict[str, nn.Parameter]:
        """Those that vary."""
        wanted = self.only or ("*",)
        return {
            name: p
            for name, p in self.model.named_parameters()
            if p.requires_grad and any(fnmatchcase(name, each) for each in wanted)
        }

    @property
    def batches(self) -> Any:
        """The data in the case's form."""
        tensors = (*self.inputs, self.targets)
        if self.case.data == "loader":
            return DataLoader(Rows(tensors), batch_size=4)
        parts = list(zip(*(t.split(SIZES) for t in tensors), strict=True))
        names = (*MODELS[self.case.model].names[: len(self.inputs)], "labels")
        if self.case.data == "dicts":
            return [dict(zip(names, part, strict=True)) for part in parts]
        return parts

    def parts(self, batch: Any) -> tuple[Tensor, ...]:
        return tuple(batch.values()) if isinstance(batch, dict) else tuple(batch)

    def batch_loss(self, model: nn.Module, batch: Any) -> Tensor:
        if self.case.loss == "own":
            return model(**batch).loss
        *inputs, targets = self.parts(batch)
        return self.loss_fn(model(*inputs), targets)

    def weight(self, batch: Any) -> float:
        """Of a batch in the mean over them."""
        *_, targets = self.parts(batch)
        weigh = LOSSES[self.case.loss].weight
        return len(targets) if weigh is None else weigh(targets)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The first of `sharpness` and `SharpnessTracker`."""
        if self.case.data in ("whole", "micro"):
            inputs = self.inputs if len(self.inputs) > 1 else self.inputs[0]
            return self.model, self.loss_fn, inputs, self.targets
        return self.model, self.batch_loss, self.batches

    @property
    def options(self) -> dict[str, Any]:
        """Their others."""
        found: dict[str, Any] = {} if self.only is None else {"only": self.only}
        if self.case.data == "micro":
            found["micro_batch"] = 4
        elif self.case.data != "whole" and LOSSES[self.case.loss].weight is not None:
            found["weight"] = self.weight
        return found


def setup(case: Case, dtype: torch.dtype = torch.float64) -> Setup:
    """Make a case."""
    kind, loss = MODELS[case.model], LOSSES[case.loss]
    model = kind.build(dtype)
    if case.subset == "frozen":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(fnmatchcase(name, each) for each in kind.some))
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in kind.inputs)
    targets = targets_of(case.model, case.loss)
    function = loss.function
    if loss.penalty:

        def function(f: Tensor, y: Tensor) -> Tensor:
            size = sum(p.square().sum() for p in model.parameters())
            return loss.function(f, y) + loss.penalty * size

    return Setup(
        case,
        model,
        function,
        inputs,
        targets.to(dtype) if targets.is_floating_point() else targets,
        kind.some if case.subset == "only" else None,
    )


@cache
def targets_of(model: str, loss: str) -> Tensor:
    if loss == "own":
        return LOSSES[loss].targets(torch.Size())
    with torch.no_grad():
        shape = MODELS[model].build()(*MODELS[model].inputs).shape
    return LOSSES[loss].targets(shape)


def varying(case: Case) -> Tensor:
    """Places of the case's parameters among all of the model's, flattened."""
    kind, start, places = MODELS[case.model], 0, []
    for name, parameter in kind.build().named_parameters():
        if case.subset == "all" or any(fnmatchcase(name, each) for each in kind.some):
            places.append(torch.arange(start, start + parameter.numel()))
        start += parameter.numel()
    return torch.cat(places)


@dataclass(frozen=True)
class Flat:
    """The loss and the outputs of a case as functions of all parameters in one vector."""

    start: Tensor
    loss: Callable[[Tensor], Tensor]
    outputs: Callable[[Tensor], Tensor]
    of_outputs: Callable[[Tensor], Tensor]


def flat(model_name: str, loss_name: str) -> Flat:
    kind, loss = MODELS[model_name], LOSSES[loss_name]
    model, targets = kind.build(), targets_of(model_name, loss_name)
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Checkpointed):
            module.again = False
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def run(vector: Tensor, *args: Tensor) -> Any:
        parts = zip(named.items(), vector.split(sizes), strict=True)
        state = {name: part.view(p.shape) for (name, p), part in parts}
        state |= {name: buffer.clone() for name, buffer in model.named_buffers()}
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(model, state, args)

    def whole(vector: Tensor) -> Tensor:
        if loss_name == "own":
            return run(vector, *kind.inputs, targets).loss
        fit = loss.function(run(vector, *kind.inputs), targets)
        return fit + loss.penalty * vector.square().sum()

    return Flat(
        torch.cat([p.detach().reshape(-1) for p in named.values()]),
        whole,
        lambda vector: run(vector, *kind.inputs),
        lambda f: loss.function(f, targets),
    )


BY_DIFFERENCES = {"weight_norm"}
"""Models whose gradient autograd differentiates wrongly (a fused kernel): see `differences`."""
KINKED = {"relu", "maximum", "average"}
"""Models whose second derivative jumps somewhere: differences have to stay on one side."""


def differences(model: str, gradient: Callable[[Tensor], Tensor], at: Tensor, v: Tensor) -> Tensor:
    """Derivative of a gradient along a direction, by central differences of sixth order."""
    step = 1e-6 if model in KINKED else 4e-3
    ends = [gradient(at + i * step * v) - gradient(at - i * step * v) for i in (1, 2, 3)]
    return (45 * ends[0] - 9 * ends[1] + ends[2]) / (60 * step)


def slope(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at), at)[0]


@cache
def whole_hessian(model: str, loss: str) -> Tensor:
    """Of the loss of all samples in all parameters, dense: its rows are gradients of gradients.

    Not by forward derivatives: `torch.func.hessian` is wrong by a tenth where there is a LayerNorm.
    """
    found = flat(model, loss)
    if model in BY_DIFFERENCES:
        unit = torch.eye(len(found.start), dtype=torch.float64)
        gradient = partial(slope, found.loss)
        return torch.stack([differences(model, gradient, found.start, each) for each in unit])
    return torch.autograd.functional.hessian(found.loss, found.start)


def hessian_of(case: Case) -> Tensor:
    """The reference of a case, (P, P)."""
    places = varying(case)
    return whole_hessian(case.model, case.loss)[places][:, places]


@cache
def gauss_newton_of(case: Case) -> Tensor:
    """JᵀSJ of a case, (P, P), with J and S written out."""
    found = flat(case.model, case.loss)
    with torch.no_grad():
        outputs = found.outputs(found.start)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: found.outputs(v).reshape(-1), found.start
    )[:, varying(case)]
    inner = torch.autograd.functional.hessian(
        lambda f: found.of_outputs(f.view(outputs.shape)), outputs.reshape(-1)
    )
    return jacobian.T @ inner @ jacobian
