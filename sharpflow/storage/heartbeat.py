"""How far a job is: a line in a small file beside its log, which the run's own line reads.

It is no output: nothing waits for it, no result depends on it, and it is gone when its job ends.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

INTERVAL = 1.0
"""Seconds between writes, at least."""
_WIDTH = 63


class Beat(NamedTuple):
    """Where a job is: a step, how many there are, and steps a second since the job began."""

    step: int
    of: int
    rate: float


def beat_path(log: str | Path) -> Path:
    """Where the job of a log says how far it is."""
    return Path(log).with_suffix(".progress")


def read_beat(path: str | Path) -> Beat | None:
    """What a job wrote last; None if there is nothing, or it is just being written."""
    try:
        step, of, rate = Path(path).read_text(encoding="utf-8").split()
        return Beat(int(step), int(of), float(rate))
    except (OSError, ValueError):
        return None


class Heartbeat:
    """Writes where a job is, at most once in an interval; a disk that refuses stops no job.

    Args:
        path: where to; None writes nothing.
        interval: seconds between writes.
        clock: gives seconds.
    """

    def __init__(
        self,
        path: str | Path | None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._path = path
        self._interval = interval
        self._clock = clock
        self._due = clock() + interval if path is not None else float("inf")
        self._first: tuple[float, int] | None = None

    def at(self, step: int, of: int) -> None:
        """The job is at a step of so many."""
        if self._path is None:
            return
        now = self._clock()
        if self._first is None:
            self._first = now, step
        if now < self._due:
            return
        self._due = now + self._interval
        begun, first = self._first
        rate = (step - first) / (now - begun) if now > begun else 0.0
        line = f"{step} {of} {rate:.6g}"
        with suppress(OSError):
            self._write(self._path, f"{line:<{_WIDTH}}\n".encode())

    @staticmethod
    def _write(path: str | Path, line: bytes) -> None:
        # in place and never cut short: some file systems flush a file that was cut to the disk
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


@contextmanager
def heartbeat(path: str | Path | None, interval: float = INTERVAL) -> Iterator[Heartbeat]:
    """A heartbeat whose file is gone when the block ends."""
    try:
        yield Heartbeat(path, interval)
    finally:
        if path is not None:
            with suppress(OSError):
                os.unlink(path)
