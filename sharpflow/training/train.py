"""Training: the trajectory, and the states that evaluation starts from."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sharpflow.optimisers.base import State
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.storage.heartbeat import Heartbeat
from sharpflow.storage.tables import long_table
from sharpflow.training.problem import Problem

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trajectory:
    """What training leaves.

    Attributes:
        columns: long table (seed, step, quantity, index, value) of loss, learning_rate,
            stability_threshold, norm_squared (index: layer), output_norm_squared, samples (at
            step 0, if finite) and, for a run that left the finite numbers, diverged_step (the
            recorded step).
        states: state of the ensemble at each stored step.
    """

    columns: pa.Table
    states: dict[int, State]

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The columns as a data frame."""
        return self.columns.to_pandas()


def stored_steps(steps: int, every: int, bytes_per_state: int, budget: int) -> list[int]:
    """Steps whose state is kept: a regular stride that fits `budget` bytes, and the last step.

    The stride is a multiple of `every`, the stride of recorded steps.
    """
    affordable = max(budget // max(bytes_per_state, 1) - 1, 1)
    stride = every * max(math.ceil(steps / every / affordable), 1)
    return sorted({*range(0, steps, stride), steps})


def state_bytes(state: State) -> int:
    """Bytes of one run's state."""
    return sum(t[0].numel() * t.element_size() for t in state.values())


def train(
    problem: Problem, checkpoint: Checkpoint | None = None, beat: Heartbeat | None = None
) -> Trajectory:
    """Train the ensemble.

    A run whose loss leaves the finite numbers stays in the ensemble with NaN in the table; its
    shard-mates do not notice.

    Args:
        problem: the shard whose runs are trained.
        checkpoint: where to go on from, and to save progress to; it does not change the result.
        beat: where to say which step it is at; likewise.
    """
    steps, every = problem.steps, problem.training["record_every"]
    state = problem.initial_state()
    budget = int(problem.training["states_megabytes"] * 2**20)
    keep = set(stored_steps(steps, every, state_bytes(state), budget))
    recorded = sorted({*range(0, steps, every), steps})
    places = {step: place for place, step in enumerate(sorted(keep))}
    room = {name: t.new_empty(len(keep), *t.shape) for name, t in state.items()}
    states: dict[int, State] = {}

    def store(step: int, values: State) -> None:
        states[step] = {name: room[name][places[step]].copy_(t) for name, t in values.items()}

    runs, layers = len(problem.seeds), len(problem.model.layers)
    # room for all that is kept at once: tensors kept one by one would pin freed memory around them
    kind = {"dtype": problem.dtype, "device": problem.device}
    records = {
        "losses": torch.zeros(len(recorded), runs, **kind),
        "norms": torch.zeros(len(recorded), runs, layers, **kind),
        "thresholds": torch.zeros(len(recorded), runs, dtype=torch.float64),
    }
    done = 0
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        tensors, done = saved[0], saved[1]["records"]
        for name, room_of in records.items():
            room_of.copy_(tensors.pop(name))
        state, earlier = _unpack(tensors, problem.device)
        for step, values in earlier.items():
            store(step, values)
    beat = beat or Heartbeat(None)
    spans = zip(recorded[done:], [*recorded[1:], None][done:], strict=True)
    for row, (step, following) in enumerate(spans, start=done):
        before, loss = state, None
        if following is None:
            threshold = problem.threshold(before, step)
        else:
            state, loss, threshold = problem.advance(before, step, following)
        if step in keep:
            store(step, before)
        records["losses"][row] = problem.full_loss(before, step) if loss is None else loss
        records["norms"][row] = problem.layer_norms_squared(problem.parameters(before))
        records["thresholds"][row] = torch.as_tensor(threshold, dtype=torch.float64)
        if checkpoint is not None and following is not None:
            checkpoint.offer(
                lambda: (_pack(state, states) | records, {"records": row + 1})  # noqa: B023
            )
        beat.at(step, steps)
    return Trajectory(_table(problem, np.asarray(recorded), records), states)


def _pack(state: State, states: dict[int, State]) -> dict[str, Tensor]:
    tensors = {f"state|{name}": tensor for name, tensor in state.items()}
    for step, kept in states.items():
        tensors |= {f"{step}|{name}": tensor for name, tensor in kept.items()}
    return tensors


def _unpack(tensors: dict[str, Tensor], device: torch.device) -> tuple[State, dict[int, State]]:
    grouped: dict[str, State] = {}
    for name, tensor in tensors.items():
        owner, _, inner = name.rpartition("|")
        grouped.setdefault(owner, {})[inner] = tensor.to(device)
    state = grouped.pop("state")
    return state, {
        int(step): kept for step, kept in sorted(grouped.items(), key=lambda g: int(g[0]))
    }


def _table(problem: Problem, steps: np.ndarray, records: dict[str, Tensor]) -> pa.Table:
    loss = records["losses"].double().cpu().numpy()[:, :, None]
    norm = records["norms"].double().cpu().numpy()
    threshold = records["thresholds"].cpu().numpy()[:, :, None]
    finite = np.isfinite(loss) & np.isfinite(norm).all(axis=2, keepdims=True)
    alive = np.logical_and.accumulate(finite, axis=0)
    runs = loss.shape[1]
    rates = np.stack([np.broadcast_to(problem.learning_rate(int(s)), runs) for s in steps])
    seeds = np.asarray(problem.seeds)
    # arrays (steps, seeds, indices), and their steps
    found = {
        "loss": (steps, np.where(alive, loss, np.nan)),
        "learning_rate": (steps, rates[:, :, None]),
        "stability_threshold": (steps, np.where(alive, threshold, np.nan)),
        "norm_squared": (steps, np.where(alive, norm, np.nan)),
        "output_norm_squared": (steps, np.where(alive, norm, np.nan)[:, :, -1:]),
    }
    if problem.samples is not None:
        found["samples"] = (steps[:1], np.full((1, len(seeds), 1), float(problem.samples)))
    parts = []
    for quantity, (moments, array) in enumerate(found.values()):
        step, run, index = (axis.reshape(-1) for axis in np.indices(array.shape))
        codes = np.full(array.size, quantity)
        parts.append((seeds[run], moments[step], codes, index, array.reshape(-1)))
    for run in np.flatnonzero(~alive[-1, :, 0]):
        lost = steps[np.argmin(alive[:, run, 0])]
        parts.append(([seeds[run]], [lost], [len(found)], [0], [lost]))
    columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    return long_table(*columns, names=[*found, "diverged_step"])
