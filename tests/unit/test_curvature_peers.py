"""The table of cases by the other libraries: where they are right, and what each cannot do."""

from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
import torch
from curvature_cases import (
    CASES,
    REFUSED,
    Case,
    Setup,
    gauss_newton_of,
    hessian_of,
    setup,
)
from small_classifier import draw
from torch import Tensor, nn

Measure = Callable[[Setup, Tensor], Tensor]
"""Products of a peer's matrix of a case with a block (P, b)."""


class Loss(nn.Module):
    """A loss of the table as curvlinops wants it: a module that says what it is over samples."""

    def __init__(self, made: Setup) -> None:
        super().__init__()
        self.function = made.loss_fn
        self.reduction = "sum" if made.case.loss.endswith("_sum") else "mean"

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets)


class Joined(nn.Module):
    """A network of several inputs as curvlinops wants it: of one dict."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model(*inputs.values())


def batches_of(made: Setup) -> list[tuple[Tensor, ...]]:
    """The case's batches, or all samples as one, as tuples that end with the targets."""
    if made.case.data == "whole":
        return [(*made.inputs, made.targets)]
    return [made.parts(batch) for batch in made.batches]


def curvlinops(kind: str) -> Measure:
    def products(made: Setup, block: Tensor) -> Tensor:
        several = len(made.inputs) > 1
        data = [
            (dict(enumerate(inputs)) if several else inputs[0], targets)
            for *inputs, targets in batches_of(made)
        ]
        operator = getattr(pytest.importorskip("curvlinops"), kind)(
            Joined(made.model) if several else made.model,
            Loss(made),
            list(made.params.values()),
            data,
            batch_size_fn=(lambda x: len(x[0])) if several else len,
        )
        return operator @ block

    return products


def eigenthings(made: Setup, block: Tensor) -> Tensor:
    operator = pytest.importorskip("hessian_eigenthings").HessianOperator(
        made.model,
        made.batches if made.case.loss == "own" else batches_of(made),
        made.batch_loss,
        param_filter=wanted(made),
    )
    return torch.stack([operator.matvec(each) for each in block.T], 1)


def eigenthings_newton(made: Setup, block: Tensor) -> Tensor:
    operator = pytest.importorskip("hessian_eigenthings").GGNOperator(
        made.model,
        batches_of(made),
        lambda model, batch: model(*batch[:-1]),
        lambda outputs, batch: made.loss_fn(outputs, batch[-1]),
        param_filter=wanted(made),
    )
    return torch.stack([operator.matvec(each) for each in block.T], 1)


def wanted(made: Setup) -> Callable[[str, Tensor], bool]:
    return lambda name, _: name in made.params


PEERS: dict[str, tuple[Measure, Callable[[Case], Tensor]]] = {
    "curvlinops Hessian": (curvlinops("HessianLinearOperator"), hessian_of),
    "curvlinops Gauss-Newton": (curvlinops("GGNLinearOperator"), gauss_newton_of),
    "hessian_eigenthings Hessian": (eigenthings, hessian_of),
    "hessian_eigenthings Gauss-Newton": (eigenthings_newton, gauss_newton_of),
}

LIMITS = """
curvlinops * | norm_train | * | * | raises RuntimeError | running statistics under a transform
*Newton | norm_train | * | * | raises RuntimeError | running statistics under a transform
*Hessian | norm_train | * | tuples loader | differs | each batch has its own statistics
curvlinops * | attention encoder decoder vision | * | * | raises NotImplementedError | forward mode
*Newton | attention encoder decoder vision | * | * | raises NotImplementedError | forward mode
*Hessian | attention encoder decoder vision | * | * | raises RuntimeError | no double backward
curvlinops * | weight_norm | * | * | raises NotImplementedError | forward mode
*Newton | weight_norm | * | * | raises NotImplementedError | forward mode
*Hessian | weight_norm | * | * | differs | the fused kernel's second derivative is wrong
curvlinops * | two_inputs | * | * | raises RuntimeError | a parameter that is not used
*Hessian | two_inputs | * | * | raises RuntimeError | a parameter that is not used
curvlinops * | checkpointed | * | * | raises RuntimeError | checkpoints under a transform
*Newton | checkpointed | * | * | raises RuntimeError | checkpoints under a transform
curvlinops Hessian | channels_last residual | * | * | raises NotImplementedError | SiLU
curvlinops Hessian | layer_norm | ce | * | differs | forward mode of LayerNorm is wrong
curvlinops Hessian | * | penalised | * | differs | the loss reads the parameters of the model
curvlinops * | * | weighted ignoring | tuples loader dicts | differs | batches weigh their samples
hessian_eigenthings * | * | * | tuples loader dicts | differs | unequal batches weigh alike
"""
"""What is known of the versions in benchmarks/requirements.txt; the first line that fits holds.

Library and matrix, models, losses, forms of data, what happens, why. All else agrees.
"""


def known(peer: str, case: Case) -> str:
    """What a peer is expected to do with a case: be `right`, `differ`, or raise an error."""
    for line in LIMITS.strip().splitlines():
        *patterns, result, _ = (part.strip() for part in line.split("|"))
        names = (peer, case.model, case.loss, case.data)
        if all(
            name in pattern.split() or fnmatchcase(name, pattern)
            for name, pattern in zip(names, patterns, strict=True)
        ):
            return result
    return "right"


def applies(peer: str, case: Case) -> bool:
    """Whether a peer has a way to be asked: a model's own loss and a penalty have no outputs."""
    newton = peer.endswith("Newton")
    own = case.loss == "own" and (newton or peer.startswith("curvlinops"))
    return case.data != "micro" and not own and not (newton and case.loss == "penalised")


ASKED = [(peer, case) for case in (*CASES, *REFUSED) for peer in PEERS if applies(peer, case)]


@pytest.mark.parametrize(("peer", "case"), ASKED, ids=str)
def test_peers_agree_on_what_they_can_do(peer, case):
    measure, reference = PEERS[peer]
    expected = reference(case)
    block = draw(len(expected), 3, seed=4)
    try:
        found = measure(setup(case), block)
    except Exception as error:  # whatever a peer does is what is looked at
        result = f"raises {type(error).__name__}"
    else:
        away = (found - expected @ block).abs().max() / (expected @ block).abs().max()
        result = "right" if away < 1e-8 else "differs"
    assert result == known(peer, case)
