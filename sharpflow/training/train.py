"""Training: the trajectory, and the states that evaluation starts from."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from sharpflow.models import Parameters
from sharpflow.training.problem import Problem


@dataclass(frozen=True)
class Trajectory:
    """What training leaves.

    Attributes:
        table: long table (seed, step, quantity, index, value) of loss, learning_rate,
            norm_squared (index: layer), output_norm_squared, samples (at step 0, if finite) and,
            for a run that left the finite numbers, diverged_step (the recorded step).
        states: state of the ensemble at each stored step.
    """

    table: pd.DataFrame
    states: dict[int, Parameters]


def stored_steps(steps: int, every: int, bytes_per_state: int, budget: int) -> list[int]:
    """Steps whose state is kept: a regular stride that fits `budget` bytes, and the last step.

    The stride is a multiple of `every`, the stride of recorded steps.
    """
    affordable = max(budget // max(bytes_per_state, 1) - 1, 1)
    stride = every * max(math.ceil(steps / every / affordable), 1)
    return sorted({*range(0, steps, stride), steps})


def state_bytes(state: Parameters) -> int:
    """Bytes of one run's state."""
    return sum(t[0].numel() * t.element_size() for t in state.values())


def long_table(seeds: list[int], steps: np.ndarray, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """A long table from arrays (steps, seeds, indices) a quantity."""
    frames = []
    for quantity, array in values.items():
        count, runs, indices = array.shape
        frames.append(
            pd.DataFrame(
                {
                    "seed": np.tile(np.repeat(np.asarray(seeds), indices), count),
                    "step": np.repeat(steps, runs * indices),
                    "quantity": quantity,
                    "index": np.tile(np.arange(indices), count * runs),
                    "value": array.reshape(-1).astype(np.float64),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def train(problem: Problem) -> Trajectory:
    """Train the ensemble.

    A run whose loss leaves the finite numbers stays in the ensemble with NaN in the table; its
    shard-mates do not notice.
    """
    steps, every = problem.steps, problem.training["record_every"]
    state = problem.initial_state()
    budget = int(problem.training["states_megabytes"] * 2**20)
    keep = set(stored_steps(steps, every, state_bytes(state), budget))
    recorded = sorted({*range(0, steps, every), steps})
    states: dict[int, Parameters] = {}
    losses, norms = [], []
    for step, following in pairwise([*recorded, None]):
        before, loss = state, None
        if following is not None:
            state, loss = problem.advance(before, step, following)
        if step in keep:
            states[step] = before
        parameters = problem.parameters(before)
        losses.append(problem.full_loss(parameters) if loss is None else loss)
        norms.append(problem.layer_norms_squared(parameters))
    return Trajectory(_table(problem, np.asarray(recorded), losses, norms), states)


def _table(
    problem: Problem, steps: np.ndarray, losses: list[torch.Tensor], norms: list[torch.Tensor]
) -> pd.DataFrame:
    loss = torch.stack(losses).double().cpu().numpy()[:, :, None]
    norm = torch.stack(norms).double().cpu().numpy()
    finite = np.isfinite(loss) & np.isfinite(norm).all(axis=2, keepdims=True)
    alive = np.logical_and.accumulate(finite, axis=0)
    rates = np.asarray([problem.learning_rate(int(step)) for step in steps])
    table = long_table(
        problem.seeds,
        steps,
        {
            "loss": np.where(alive, loss, np.nan),
            "learning_rate": np.broadcast_to(rates[:, None, None], loss.shape),
            "norm_squared": np.where(alive, norm, np.nan),
            "output_norm_squared": np.where(alive, norm, np.nan)[:, :, -1:],
        },
    )
    facts = [
        {"seed": seed, "step": 0, "quantity": "samples", "index": 0, "value": problem.samples}
        for seed in problem.seeds
        if problem.samples is not None
    ]
    facts += [
        {"seed": seed, "step": step, "quantity": "diverged_step", "index": 0, "value": float(step)}
        for run, seed in enumerate(problem.seeds)
        for step in steps[~alive[:, run, 0]][:1]
    ]
    return pd.concat([table, pd.DataFrame(facts)] if facts else [table], ignore_index=True)
