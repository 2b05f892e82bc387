"""Run tables made of synthetic curves, and their verdicts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from specs import TYPES

from sharpflow.claims import base
from sharpflow.claims.columns import worst

RATE = 0.005
THRESHOLD = 2 / RATE
STEPS = np.arange(600)
Curves = dict[str | tuple[str, int], np.ndarray]
Cases = Mapping[str, Mapping[str, Any]]


def rows(curves: Curves, case="tanh", width=200, rate=RATE, seed=0, steps=STEPS) -> pd.DataFrame:
    """One run's rows, with 2/η for the stability threshold unless the curves have another."""
    parts = []
    for key, values in ({"stability_threshold": np.full(len(steps), 2 / rate)} | curves).items():
        quantity, index = (key, 0) if isinstance(key, str) else key
        values = np.asarray(values, dtype=float)
        times = steps if values.size == steps.size else steps[: values.size]
        parts.append(
            pd.DataFrame({"step": times, "quantity": quantity, "index": index, "value": values})
        )
    return pd.concat(parts).assign(case=case, width=width, learning_rate=rate, seed=seed)


def table(make: Callable[[int], Curves], seeds: int = 5, **keys) -> pd.DataFrame:
    return pd.concat([rows(make(seed), seed=seed, **keys) for seed in range(seeds)])


def training(**settings: Any) -> dict[str, Any]:
    """Settings of a case of gradient descent; keywords change them."""
    return {"training": {"batch": None, "frozen": 0} | settings}


def claim(name: str) -> base.Claim:
    """A claim of the library or of any paper."""
    found = TYPES.registry.claim(name, "")
    return base.load_claim(found.part.module, found.name)


def judge(
    name: str, run_table: pd.DataFrame, confidence: float = 0.95, cases: Cases | None = None
) -> pd.DataFrame:
    settings = {case: training() for case in run_table["case"].unique()} | (cases or {})
    return base.judge(
        claim(name), "li2022", "output_norm", "synthetic", run_table, settings, confidence
    )


def decisive(judged: pd.DataFrame) -> pd.Series:
    """The first of the rows with the worst verdict; controls have none."""
    rows = judged[~judged["control"].astype(bool)]
    return rows[rows["verdict"] == worst(rows["verdict"])].iloc[0]


def outcome(name: str, run_table: pd.DataFrame, cases: Cases | None = None) -> str:
    """The verdict on a claim, over all of its rows."""
    return decisive(judge(name, run_table, cases=cases))["verdict"]


def undefined(name: str, run_table: pd.DataFrame, cases: Cases | None = None) -> str:
    """Why a claim is undefined, without how many seeds are."""
    row = decisive(judge(name, run_table, cases=cases))
    assert row["verdict"] == "undefined", row["verdict"]
    return why(row["reason"])


def why(reason: str) -> str:
    """What stands in brackets of a reason, "5 of 5 undefined (too short)" say."""
    return reason.partition("(")[2].removesuffix(")")


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
