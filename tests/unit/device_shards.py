"""A small shard of every experiment, network, optimiser and loss, for any device."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from specs import ROOT, TYPES, measurements, spec

from sharpflow.config import load, make_plan
from sharpflow.data.base import generate
from sharpflow.measurements.evaluate import evaluate
from sharpflow.training import Problem, train

STEPS = 4
SMALL_NETWORKS = {
    "block_mlp": {},
    "cnn": {},
    "decoder": {"depth": 1, "heads": 2, "expansion": 2},
    "lstm": {},
    "mlp": {"depth": 2},
    "resnet": {"blocks": [1, 1], "activation": "tanh"},
    "vgg": {"convolutions": [1, 1], "normalisation": "batch"},
    "vit": {"depth": 1, "heads": 2, "expansion": 2, "patch": 4},
}
"""Every network of the library but `module`, and the options that make it small."""
OPTIMISERS = sorted(TYPES.options("optimisers"))


@cache
def planned() -> dict[tuple[str, str], Any]:
    """The first shard of each kind of case that ships: alike are those of one code."""
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        plan = make_plan(load("config/config.yaml"))
    finally:
        os.chdir(here)
    kinds: dict[str, tuple[Any, Any]] = {}
    for shard in plan.shards.values():
        plain = shard.training
        code: dict[str, Any] = {
            key: plain[key]["kind"] for key in ("model", "optimiser", "loss", "schedule")
        }
        code |= {
            "frozen": plain["training"]["frozen"] > 0,
            "gd": plain["training"]["batch"] is None,
        }
        code["online"] = plan.datasets[shard.datasets[0]].spec.get("samples", 0) is None
        kinds.setdefault(f"{code}, {sorted(shard.measuring_code)}", (shard, plan.datasets))
    return {(s.experiment, s.case): (s, datasets) for s, datasets in kinds.values()}


@cache
def _dataset(name: str, experiment: str, case: str) -> dict[str, torch.Tensor]:
    options = dict(planned()[experiment, case][1][name].spec)
    if options["source"] == "photos":
        classes = 2 * (options.get("strips") or 1)
        options["samples"] = min(options["samples"], -(-12 // classes) * classes)
    return generate(options)[0]


def of_experiment(experiment: str, case: str, device: str) -> tuple[Problem, dict[str, Any]]:
    """The shard of two seeds and a few steps, and the measurements, of a case."""
    shard, _ = planned()[experiment, case]
    training = shard.training["training"] | {"steps": STEPS, "record_every": 2}
    if training["batch"] is not None:
        training["batch"] = min(training["batch"], 8)
    plain = shard.training | {
        "training": training,
        "seeds": shard.training["seeds"][:2],
        "width": min(shard.width, 10),
        "device": device,
    }
    names = shard.datasets[: len(plain["seeds"])]
    asked = {
        name: options | {"every": STEPS}
        for name, options in shard.evaluation["measurements"].items()
    }
    return Problem(plain, *(_dataset(n, experiment, case) for n in names)), asked


def tokens() -> dict[str, torch.Tensor]:
    """Six sequences of five tokens, each labelled with the token after it."""
    drawn = torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(0))
    known = {"classes": torch.tensor(4), "vocabulary": torch.tensor(4)}
    return known | {"inputs": drawn, "labels": drawn.roll(-1, 1)}


def images() -> dict[str, torch.Tensor]:
    """Six images of two channels, labelled ±1."""
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 2, 8, 8, dtype=torch.float64, generator=source)
    return {"inputs": inputs, "targets": torch.tensor([[1.0], [-1.0]]).repeat(3, 1).double()}


def of_network(
    kind: str, device: str, optimiser: str = "sgd", **changes: Any
) -> tuple[Problem, dict[str, Any]]:
    """A shard of a network, with the Hessian and the Gauss-Newton matrix measured."""
    sequences = kind in ("decoder", "lstm")
    model = {"kind": kind} | (SMALL_NETWORKS | {kind: {}})[kind] | changes.pop("model", {})
    training = {"steps": STEPS, "record_every": 2} | changes.pop("training", {})
    plain = spec(
        model,
        training,
        optimiser={"kind": optimiser},
        loss="cross_entropy" if sequences else changes.pop("loss", "mse"),
        seeds=[0, 1],
        width=4,
        learning_rate=0.01,
        device=device,
        **changes,
    )
    dataset = tokens() if sequences else images()
    return Problem(plain, dataset), measurements(
        hessian={"every": STEPS, "tol": 0.1}, gauss_newton={"every": STEPS, "tol": 0.1}
    )


def followed(problem: Problem, asked: dict[str, Any]) -> Any:
    """The numbers of training and of evaluation, in one table sorted alike for every device."""
    import pandas as pd

    trajectory = train(problem)
    states = trajectory.states
    assert all(t.device.type == problem.device.type for s in states.values() for t in s.values())
    kept = [step for step in sorted(states) if step in (0, STEPS)]
    measured = evaluate(problem, kept, lambda step: states[step], asked)
    keys = ["seed", "step", "quantity", "index"]
    return pd.concat([trajectory.table, measured.table]).set_index(keys).sort_index()["value"]
