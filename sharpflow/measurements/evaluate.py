"""Evaluation: the measurements along the runs of a shard, by checkpoint and replay."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sharpflow import devices
from sharpflow.curvature import NonFiniteError
from sharpflow.errors import IntegrityError, PartError
from sharpflow.measurements.base import Measurement, Snapshot, Values
from sharpflow.optimisers.base import State
from sharpflow.parts.loading import load
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.storage.heartbeat import Heartbeat
from sharpflow.storage.tables import long_table
from sharpflow.training import Problem

if TYPE_CHECKING:
    import pandas as pd

REPLAY_TOLERANCE = 1e-6
RESTART_STRIDE = 10
"""Stored states closer than this many steps to the last restart are passed through warm."""


@dataclass(frozen=True)
class Evaluation:
    """What evaluation leaves.

    Attributes:
        columns: long table (seed, step, quantity, index, value).
        replay_deviation: largest relative difference between a replayed state and the stored one.
    """

    columns: pa.Table
    replay_deviation: float

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The columns as a data frame."""
        return self.columns.to_pandas()


def due_steps(steps: int, every: int) -> set[int]:
    """The steps at which a measurement with stride `every` is made: its multiples, and the last."""
    return {*range(0, steps, every), steps}


def _deviation(replayed: State, stored: State) -> float:
    worst = 0.0
    for name, tensor in stored.items():
        again = replayed[name]
        if not tensor.is_floating_point():
            if not torch.equal(again, tensor):
                return float("inf")
            continue
        if not torch.equal(torch.isfinite(tensor), torch.isfinite(again)):
            return float("inf")
        alive = torch.isfinite(tensor).reshape(len(tensor), -1).all(1)
        if not bool(alive.any()):
            continue
        gap = (again[alive] - tensor[alive]).abs().max()
        worst = max(worst, float(gap / tensor[alive].abs().max().clamp(min=1e-30)))
    return worst


def _check_landing(
    replayed: State, stored: State, first: int, last: int, devices: tuple[str, str]
) -> float:
    deviation = _deviation(replayed, stored)
    if deviation > REPLAY_TOLERANCE:
        trained, here = devices
        reason = (
            f"they were trained on {trained}, and this is {here}: name one kind of device for both "
            "(device: cpu or cuda, in place of auto), delete the states and train again"
            if trained not in ("", here)
            else "the states are of another machine, device, thread count or code; delete them and "
            "train again"
        )
        raise IntegrityError(
            f"Replaying training from step {first} missed the stored state of step {last} by "
            f"{deviation:.1e} (relative; at most {REPLAY_TOLERANCE:.0e} is allowed): {reason}."
        )
    return deviation


def evaluate(
    problem: Problem,
    stored: Sequence[int],
    read_state: Callable[[int], State],
    measurements: Mapping[str, Mapping[str, Any]],
    checkpoint: Checkpoint | None = None,
    trained_on: str = "",
    beat: Heartbeat | None = None,
) -> Evaluation:
    """Apply measurements along the runs of a shard.

    Where something is measured between two stored states, training is replayed from the first and
    must land on the second. Every measurement starts anew at stored states `RESTART_STRIDE` steps
    or more apart, so that what follows does not depend on what came before.

    Args:
        problem: the shard whose runs are measured.
        stored: the steps whose state is stored, ascending, from 0 to the last.
        read_state: gives the ensemble's state at a stored step.
        measurements: options by name; `every` is the stride.
        checkpoint: where to go on from, and to save progress to; it does not change the result.
        trained_on: description of the device of training, which the error below names if it is
            another one than the problem's.
        beat: where to say which step it is at; it does not change the result.

    Raises:
        IntegrityError: a replay missed its state by more than `REPLAY_TOLERANCE`.
    """
    shared: dict[str, Any] = {}
    due = {
        name: due_steps(problem.steps, options["every"]) for name, options in measurements.items()
    }
    wanted = set().union(*due.values()) if due else set()
    makers = {
        name: [
            load("measurements", name, options.get("paper", "")).build(options)
            for _ in problem.seeds
        ]
        for name, options in measurements.items()
    }
    rows = _Rows()
    kinds = trained_on, devices.describe(problem.device)
    worst = 0.0
    restarted: int | None = None
    begin = stored[0]
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        begin, worst = saved[1]["step"], saved[1]["worst"]
        _recall(makers, rows, *saved)
    beat = beat or Heartbeat(None)
    for first, last in pairwise(stored):
        if first < begin or not wanted & {*range(first, last + (last == problem.steps))}:
            continue
        state = read_state(first)
        if restarted is None or first - restarted >= RESTART_STRIDE:
            restarted = first
            if checkpoint is not None and first > begin:
                checkpoint.offer(partial(_remember, makers, rows, first, worst))
            for measurement in chain(*makers.values()):
                measurement.restart()
        beat.at(first, problem.steps)
        _measure(problem, state, first, due, makers, shared, rows)
        between = sorted(wanted & {*range(first + 1, last)})
        if between:
            for step, following in pairwise([first, *between, last]):
                state = problem.advance(state, step, following).state
                beat.at(following, problem.steps)
                if following < last:
                    _measure(problem, state, following, due, makers, shared, rows)
            worst = max(worst, _check_landing(state, read_state(last), first, last, kinds))
        if last == problem.steps:
            _measure(problem, read_state(last), last, due, makers, shared, rows)
    return Evaluation(rows.columns(), worst)


def _measure(
    problem: Problem,
    state: State,
    step: int,
    due: Mapping[str, set[int]],
    makers: Mapping[str, list[Measurement]],
    shared: dict[str, Any],
    rows: "_Rows",
) -> None:
    names = [name for name in makers if step in due[name]]
    if not names:
        return
    for run, seed in enumerate(problem.seeds):
        snapshot = Snapshot(problem, run, state, shared, step)
        # a run that left the finite numbers has no curvature; its shard-mates go on
        with suppress(NonFiniteError):
            for name in names:
                rows.add(name, seed, step, makers[name][run].measure(snapshot))


def _remember(
    makers: Mapping[str, list[Measurement]], rows: "_Rows", step: int, worst: float
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {
        f"{name}|{run}|{key}": tensor
        for name, maker in makers.items()
        for run, measurement in enumerate(maker)
        for key, tensor in measurement.memory().items()
    }
    table, names = rows.pack()
    return tensors | table, {"step": step, "worst": worst, "quantities": names}


def _recall(
    makers: Mapping[str, list[Measurement]],
    rows: "_Rows",
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
) -> None:
    rows.unpack(tensors, metadata["quantities"])
    memories: dict[tuple[str, int], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if "|" in name:
            owner, run, key = name.split("|")
            memories.setdefault((owner, int(run)), {})[key] = tensor
    for (owner, run), memory in memories.items():
        makers[owner][run].recall(memory)


class _Rows:
    def __init__(self):
        self.codes: dict[str, int] = {}  # of the quantities
        self.seed: list[int] = []
        self.step: list[int] = []
        self.quantity: list[int] = []
        self.index: list[int] = []
        self.value: list[float] = []

    def add(self, name: str, seed: int, step: int, values: Values) -> None:
        for quantity, given in values.items():
            value = given.detach().cpu() if isinstance(given, Tensor) else given
            try:
                array = np.atleast_1d(np.asarray(value, dtype=np.float64))
            except (TypeError, ValueError):
                array = np.empty((0, 0))
            if array.ndim != 1:
                raise PartError(
                    f"measurements.{name} gave {quantity} = {value!r} at step {step}; it must give "
                    "numbers, or one-dimensional arrays of them."
                )
            code = self.codes.setdefault(quantity, len(self.codes))
            self.seed += [seed] * len(array)
            self.step += [step] * len(array)
            self.quantity += [code] * len(array)
            self.index += range(len(array))
            self.value += cast("list[float]", array.tolist())

    def pack(self) -> tuple[dict[str, Tensor], list[str]]:
        whole = (self.seed, self.step, self.quantity, self.index)
        names = ("seed", "step", "quantity", "index")
        tensors = {name: torch.tensor(column) for name, column in zip(names, whole, strict=True)}
        return tensors | {"value": torch.tensor(self.value, dtype=torch.float64)}, list(self.codes)

    def unpack(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> None:
        self.codes = {name: code for code, name in enumerate(names)}
        for column in ("seed", "step", "quantity", "index", "value"):
            setattr(self, column, tensors[column].tolist())

    def columns(self) -> pa.Table:
        return long_table(
            self.seed, self.step, self.quantity, self.index, self.value, list(self.codes)
        )
