"""Run tables made of synthetic curves, and their verdicts."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from sharpflow import claims

RATE = 0.005
THRESHOLD = 2 / RATE
STEPS = np.arange(600)
Curves = dict[str | tuple[str, int], np.ndarray]


def rows(curves: Curves, case="tanh", width=200, rate=RATE, seed=0, steps=STEPS) -> pd.DataFrame:
    parts = []
    for key, values in curves.items():
        quantity, index = (key, 0) if isinstance(key, str) else key
        values = np.asarray(values, dtype=float)
        times = steps if values.size == steps.size else steps[: values.size]
        parts.append(
            pd.DataFrame({"step": times, "quantity": quantity, "index": index, "value": values})
        )
    return pd.concat(parts).assign(case=case, width=width, learning_rate=rate, seed=seed)


def table(make: Callable[[int], Curves], seeds: int = 5, **keys) -> pd.DataFrame:
    return pd.concat([rows(make(seed), seed=seed, **keys) for seed in range(seeds)])


def judge(name: str, run_table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    return claims.judge(name, claims.load(name), "output_norm", run_table, confidence)


def outcome(name: str, run_table: pd.DataFrame) -> str:
    return judge(name, run_table).iloc[-1]["verdict"]


def edge(seed: int, level: float = 1.0, steps: np.ndarray = STEPS) -> np.ndarray:
    """A climb, a spike, and an alternation with period two around `level` of the threshold."""
    t = steps.astype(float)
    climb = 120 + 3 * t
    crossing = (THRESHOLD - 120) / 3
    late = t - crossing
    spike = 90 * np.exp(-(((late - 25) / 12) ** 2)) - 30 * np.exp(-(((late - 70) / 15) ** 2))
    settled = level * THRESHOLD + spike + 24 * (-1.0) ** steps * (late > 40)
    rng = np.random.default_rng([7, seed])
    return np.where(late < 0, climb, settled) + rng.normal(0, 0.3, steps.size) * (late > 0)


def sharp(values: np.ndarray) -> Curves:
    return {"gauss_newton_sharpness": values}
