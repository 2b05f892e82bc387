"""Integration: a process beside every run of a shard, step by step beside training itself."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.curvature import NonFiniteError
from sharpflow.curvature.linear_operator import all_finite
from sharpflow.errors import FlowError, PartError
from sharpflow.flows.process import Process, Window, distance, without_own
from sharpflow.optimisers.base import State
from sharpflow.parts.loading import guarded, load_part
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.storage.heartbeat import Heartbeat
from sharpflow.storage.tables import long_table
from sharpflow.training import Problem, Trajectory

Records = dict[str, list[Tensor]]


def integrate(
    problem: Problem,
    options: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    beat: Heartbeat | None = None,
) -> Trajectory:
    """Integrate a process beside each run of a shard.

    Training itself is stepped beside it, for the distance between the two: that of the process's
    parameters to (w₋ + 2w + w₊)/4 of three iterates of training. A process that leaves the finite
    numbers stays NaN from there on; those of the other runs do not notice.

    Args:
        problem: the shard.
        options: of the part, with its `kind`.
        checkpoint: where to go on from, and to save progress to; it does not change the result.
        beat: where to say which step it is at; likewise.

    Returns:
        Its columns are loss, stability_threshold, distance and what the process predicts, at every
        recorded step, and diverged_step; its states are those at multiples of `every`, and the
        last, in the form of training's.

    Raises:
        PartError: the process predicts other quantities, or other numbers of them, than at its
            start.
    """
    steps, every = problem.steps, problem.training["record_every"]
    recorded = sorted({*range(0, steps, every), steps})
    keep = {*range(0, steps, options["every"]), steps}
    part, guard = load_part("flows", options), partial(guarded, "flows", options)
    with guard():
        processes = [part.build(options, problem, run) for run in range(len(problem.seeds))]
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is None:
        here = _first_window(problem)
        with guard():
            begun = [p.begin(here.of_run(run)) for run, p in enumerate(processes)]
        done, runs, states, records = 0, begun, dict[int, State](), Records()
    else:
        tensors = {name: tensor.to(problem.device) for name, tensor in saved[0].items()}
        done = saved[1]["step"]
        here, runs, states, records = _unpack(tensors, done)
    beat = beat or Heartbeat(None)
    for step in range(done, steps + 1):
        there = here.following(problem.advance(here.after, step + 1, step + 2).state)
        with guard():
            after, predicted = _advance(processes, runs, here, there)
        if step in keep or step in recorded:
            ensemble = _ensemble(runs)
            if step in keep:
                states[step] = ensemble
            if step in recorded:
                _record(records, _values(problem, ensemble, here) | predicted)
        runs, here = after, there
        if checkpoint is not None and step < steps:
            checkpoint.offer(
                lambda: (_pack(here, runs, states, records), {"step": step + 1})  # noqa: B023
            )
        beat.at(step, steps)
    return Trajectory(_table(problem.seeds, np.asarray(recorded), records), states)


def _first_window(problem: Problem) -> Window:
    first = problem.initial_state()
    return Window(0, first, first, problem.advance(first, 0, 1).state)


def _ensemble(runs: Sequence[State]) -> State:
    """The state of all runs in the form of training's."""
    seen = [without_own(run) for run in runs]
    return {name: torch.stack([run[name] for run in seen]) for name in seen[0]}


def _advance(
    processes: Sequence[Process], runs: Sequence[State], here: Window, there: Window
) -> tuple[list[State], dict[str, Tensor]]:
    """The states of the runs one step later, and what is predicted at these, each (R, k)."""
    after: list[State] = []
    found: list[dict[str, Tensor] | None] = []
    for run, (process, state) in enumerate(zip(processes, runs, strict=True)):
        try:
            if not _finite(state):
                raise NonFiniteError("it is lost already")
            moved, predicted = process.advance(state, here.of_run(run), there.of_run(run))
        except (NonFiniteError, FlowError) as error:
            if _finite(state):
                print(f"seed {process.problem.seeds[run]}, step {here.step}: {error}")
            after.append({name: _lost(tensor) for name, tensor in state.items()})
            found.append(None)
            continue
        after.append(dict(moved))
        found.append({n: torch.as_tensor(v).reshape(-1).double() for n, v in predicted.items()})
    return after, _predictions(found)


def _finite(state: State) -> bool:
    return all(all_finite(t) for t in state.values() if t.is_floating_point())


def _lost(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, math.nan) if tensor.is_floating_point() else tensor


def _predictions(found: Sequence[dict[str, Tensor] | None]) -> dict[str, Tensor]:
    sizes = next(({n: t.shape for n, t in one.items()} for one in found if one is not None), {})
    rows = [
        {n: torch.full(s, math.nan) for n, s in sizes.items()} if f is None else f for f in found
    ]
    return {name: torch.stack([row[name].cpu() for row in rows]) for name in sizes}


def _values(problem: Problem, own: State, here: Window) -> dict[str, Tensor]:
    step, runs, middle = here.step, len(problem.seeds), here.midpoint
    gaps = [
        distance({n: t[r] for n, t in own.items()}, {n: t[r] for n, t in middle.items()})
        for r in range(runs)
    ]
    threshold = torch.as_tensor(problem.threshold(own, step), dtype=torch.float64)
    return {
        "loss": problem.full_loss(own, step).double().cpu()[:, None],
        "stability_threshold": threshold.cpu().expand(runs)[:, None],
        "distance": torch.tensor(gaps, dtype=torch.float64)[:, None],
    }


def _record(records: Records, values: Mapping[str, Tensor]) -> None:
    known = {name: rows[0].shape for name, rows in records.items()}
    lost = set(known) - set(values)  # every run has left the finite numbers
    values = dict(values) | {n: torch.full(known[n], math.nan) for n in lost}
    if known and known != {name: t.shape for name, t in values.items()}:
        raise PartError(
            f"A process beside training gave {', '.join(values)}, and had given "
            f"{', '.join(known)} at its start: it must give the same quantities, of the same "
            "sizes, at every step."
        )
    for name, tensor in values.items():
        records.setdefault(name, []).append(tensor)


def _pack(
    here: Window, runs: Sequence[State], states: Mapping[int, State], records: Records
) -> dict[str, Tensor]:
    parts = {"before": here.before, "now": here.now, "after": here.after}
    parts |= {f"run|{run}": state for run, state in enumerate(runs)}
    parts |= {f"kept|{step}": kept for step, kept in states.items()}
    parts |= {"records": {name: torch.stack(rows) for name, rows in records.items()}}
    return {
        f"{part}|{name}": t.contiguous()
        for part, tensors in parts.items()
        for name, t in tensors.items()
    }


def _unpack(
    tensors: Mapping[str, Tensor], step: int
) -> tuple[Window, list[State], dict[int, State], Records]:
    parts: dict[str, State] = {}
    for name, tensor in tensors.items():
        part, _, inner = name.rpartition("|")
        parts.setdefault(part, {})[inner] = tensor
    here = Window(step, parts["before"], parts["now"], parts["after"])

    def numbered(kind: str) -> dict[int, State]:
        numbers = sorted(int(name.partition("|")[2]) for name in parts if name.startswith(kind))
        return {number: parts[f"{kind}{number}"] for number in numbers}

    records = {name: [*rows.cpu()] for name, rows in parts.get("records", {}).items()}
    return here, [*numbered("run|").values()], numbered("kept|"), records


def _table(seeds: Sequence[int], steps: np.ndarray, records: Records) -> Any:
    """The long table of what was recorded; `diverged_step` of runs that left the finite numbers."""
    found = {name: torch.stack(rows).numpy() for name, rows in sorted(records.items())}
    parts = []
    for quantity, array in enumerate(found.values()):
        step, run, index = (axis.reshape(-1) for axis in np.indices(array.shape))
        codes = np.full(array.size, quantity)
        parts.append((np.asarray(seeds)[run], steps[step], codes, index, array.reshape(-1)))
    finite = np.isfinite(found["loss"][:, :, 0])
    for run in np.flatnonzero(~finite.all(axis=0)).tolist():
        lost = steps[np.argmin(finite[:, run])]
        parts.append(([seeds[run]], [lost], [len(found)], [0], [lost]))
    columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    return long_table(*columns, names=[*found, "diverged_step"])
