"""Seeds of the experiments on noise balances trained together, against one after another.

Networks, data and batches as in `adam_equilibrium`, `attention_equilibrium` and `relu_charges` of
papers/beyond: the seeds of a shard step by step together, the same runs of this
code one after another, and each as a module with automatic differentiation and PyTorch's optimiser.
CPU microseconds a run-step, random numbers included, the fewest of some turns. Writes the part
`together` of results/benchmarks.json.

    python -m benchmarks.together
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.clock import timed
from benchmarks.record import REPORT, record
from benchmarks.specs import part, shard
from sharpflow.data.base import generate
from sharpflow.training import Problem


class Attention(nn.Module):
    """A layer of attention without biases, as the usual loop trains it."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (
            nn.Linear(size, size, bias=False) for _ in range(4)
        )
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unflatten(-1, (-1, self.query.in_features))
        maps = (self.query, self.key, self.value)
        query, key, value = (
            m(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in maps
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2)).flatten(1)


def dense(inputs: int, width: int, outputs: int, bias: bool = False) -> nn.Module:
    """A network of one hidden ReLU layer."""
    return nn.Sequential(
        nn.Linear(inputs, width, bias=bias), nn.ReLU(), nn.Linear(width, outputs, bias=bias)
    )


@dataclass(frozen=True)
class Case:
    """A network of the workflow and its usual form.

    Attributes:
        data, model: parts, with their options.
        width, batch: of the runs.
        make: the network as a module.
        optimiser: of the runs, `adam` or `sgd`.
        training: further options of it.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    width: int
    batch: int
    make: Callable[[], nn.Module]
    optimiser: str = "sgd"
    training: dict[str, Any] = field(default_factory=dict)


TOKENS = {"tokens": 8, "size": 16, "heads": 2, "samples": 500}
CASES = {
    "dense 20–16–5, Adam, S = 16": Case(
        {"name": "gaussian", "inputs": 20, "outputs": 5},
        {"name": "mlp", "hidden_layers": 1, "activation": "relu"},
        16,
        16,
        lambda: dense(20, 16, 5),
        "adam",
    ),
    "attention, 8 tokens of 16, S = 4": Case(
        {"name": "attention_teacher", **TOKENS},
        {"name": "attention", "tokens": 8, "heads": 2},
        16,
        4,
        lambda: Attention(16, 2),
    ),
    "photographs 192–16–1, S = 4": Case(
        {"name": "photos", "samples": 400, "scaling": "contrast", "pooling": 4},
        {"name": "mlp", "hidden_layers": 1, "activation": "relu", "bias": True},
        16,
        4,
        lambda: dense(192, 16, 1, True),
        training={"weight_decay": 0.05},
    ),
}


def problem(case: Case, seeds: list[int], steps: int) -> Problem:
    """Some runs of a case as one shard."""
    data = generate(part("data", **case.data))[0]
    training = {"steps": steps, "batch": case.batch, **case.training}
    spec = shard(part("models", **case.model), case.width, 0.002, **training)
    return Problem(spec | {"seeds": seeds, "optimiser": part("optimisers", case.optimiser)}, data)


def trained(case: Case, seeds: list[int], steps: int) -> Callable[[], object]:
    """Steps of a shard, ready to be taken."""
    made = problem(case, seeds, steps)
    state = made.initial_state()
    return lambda: made.advance(state, 0, steps)


def usual(case: Case, steps: int) -> Callable[[], object]:
    """Steps of one run as a module, ready to be taken."""
    torch.manual_seed(0)
    model = case.make()
    kind = torch.optim.Adam if case.optimiser == "adam" else torch.optim.SGD
    optimiser = kind(model.parameters(), lr=0.002)
    shape = next(model.parameters()).shape[1] * (TOKENS["tokens"] if "tokens" in case.model else 1)
    inputs = torch.randn(500, shape)
    targets = torch.randn_like(model(inputs))

    def work() -> None:
        for _ in range(steps):
            rows = torch.randint(500, (case.batch,))
            loss = (model(inputs[rows]) - targets[rows]).square().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return work


def measure(case: Case, runs: int, steps: int, turns: int) -> dict[str, float]:
    """Microseconds a run-step of each way, and how many times as long the two others take."""
    ways = {
        "together": ([list(range(runs))], runs),
        "one_after_another": ([[seed] for seed in range(runs)], runs),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*ways, "usual")}
    for _ in range(turns):
        for name, (shards, count) in ways.items():
            works = [trained(case, seeds, steps) for seeds in shards]
            cpu = sum(timed(work)[2] for work in works)
            taken[name].append(cpu / (count * steps) * 1e6)
        taken["usual"].append(timed(usual(case, steps))[2] / steps * 1e6)
    found = {f"{name}_us": min(times) for name, times in taken.items()}
    for name in ("one_after_another", "usual"):
        found[f"over_{name}"] = found[f"{name}_us"] / found["together_us"]
    return found


def main() -> None:
    """Print a row a network and a number of runs, and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together", description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float]] = {}
    for name, case in CASES.items():
        for runs in (5, 10):
            row = rows[f"{name}; {runs} runs"] = measure(case, runs, options.steps, options.turns)
            print(
                f"{name}, {runs} runs: {row['together_us']:.0f} µs a run-step together, one after "
                f"another {row['over_one_after_another']:.1f} times that, as modules "
                f"{row['over_usual']:.1f} times",
                flush=True,
            )
    record({"together": {"steps": options.steps, "cases": rows}})
    print(f"Written to {REPORT}.")


if __name__ == "__main__":
    main()
