"""A page made of synthetic runs: two experiments, one of which has everything that varies."""

from typing import Any

import numpy as np
import pandas as pd
from report_page import MEAN, RELU, claim, claims, entry
from synthetic_runs import rows

from sharpflow.report import build, collect

STEPS = np.arange(300)
RATE = 0.02
SETTINGS: dict[str, Any] = {
    "dense": {
        "title": "Dense networks at the edge",
        "cases": {
            "tanh": {"threshold_symbol": "2/η"},
            "relu": {"threshold_symbol": "2/η"},
        },
    },
    "adaptive": {
        "title": "Preconditioned steps",
        "cases": {"adam": {"threshold_symbol": "38/η", "preconditioned": True}},
    },
    "brief": {"title": "A few steps", "cases": {"relu": {"threshold_symbol": "2/η"}}},
}
PAPERS = {
    "li2022": {"key": "li2022", "title": "Sharpness along the trajectory", "says": ["So."]},
    "ziyin2024": {"key": "ziyin2024", "title": "Noise"},
}


def curves(seed: int, scale: float) -> dict[str | tuple[str, int], np.ndarray]:
    """A climb to the threshold, an alternation around it, and what else is recorded."""
    noise = np.random.default_rng([seed, int(10 * scale)]).uniform(0.5, 1, STEPS.size)
    late = np.clip((STEPS - 120) / 100, 0, 1)
    sharpness = 100 * np.minimum(1, (STEPS + 20 + 3 * seed) / 140)
    sharpness += 12 * scale * late * noise * (-1.0) ** STEPS
    return {
        "gauss_newton_sharpness": sharpness,
        "loss": np.exp(-STEPS / 40 / scale) + 0.01 * noise,
        ("norm_squared", 0): 10 + scale * noise,
        ("norm_squared", 1): 20 + STEPS / 100,
        "residual": np.sin(STEPS / 20 + seed) * scale,
    }


def runs(experiment: str) -> pd.DataFrame:
    """The run table of an experiment: one more learning rate and width in the first."""
    parts = []
    cases = [("tanh", 1.0), ("relu", 1.5)] if experiment == "dense" else [("adam", 2.0)]
    settings = (
        [(100, RATE), (200, RATE), (100, RATE / 2)] if experiment == "dense" else [(50, RATE)]
    )
    for case, scale in cases:
        for width, rate in settings:
            for seed in (100, 101, 102):
                own = curves(seed - 100, scale * width / 100)
                part = rows(own, case=case, width=width, rate=rate, seed=seed, steps=STEPS)
                stride = 25 if experiment == "dense" else 10
                sharpness = part["quantity"] == "gauss_newton_sharpness"
                seldom = part[sharpness & (part["step"] % stride == 0)]
                names = ("hessian_sharpness", "hessian_trace")
                parts += [part, *(seldom.assign(quantity=name) for name in names)]
    frame = pd.concat(parts, ignore_index=True)
    lost = (frame["case"] == "relu") & (frame["seed"] == 102) & (frame["step"] >= 250)
    frame.loc[lost & (frame["quantity"] == "loss"), "value"] = np.inf
    return frame


TABLES = {name: runs(name) for name in ("dense", "adaptive")}
TABLES["brief"] = pd.concat(
    rows({"loss": np.ones(41)}, case="relu", width=10, rate=RATE, seed=seed, steps=np.arange(41))
    for seed in (100, 101, 102)
)


def make_page(budget: int) -> str:
    """The page, with curves in at most so many bytes."""
    figures = [entry("phases", "li2022"), entry("output_norm", "li2022")]
    verdicts = claims(
        claim(),
        claim(case="relu", **RELU),
        claim(claim="norm", paper="ziyin2024", statement="Norms balance", **MEAN),
    )
    collected = collect(TABLES.items(), SETTINGS)
    provenance = {"python": "3"}
    return build(
        figures, verdicts, SETTINGS, PAPERS, provenance, explorer=collected.section(budget)
    )
