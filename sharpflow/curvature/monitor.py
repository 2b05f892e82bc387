"""Sharpness measured every so many steps of a training, within a share of its time."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from sharpflow.arguments import check_count
from sharpflow.curvature.graphs import in_modes
from sharpflow.curvature.linear_operator import NonFiniteError
from sharpflow.curvature.measure import SharpnessTracker

Log = Callable[[int, Mapping[str, float]], None]
"""Called with a step and numbers by name."""


@dataclass(frozen=True)
class SharpnessRecord:
    """One measurement of a training.

    Attributes:
        step: number of optimiser steps before it.
        values: the k largest eigenvalues, descending; NaN where the network is not finite.
        residuals: ‖Hv − λv‖ of each.
        threshold: largest stable eigenvalue of the optimiser, at the learning rate of the present;
            None for a tracker without an optimiser.
        converged: whether every residual is within the tracker's tolerance.
        matvecs: Hessian-vector products that were spent.
        seconds: wall time of the measurement.
    """

    step: int
    values: tuple[float, ...]
    residuals: tuple[float, ...]
    threshold: float | None
    converged: bool
    matvecs: int
    seconds: float

    def scalars(self, name: str = "sharpness") -> dict[str, float]:
        """The numbers to log, by name: always the same names for one tracker."""
        numbers = {name: self.values[0]}
        numbers |= {f"{name}/{i}": value for i, value in enumerate(self.values[1:], 2)}
        if self.threshold is not None:
            numbers[f"{name}/threshold"] = self.threshold
        return numbers | {
            f"{name}/residual": self.residuals[0],
            f"{name}/converged": float(self.converged),
            f"{name}/matvecs": float(self.matvecs),
            f"{name}/seconds": self.seconds,
        }


class SharpnessMonitor:
    """Measures the sharpness along a training; `step()` is called after each optimiser step.

    A measurement falls due every `every` steps. It is put off, step by step, while with its
    expected cost (that of the last one) measuring would have taken more than the share `budget` of
    the wall time since the monitor was made. The first one's cost is not known: it is made as soon
    as it is due, and those after it wait until the share is kept.

    Call `step()` after the scheduler's step: the threshold is that of the learning rate which the
    next step takes. A network that is no longer finite has no sharpness; the record then holds NaN,
    with a RuntimeWarning, and the training goes on.

    Args:
        tracker: of the model; with `optimiser=` its threshold is recorded too.
        every: optimiser steps from one measurement to the next.
        budget: largest share of the wall time, in (0, 1].
        log: called with the step and the numbers of each measurement (`csv_log`, say, or any
            function), or several such.
        eval_mode: whether dropout and batch norm are as in `model.eval()` while measuring; with
            False modules stay as they are. Their modes are put back afterwards.
        name: that the logged numbers begin with.
        clock: seconds that pass.

    Raises:
        ValueError: `every` is no whole number of at least 1, or `budget` outside (0, 1].

    Attributes:
        tracker: as given.
        records: of all measurements, in order.
        steps: optimiser steps so far.
    """

    def __init__(
        self,
        tracker: SharpnessTracker,
        every: int = 50,
        budget: float = 0.1,
        log: Log | Sequence[Log] = (),
        *,
        eval_mode: bool = True,
        name: str = "sharpness",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_count("every", every)
        if not 0 < budget <= 1:
            raise ValueError(f"budget is {budget}; it is a share of the time, in (0, 1].")
        self.tracker, self.records = tracker, list[SharpnessRecord]()
        self.steps = 0
        self._every, self._budget, self._due = every, budget, every
        self._logs = [log] if callable(log) else list(log)
        self._eval_mode, self._name = eval_mode, name
        self._clock, self._start = clock, clock()
        self._spent = self._expected = 0.0

    def step(self, step: int | None = None) -> SharpnessRecord | None:
        """Count an optimiser step, and measure if that is due and within the budget.

        Args:
            step: number of optimiser steps so far, where another counts them.

        Returns:
            The record of the measurement, if one was made.
        """
        self.steps = self.steps + 1 if step is None else step
        if self.steps < self._due or not self._affordable():
            return None
        return self.measure()

    def measure(self) -> SharpnessRecord:
        """Measure now, due or not, and log it."""
        begin = self._clock()
        with evaluation_mode(self.tracker.model, self._eval_mode):
            try:
                found = self.tracker.measure(vectors=False)
                values, residuals = found.values.tolist(), found.residuals.tolist()
                converged, matvecs = found.converged, found.matvecs
            except NonFiniteError as error:
                warnings.warn(f"step {self.steps} has no sharpness: {error}", RuntimeWarning, 2)
                values = residuals = [math.nan] * self.tracker.k
                converged, matvecs = False, 0
        self._expected = self._clock() - begin
        self._spent += self._expected
        self._due = self.steps - self.steps % self._every + self._every
        threshold = self.tracker.threshold if self.tracker.optimiser is not None else None
        record = SharpnessRecord(
            self.steps,
            tuple(values),
            tuple(residuals),
            threshold,
            converged,
            matvecs,
            self._expected,
        )
        self.records.append(record)
        for log in self._logs:
            log(self.steps, record.scalars(self._name))
        return record

    def _affordable(self) -> bool:
        """Whether one more measurement keeps the budget; of several processes, in all of them."""
        passed = self._clock() - self._start
        fits = self._spent + self._expected <= self._budget * (passed + self._expected)
        fits = fits or not self.records
        if not self.tracker.distributed:
            return fits
        device = next(self.tracker.model.parameters()).device
        vote = torch.tensor([float(fits)], device=device)
        dist.all_reduce(vote, dist.ReduceOp.MIN)
        return bool(vote.item())

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with after a checkpoint; `torch.load(weights_only=True)` reads it."""
        return {
            "tracker": self.tracker.state_dict(),
            "steps": self.steps,
            "due": self._due,
            "elapsed": self._clock() - self._start,
            "spent": self._spent,
            "expected": self._expected,
            "records": [dataclasses.asdict(record) for record in self.records],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the monitor that a state is of; `every`, `budget` and logs stay one's own.

        Args:
            state: from `state_dict`.

        Raises:
            ValueError: it is no state of a monitor, or of a tracker of another model; see its
                `load_state_dict`.
        """
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise ValueError(
                "this is no state of a SharpnessMonitor; give what its state_dict() gave."
            )
        try:
            records = [SharpnessRecord(**each) for each in state["records"]]
        except TypeError as error:
            raise ValueError(f"the records of this state are none of a monitor: {error}.") from None
        check_count("steps", state["steps"], 0)
        self.tracker.load_state_dict(state["tracker"])
        self.steps, self._due = state["steps"], state["due"]
        self._start = self._clock() - state["elapsed"]
        self._spent, self._expected = state["spent"], state["expected"]
        self.records = records


@contextmanager
def evaluation_mode(model: nn.Module, active: bool = True) -> Iterator[None]:
    """Within, all modules are in evaluation mode; afterwards each is in the mode that it was in.

    The flags alone are set: what a module's own `train` or `eval` does besides is not called.

    Args:
        model: any module.
        active: with False nothing is changed.
    """
    with in_modes([(module, False) for module in model.modules()] if active else []):
        yield
