"""Every key of the configuration, with its type, default, bounds and meaning.

The field descriptions are the reference: `config/schema.json` and `config/README.md` are made
from them.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

PACKAGE = Path(__file__).parent.parent


def modules(package: str) -> list[str]:
    """Names of the modules of a registry package: every file but its shared ones."""
    shared = {"__init__", "base", "style"}
    files = (PACKAGE / package).glob("*.py")
    return sorted(f.stem for f in files if f.stem not in shared and not f.stem.startswith("_"))


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


def _learning_rate(value: float) -> float:
    if not (math.isfinite(value) and 0 < value <= 1e6):
        raise ValueError("a learning rate is a finite number above 0, at most 1e6")
    return value


def _distinct(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError("the same value stands in the list twice")
    return values


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
LearningRate = Annotated[float, AfterValidator(_learning_rate)]
Width = Annotated[int, Field(ge=1, le=20_000)]
Stride = Annotated[int, Field(ge=1, le=10_000_000)]
Eigenpairs = Annotated[int, Field(ge=1, le=32)]
Scaling = Literal["unit", "standardised"]
Samples = Annotated[int, Field(ge=2, le=60_000, multiple_of=2)]
Initialisation = Literal["default", "kaiming", "xavier"]


class Photos(Strict):
    """Patches of the two photographs that scikit-learn ships, one class each. No download."""

    source: Literal["photos"]
    """Names this source of data."""
    samples: Annotated[int, Field(ge=2, le=1950, multiple_of=2)] = 1000
    """Number of images n, half of each class; there are 975 patches of each photograph."""
    scaling: Scaling = "standardised"
    """`unit`: pixels in [0, 1]; `standardised`: mean 0 and variance 1 a channel."""


class Cifar10(Strict):
    """CIFAR-10, official binary version, from a local folder."""

    source: Literal["cifar10"]
    """Names this source of data."""
    path: str
    """Folder that holds `data_batch_*.bin`, absolute or relative to the working directory."""
    samples: Samples = 1000
    """Number of images n, half of each side."""
    classes: (
        Annotated[list[Annotated[int, Field(ge=0, le=9)]], AfterValidator(_distinct)] | None
    ) = Field(default=None, min_length=2, max_length=2)
    """The two classes labelled +1 and -1; by default classes 0-4 against 5-9."""
    scaling: Scaling = "standardised"
    """`unit`: pixels in [0, 1]; `standardised`: mean 0 and variance 1 a channel."""


Data = Annotated[Photos | Cifar10, Field(discriminator="source")]


class Mlp(Strict):
    """A dense network with one linear output unit."""

    kind: Literal["mlp"]
    """Names this kind of network."""
    hidden_layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of hidden layers, each of the run's width."""
    activation: Literal["linear", "tanh", "relu", "elu", "softplus", "swish"] = "tanh"
    """Activation function of the hidden layers."""
    bias: bool = False
    """Whether layers have biases."""
    initialisation: Initialisation = "default"
    """`default`: PyTorch's, uniform on ±1/√fan_in; `kaiming`: N(0, 2/fan_in); `xavier`:
    N(0, 2/(fan_in + fan_out))."""


Model = Mlp


class Warmup(Strict):
    """A lower learning rate for the first steps."""

    learning_rate: LearningRate
    """Learning rate of the steps before `until`."""
    until: Annotated[int, Field(ge=1, le=10_000_000)]
    """First step at the run's own learning rate."""


class Training(Strict):
    """How the ensemble is trained and what of it is kept."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 600
    """Number of optimiser steps."""
    batch: Annotated[int, Field(ge=1, le=60_000)] | None = None
    """Samples a step, drawn with replacement (SGD); `null` uses all of them (GD)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Heavy-ball coefficient β: v ← βv − η∇L, θ ← θ + v."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Coefficient γ added to the gradient as γθ."""
    warmup: Warmup | None = None
    """A lower learning rate for the first steps; `null` for none."""
    record_every: Stride = 1
    """Stride, in steps, of the trajectory's rows."""
    states_megabytes: Annotated[float, Field(gt=0, le=100_000)] = 8.0
    """Bytes of stored states a run, in MiB; evaluation replays the steps between them."""


class GaussNewton(Strict):
    """Top eigenpairs of the Gauss-Newton matrix, with the residual split along v₁."""

    every: Stride = 1
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-4
    """Relative residual ‖Mv − λv‖/λ at which an eigenpair counts as converged."""


class Hessian(Strict):
    """Top eigenpairs of the loss's Hessian."""

    every: Stride = 10
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-3
    """Relative residual ‖Hv − λv‖/λ at which an eigenpair counts as converged."""


class Measurements(Strict):
    """What is measured along a run; each name is a module of `sharpflow.measurements`."""

    gauss_newton: GaussNewton | None = None
    """Gauss-Newton sharpness Λ, Dᵀv₁, ‖R‖² and DᵀF."""
    hessian: Hessian | None = None
    """Top eigenvalues of the Hessian."""


class Setup(Strict):
    """What a case may change."""

    data: Data
    """The dataset."""
    model: Model
    """The network."""
    loss: Literal["mse", "cross_entropy"] = "mse"
    """`mse`: ‖F − Y‖²/n; `cross_entropy`: binary, of labels ±1."""
    widths: Annotated[list[Width], Field(min_length=1), AfterValidator(_distinct)]
    """Widths of the network, one run each."""
    learning_rates: Annotated[list[LearningRate], Field(min_length=1), AfterValidator(_distinct)]
    """Learning rates η, one run each; the stability threshold is 2/η."""
    training: Training = Training()
    """The optimiser and what is recorded."""
    measurements: Measurements = Measurements()
    """What is measured along the runs."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type of training and evaluation."""


class Experiment(Setup):
    """One file of `config/experiments/`; its name is the file's."""

    paper: Name
    """The paper it belongs to (`li2022`, `ziyin2024`) or any name of your own; its figures go to
    `figures/<paper>/`."""
    title: str
    """One line for the report."""
    seeds: Annotated[int, Field(ge=1, le=100_000)]
    """Number of seeds: 0, 1, … seeds - 1."""
    seeds_per_job: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Seeds trained together in one job; divides `seeds`."""
    cases: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Named variations: each gives the keys of the set-up in which it differs."""
    figures: list[str] | dict[Name, str] = []
    """Figures that show this experiment: modules of `sharpflow.figures`, or `name: module`."""
    claims: list[str] = []
    """Claims that are judged on it: modules of `sharpflow.claims`."""

    @field_validator("figures", "claims")
    @classmethod
    def _known_modules(cls, value, info):
        known = modules(info.field_name)
        for name in value.values() if isinstance(value, dict) else value:
            if name not in known:
                raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _whole_jobs(self):
        if self.seeds % self.seeds_per_job:
            raise ValueError(
                f"seeds = {self.seeds} is not a multiple of seeds_per_job = {self.seeds_per_job}"
            )
        return self

    @property
    def figure_modules(self) -> dict[str, str]:
        """Figure name to module."""
        figures = self.figures
        return dict(figures) if isinstance(figures, dict) else {name: name for name in figures}


class Configuration(Strict):
    """A file such as `config/config.yaml`: which experiments run, at what scale, and where to."""

    results: str
    """Folder for everything that is made; no two configurations share one."""
    experiments: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """Experiments to run: `all` files of the folder, or a list of names."""
    experiments_folder: str = "config/experiments"
    """Folder with one YAML file an experiment, relative to the working directory."""
    overrides: dict[Name, dict[str, Any]] = {}
    """Changes to experiments, merged key by key over their files; `null` removes a key."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where jobs compute; `auto` is CUDA where there is one."""
    threads_per_job: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads of a training or evaluation job; the last digits of results depend on it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of every interval over seeds."""

    @field_validator("results")
    @classmethod
    def _plain_folder(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", value) or ".." in value.split("/"):
            raise ValueError("a path of letters, digits, '.', '_', '-' and '/', without '..'")
        return value.rstrip("/")
