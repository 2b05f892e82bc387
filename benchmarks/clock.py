"""Timing shared by the benchmarks."""

import time
from collections.abc import Callable, Iterable
from statistics import mean, median
from typing import TypeVar

import torch

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """What ``work`` gives, its wall seconds and its CPU seconds (all threads)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def best(work: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Median wall and CPU seconds of ``repeats`` calls after one that is not counted."""
    work()
    pairs = [timed(work)[1:] for _ in range(repeats)]
    return median(p[0] for p in pairs), median(p[1] for p in pairs)


def matmul_rate(size: int = 1500, repeats: int = 7, dtype: torch.dtype = torch.float32) -> float:
    """Matrix products of this machine now, in GFLOP a wall second."""
    a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype)
    seconds, _ = best(lambda: torch.mm(a, b, out=out), repeats)
    return 2 * size**3 / seconds / 1e9


def summary(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Means over steps of every number, and the largest residual."""
    rows = list(rows)
    result = {key: mean(row[key] for row in rows) for key in rows[0] if key != "step"}
    return result | {"residual": max(row["residual"] for row in rows), "steps": len(rows)}
