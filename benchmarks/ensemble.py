"""Sweep of small networks: the ensemble trainer against a loop over runs.

256 two-layer linear networks 30-40-30 under SGD with S = 10, random numbers included. Beside the
ensemble, in the same process: one run at a time with modules, automatic differentiation and an
optimiser, and one run at a time with the gradients written out. Prints microseconds of CPU time a
run-step (wall time would blame this code for its neighbours on the machine) and the ratios; of the
ensemble also what its steps and its random numbers take alone, and its share of the machine's rate.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.clock import matmul_rate
from benchmarks.record import record
from benchmarks.specs import part, shard
from sharpflow.data.base import generate
from sharpflow.training import BLOCK, Problem
from sharpflow.training.streams import normals

INPUTS, WIDTH, OUTPUTS, BATCH, RATE = 30, 40, 30, 10, 0.01
OPERATIONS = 2 * BATCH * WIDTH * (2 * INPUTS + 3 * OUTPUTS)
"""Of the five products of a run-step."""


def problem(runs: int, steps: int, dtype: str) -> Problem:
    """The shard that the ensemble trains."""
    spec = shard(part("models", "two_layer"), WIDTH, RATE, dtype, steps=steps, batch=BATCH)
    data = generate(part("data", "gaussian", inputs=INPUTS, outputs=OUTPUTS))[0]
    return Problem(spec | {"seeds": list(range(runs))}, data)


def _samples(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(BATCH, INPUTS, dtype=dtype)
    return inputs, inputs + torch.randn(BATCH, OUTPUTS, dtype=dtype)


def _weights(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    u = torch.randn(OUTPUTS, WIDTH, dtype=dtype) / WIDTH**0.5
    return u, torch.randn(WIDTH, INPUTS, dtype=dtype) / INPUTS**0.5


def automatic_loop(steps: int, dtype: torch.dtype) -> None:
    """One run the usual way: modules, automatic differentiation and PyTorch's optimiser."""
    net = torch.nn.Sequential(
        torch.nn.Linear(INPUTS, WIDTH, bias=False), torch.nn.Linear(WIDTH, OUTPUTS, bias=False)
    ).to(dtype)
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE)
    for _ in range(steps):
        inputs, targets = _samples(dtype)
        loss = (net(inputs) - targets).square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def written_out_loop(steps: int, dtype: torch.dtype) -> None:
    """One run with the gradients written out."""
    u, w = _weights(dtype)
    for _ in range(steps):
        inputs, targets = _samples(dtype)
        hidden = inputs @ w.T
        residual = hidden @ u.T - targets
        back = residual @ u
        u -= (2 * RATE / BATCH) * (residual.T @ hidden)
        w -= (2 * RATE / BATCH) * (back.T @ inputs)


def seconds(function: Callable[[], object]) -> float:
    """CPU time of one call, on one thread."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(runs: int, steps: int, repeats: int, dtype: str) -> dict[str, float]:
    """Fewest microseconds a run-step of each way, taken by turns, and the ratios."""
    ensemble, kind = problem(runs, steps, dtype), getattr(torch, dtype)
    state = ensemble.initial_state()
    single, samples = 10 * steps, ensemble.batch(0)
    numbers = np.empty(BLOCK * BATCH * (INPUTS + OUTPUTS), dtype=np.float32)

    def step_only() -> None:
        ensemble.model.descend(state, ((*samples, RATE) for _ in range(steps)), 0.0)

    def draw_only() -> None:
        for seed in range(runs):
            for block in range(steps // BLOCK):
                normals(numbers, "benchmark", seed, "normals", block)

    ways = {
        "ensemble": (lambda: ensemble.advance(state, 0, steps), runs * steps),
        "steps_alone": (step_only, runs * steps),
        "random_numbers": (draw_only, runs * (steps // BLOCK) * BLOCK),
        "autograd_loop": (lambda: automatic_loop(single, kind), single),
        "written_out_loop": (lambda: written_out_loop(single, kind), single),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (function, count) in ways.items():
            taken[name].append(seconds(function) / count * 1e6)
    result = {f"{name}_us": min(times) for name, times in taken.items()}
    for name in ("autograd_loop", "written_out_loop"):
        result[f"over_{name}"] = result[f"{name}_us"] / result["ensemble_us"]
    result["gflops_of_steps"] = OPERATIONS / result["steps_alone_us"] / 1e3
    result["of_matrix_rate"] = result["gflops_of_steps"] / matmul_rate(dtype=kind)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        dtype: measure(options.runs, options.steps, options.repeats, dtype)
        for dtype in ("float64", "float32")
    }
    report = {"ensemble_sweep": results}
    record(report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
