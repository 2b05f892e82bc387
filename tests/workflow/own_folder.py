"""A folder that a user keeps outside the project: one new part of every kind, and an experiment."""

from pathlib import Path

import yaml

PAPER = {
    "key": "mine",
    "title": "A paper of my own",
    "authors": "Me",
    "says": ["Rings are told apart."],
    "figures": ["loss"],
}
EXPERIMENT = {
    "title": "Rings under steps of one length",
    "seeds": 2,
    "seeds_per_job": 2,
    "data": {"source": "rings", "samples": 24},
    "model": {"kind": "bumps", "centres": 5},
    "optimiser": {"kind": "fixed_length", "length": 0.5},
    "widths": [4],
    "learning_rates": [0.05],
    "training": {"steps": 20},
    "measurements": {"spread": {"every": 2}},
    "cases": {"narrow": {}, "wide": {"data": {"radius": 3.0}}},
    "figures": ["loss"],
    "claims": ["spread_grows"],
}
DATA = '''"""Two rings in the plane."""

import math
from typing import Annotated

import torch
from pydantic import Field

from sharpflow.data.base import compress
from sharpflow.parts.options import DataOptions, Form


class Options(DataOptions):
    """Two noisy rings, labelled ±1."""

    samples: Annotated[int, Field(ge=4, le=1000, multiple_of=2)] = 20
    """Number of points, half on each ring."""
    radius: Annotated[float, Field(gt=1)] = 2.0
    """Radius of the outer ring; that of the inner one is 1."""

    def form(self) -> Form:
        return Form("vectors", (2,), 1, "signs", self.samples)

    def capabilities(self):
        return frozenset({"finite samples"})


def generate(spec):
    """Inputs (n, 2) and targets (n, 1)."""
    half = spec["samples"] // 2
    angle = torch.arange(2 * half) * 2 * math.pi / half
    radius = torch.tensor([1.0] * half + [spec["radius"]] * half)
    inputs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    targets = torch.tensor([1.0] * half + [-1.0] * half)[:, None]
    coordinates, basis = compress(inputs)
    tensors = {"inputs": inputs, "targets": targets, "coordinates": coordinates, "basis": basis}
    return tensors, {"source": "rings"}
'''
MODEL = '''"""Gaussian bumps around trained centres."""

from typing import Annotated

import torch
from pydantic import Field

from sharpflow.models.base import Model
from sharpflow.parts.options import ModelOptions, Words

from .shared import bump


class Options(ModelOptions):
    """A sum of Gaussian bumps."""

    centres: Annotated[int, Field(ge=1, le=100)] = 4
    """Number of bumps."""

    def capabilities(self) -> Words:
        return frozenset({"centres"})

    def parameter_count(self, form, width):
        return self.centres * (form.size + 1)


class Bumps(Model):
    layers = [["centres"], ["heights"]]
    capabilities = frozenset({"centres"})

    def __init__(self, centres):
        self.centres = centres

    def initialise(self, dataset, generator):
        size = dataset["inputs"].shape[1]
        return {
            "centres": torch.randn(self.centres, size, dtype=torch.float64, generator=generator),
            "heights": torch.randn(self.centres, 1, dtype=torch.float64, generator=generator),
        }

    def __call__(self, parameters, inputs):
        gaps = inputs.unsqueeze(-2) - parameters["centres"].unsqueeze(-3)
        return bump(gaps.square().sum(-1)) @ parameters["heights"]


def build(options, setting):
    return Bumps(options["centres"])
'''
SHARED = '''"""What the models here share."""

import torch


def bump(squared_distance):
    return torch.exp(-squared_distance)
'''
OPTIMISER = '''"""Gradient descent with steps of one length."""

from typing import Annotated

from pydantic import Field

from sharpflow.optimisers.base import Optimiser, norm, over, per_run
from sharpflow.parts.options import OptimiserOptions


class Options(OptimiserOptions):
    """θ ← θ − ηℓ∇L/‖∇L‖."""

    length: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The length ℓ."""


class FixedLength(Optimiser):
    def __init__(self, length, weight_decay, clip_norm):
        super().__init__(weight_decay, clip_norm)
        self.length = length

    def update(self, parameters, gradients, state, learning_rate, step):
        scale = self.length / norm(gradients)
        return {
            n: t - learning_rate * per_run(scale, t) * gradients[n] for n, t in parameters.items()
        }, {}

    def threshold(self, learning_rate, gradients):
        return over(2.0, learning_rate)


def build(options, weight_decay, clip_norm):
    return FixedLength(options["length"], weight_decay, clip_norm)
'''
MEASUREMENT = '''"""How far the centres lie apart."""

from sharpflow.measurements.base import Measurement
from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Mean distance of the centres from their middle."""

    every: Stride = 1
    """Stride, in steps."""

    def needs(self) -> Needs:
        return ("centres",)

    def gives(self) -> Words:
        return frozenset({"spread"})


class Spread(Measurement):
    def measure(self, snapshot):
        centres = snapshot.parameters["centres"]
        return {"spread": float((centres - centres.mean(0)).norm(dim=1).mean())}


def build(options):
    return Spread()
'''
CLAIM = '''"""What my paper says."""

from sharpflow.claims.base import INF, claim


@claim(
    statement="The centres stay within a factor of ten of where they were.",
    band=(0.1, 10.0),
    method="spread at the end over spread at the start",
    reads=["spread"],
)
def spread_grows(run):
    """Spread at the end over that at the start."""
    values = run.curve("spread")[1]
    return values[-1] / values[0]
'''
FIGURE = '''"""The loss, and how far the centres lie apart."""

from sharpflow.figures import base, style
from sharpflow.results import tables as results

TITLE = "Loss and spread"
READS = ("spread",)
DRAWS = ("loss",)


@style.house
def draw(tables):
    chosen = results.networks(tables, "spread")
    figure, stacks = style.panel_grid(len(chosen), heights=(2.0, 2.0))
    for network, (above, below) in zip(chosen, stacks, strict=True):
        for axes, quantity in ((above, "loss"), (below, "spread")):
            strong = results.strong_seed(tables, network)
            curves = results.curves(tables, network, quantity)
            style.draw_seeds(axes, curves, strong, style.BLUE, label=quantity)
        above.set_title(network.case)
    return figure


def caption(tables):
    return base.join("Above: loss. Below: spread.", base.scale_sentence(tables))
'''
FILES = {
    "data/rings.py": DATA,
    "models/bumps.py": MODEL,
    "models/shared.py": SHARED,
    "optimisers/fixed_length.py": OPTIMISER,
    "measurements/spread.py": MEASUREMENT,
    "claims/own.py": CLAIM,
    "figures/loss.py": FIGURE,
}


def make(folder: Path, results: str = "results/mine") -> Path:
    """Write the folder; the configuration's path."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "experiments").mkdir()
    (folder / "paper.yaml").write_text(yaml.safe_dump(PAPER, allow_unicode=True))
    (folder / "experiments" / "rings.yaml").write_text(
        yaml.safe_dump(EXPERIMENT, allow_unicode=True)
    )
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"results": results, "papers": ["."]}))
    return config
