"""All noise balances of a network, beside one backward pass and gradients of single samples.

Costs are CPU times in those of a backward pass (with its forward pass) over the same samples, timed
before and after each in the same run, so that other work on the machine changes little. The
symmetries are found before the clock starts; what finding them takes is told. Every answer is held
against the gradients of single samples. Writes the part `balance` of results/benchmarks.json.

    python -m benchmarks.balance             # all nets
    python -m benchmarks.balance --quick     # fewer samples, once each
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from benchmarks.clock import timed
from benchmarks.models import Block, cnn
from benchmarks.record import REPORT, record
from sharpflow.symmetry import NoiseBalance, Symmetries, find_symmetries, noise_balance

ALONE = 32
Data = tuple[Tensor, Tensor]


class VisionBlock(nn.Module):
    """A transformer block on 16 patches, with its read-out."""

    def __init__(self, attention: bool) -> None:
        super().__init__()
        # PyTorch's own layer keeps queries, keys and values in one parameter
        self.block = (
            nn.TransformerEncoderLayer(48, 4, 192, 0.0, batch_first=True, norm_first=True)
            if attention
            else Block(48, 4, causal=False)
        )
        self.read = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.block(x).mean(1))


def dense() -> nn.Module:
    """Four hidden layers: 657,610 parameters."""
    widths = (192, 512, 512, 512, 64)
    layers: list[nn.Module] = []
    for into, out in pairwise(widths):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


@dataclass(frozen=True)
class Case:
    """A network, the shape of one of its inputs, and the goal in backward passes."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    goal: float


CASES = {
    "dense, ReLU": Case(dense, (192,), 3.0),
    "transformer block": Case(lambda: VisionBlock(False), (16, 48), 3.0),
    "nn.TransformerEncoderLayer": Case(lambda: VisionBlock(True), (16, 48), 3.0),
    "CNN, ReLU": Case(cnn, (3, 16, 16), 2.0),
}


def backward(model: nn.Module, data: Data) -> None:
    torch.autograd.grad(cross_entropy(model(data[0]), data[1]), list(model.parameters()))


def one_by_one(model: nn.Module, data: Data, symmetries: Symmetries) -> list[Tensor]:
    """The sides' noise from the gradients of single samples, as `torch.func` computes them."""
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(given: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, given, (x[None],)), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    mean = {name: torch.zeros_like(p) for name, p in params.items()}
    seconds: list[Any] = [0.0] * (2 * len(symmetries))
    for start in range(0, len(data[0]), ALONE):
        rows = slice(start, start + ALONE)
        found = each(params, data[0][rows], data[1][rows])
        for name, values in found.items():
            mean[name] += values.sum(0)
        for place, symmetry in enumerate(symmetries):
            for side, gram in enumerate(symmetry.grams(found)):
                seconds[2 * place + side] = seconds[2 * place + side] + gram.sum(0).double()
    count = len(data[0])
    mean = {name: total.double() / count for name, total in mean.items()}
    sides = [gram for symmetry in symmetries for gram in symmetry.grams(mean)]
    return [
        (second / count - gram) * count / (count - 1)
        for second, gram in zip(seconds, sides, strict=True)
    ]


def difference(found: NoiseBalance, exact: list[Tensor]) -> float:
    """Largest relative difference of a noise Gram."""
    sides = [side for each in found.symmetries for side in (each.outer, each.inner)]
    pairs = zip(sides, exact, strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs if b.norm() > 0)


def over_backward(work: Callable[[], object], model: nn.Module, data: Data, times: int) -> float:
    """Median of the CPU times of some work over those of a backward pass beside it."""
    ratios = []
    for _ in range(times):
        *_, before = timed(lambda: backward(model, data))
        *_, own = timed(work)
        *_, after = timed(lambda: backward(model, data))
        ratios.append(2 * own / (before + after))
    return median(ratios)


def measure(case: Case, samples: int, times: int) -> dict[str, Any]:
    """The row of one network."""
    torch.manual_seed(0)
    model = case.make()
    data = torch.randn(samples, *case.shape), torch.randint(2, (samples,))
    symmetries, _, finding = timed(lambda: find_symmetries(model, data[0][:16]))
    found = noise_balance(model, cross_entropy, *data, symmetries=symmetries)
    same = one_by_one(model, data, symmetries)
    exact = one_by_one(model.double(), (data[0].double(), data[1]), symmetries)
    model.float()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "symmetries": len(symmetries),
        "backward_passes": over_backward(
            lambda: noise_balance(model, cross_entropy, *data, symmetries=symmetries),
            model,
            data,
            times,
        ),
        "goal": case.goal,
        "one_by_one": over_backward(
            lambda: one_by_one(model, data, symmetries), model, data, max(1, times // 3)
        ),
        "difference": difference(found, same),
        "rounding": difference(found, exact),
        "finding_seconds": finding,
    }


def resnet() -> float:
    """CPU seconds in which the symmetries of a ResNet-18 (11.7 million parameters) are found."""
    from transformers import ResNetConfig, ResNetForImageClassification

    shape = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    model = ResNetForImageClassification(ResNetConfig(**shape, num_labels=1000))
    return timed(lambda: find_symmetries(model, torch.randn(8, 3, 32, 32)))[2]


def main() -> None:
    """Print a row a network, and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balance", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resnet", action="store_true", help="a ResNet-18's symmetries, no more")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.resnet:
        print(f"ResNet-18: symmetries found in {resnet():.1f} s of CPU time")
        return
    samples, times = (200, 1) if options.quick else (1000, 9)
    rows = {}
    for name, case in CASES.items():
        row = rows[name] = measure(case, samples, times)
        print(
            f"{name}: {row['parameters']:,} parameters, {row['symmetries']} symmetries; "
            f"{row['backward_passes']:.2f} backward passes (goal {row['goal']:g}), one by one "
            f"{row['one_by_one']:.1f}; difference {row['difference']:.1e}, from float64 "
            f"{row['rounding']:.1e}; found in "
            f"{row['finding_seconds']:.1f} s",
            flush=True,
        )
    record({"balance": {"samples": samples, "threads": options.threads, "nets": rows}})
    print(f"Written to {REPORT}.")


if __name__ == "__main__":
    main()
