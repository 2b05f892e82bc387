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
    """CIFAR-10, official binary version, from a local folder or from its source."""

    source: Literal["cifar10"]
    """Names this source of data."""
    path: str | None = None
    """Folder that holds `data_batch_*.bin`, absolute or relative to the working directory; `null`
    downloads the archive (170 MB) to the cache, `$SHARPFLOW_CACHE` or `~/.cache/sharpflow`."""
    samples: Samples = 1000
    """Number of images n, half of each side."""
    classes: (
        Annotated[list[Annotated[int, Field(ge=0, le=9)]], AfterValidator(_distinct)] | None
    ) = Field(default=None, min_length=2, max_length=2)
    """The two classes labelled +1 and -1; by default classes 0-4 against 5-9."""
    scaling: Scaling = "standardised"
    """`unit`: pixels in [0, 1]; `standardised`: mean 0 and variance 1 a channel."""


class Span(Strict):
    """Evenly spaced numbers."""

    first: Annotated[float, Field(ge=0, le=1e6)]
    """The first of them."""
    last: Annotated[float, Field(ge=0, le=1e6)]
    """The last of them."""


Deviation = Annotated[float, Field(ge=0, le=1e6)]
Deviations = Deviation | Annotated[list[Deviation], Field(min_length=1)] | Span


class Gaussian(Strict):
    """x ~ N(0, Σx), y = V x + ε, ε ~ N(0, Σε), with diagonal covariances."""

    source: Literal["gaussian"]
    """Names this source of data."""
    inputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of inputs d0."""
    outputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of outputs d2."""
    input_std: Deviations = 1.0
    """Standard deviations of the inputs: one for all, a list, or evenly from `first` to `last`."""
    noise_std: Deviations = 1.0
    """Standard deviations of the label noise ε, likewise."""
    teacher: Literal["identity", "rotation"] = "identity"
    """V: the identity, or a random rotation; of the first rows and columns if not square."""
    teacher_scale: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """A factor of V."""
    teacher_seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Seed of the rotation."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of samples, drawn for each run; `null` draws every batch anew."""

    @model_validator(mode="after")
    def _lengths(self):
        for name, size in (("input_std", self.inputs), ("noise_std", self.outputs)):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != size:
                raise ValueError(f"{name} lists {len(value)} numbers where {size} are needed")
        return self


class Whitened(Strict):
    """Inputs of few dimensions with XᵀX/n diagonal, one direction apart; labels ±1."""

    source: Literal["whitened"]
    """Names this source of data."""
    samples: Samples
    """Number of samples n, half of each label; at least as many as inputs."""
    inputs: Annotated[int, Field(ge=1, le=10_000)]
    """Number of inputs d."""
    leading_std: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Standard deviation of the first input."""
    other_std: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Standard deviation of the other inputs."""
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Seed of the sample."""

    @model_validator(mode="after")
    def _enough(self):
        if self.samples < self.inputs:
            raise ValueError(f"samples = {self.samples} is less than inputs = {self.inputs}")
        return self


Data = Annotated[Photos | Cifar10 | Gaussian | Whitened, Field(discriminator="source")]


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


class Cnn(Strict):
    """Two 3×3 convolutions of the run's width with max-pooling, and one linear output unit."""

    kind: Literal["cnn"]
    """Names this kind of network."""
    activation: Literal["linear", "tanh", "relu", "elu", "softplus"] = "relu"
    """Activation function; it must not decrease anywhere, for it is applied after the pooling."""


class BlockMlp(Strict):
    """A dense network whose hidden layers are normalised, or added to their inputs, or both."""

    kind: Literal["block_mlp"]
    """Names this kind of network."""
    hidden_layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of hidden layers, each of the run's width."""
    activation: Literal["linear", "tanh", "relu", "elu", "softplus", "swish"] = "tanh"
    """Activation function of the hidden layers."""
    batch_normalisation: bool = False
    """Whether pre-activations are normalised over the batch, with a trained gain and offset."""
    residual: bool = False
    """Whether each hidden layer but the first is added to its input."""


class Normal(Strict):
    """Normal initial weights."""

    u: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Standard deviation of the output layer U, in units of 1/√width."""
    w: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Standard deviation of the input layer W, in the units that `unit` names."""
    unit: Literal["fan_in", "width"] = "fan_in"
    """Unit of `w`: 1/√inputs (`fan_in`) or 1/√width (`width`)."""


FactorInitialisation = Literal["default", "kaiming", "xavier", "balanced"] | Normal


class TwoLayer(Strict):
    """Two layers f(x) = U φ(W x) with vector outputs, on `gaussian` data."""

    kind: Literal["two_layer"]
    """Names this kind of network."""
    activation: Literal["linear", "tanh", "relu", "elu", "softplus", "swish"] = "linear"
    """Activation function φ of the hidden layer."""
    initialisation: FactorInitialisation = Normal()
    """As for `mlp`; `balanced` is a random point with U W = V and UᵀU = WWᵀ; or standard
    deviations `{u, w, unit}`."""


class ScaleInvariant(Strict):
    """Two tanh layers with normalised weights, on `gaussian` data."""

    kind: Literal["scale_invariant"]
    """Names this kind of network."""
    normalisation: Literal["layer", "global"] = "layer"
    """`layer` divides each layer's weights by their norm (Net-B), `global` by that of all weights
    (Net-A)."""
    initialisation: FactorInitialisation = Normal()
    """As for `two_layer`."""


class Circle(Strict):
    """The toy f(x) = (θ/‖θ‖)·x of two parameters, on `gaussian` data of two inputs, one output."""

    kind: Literal["circle"]
    """Names this kind of network."""
    angle: Annotated[float, Field(ge=-4, le=4)] = 2.4
    """Angle of the start on the unit circle, in radians."""


Model = Annotated[
    Mlp | Cnn | BlockMlp | TwoLayer | ScaleInvariant | Circle, Field(discriminator="kind")
]


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
    frozen: Annotated[int, Field(ge=0, le=64)] = 0
    """Number of layers that do not move, counted from the output layer downwards."""
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
    output_layer: bool = False
    """Whether the output layer's part of the matrix is measured too."""
    trained_layers: bool = False
    """Whether the part of the layers that are not frozen is measured too."""


class Hessian(Strict):
    """Top eigenpairs of the loss's Hessian."""

    every: Stride = 10
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-3
    """Relative residual ‖Hv − λv‖/λ at which an eigenpair counts as converged."""


class BatchSharpness(Strict):
    """Curvature of a batch's loss along its own gradient, E[gᵀ H_B g]/E‖g‖²."""

    every: Stride = 10
    """Stride, in steps."""
    draws: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Number of batches drawn; one where training takes all samples at each step."""


class NoiseBalance(Strict):
    """Imbalance of the gradient noise between the layers of a two-layer linear network."""

    every: Stride = 1
    """Stride, in steps."""
    entries: Annotated[int, Field(ge=0, le=1000)] = 10
    """Number of entries of UᵀΓ_U U − WΓ_W Wᵀ that are kept, along the first row of it."""


class Equilibrium(Strict):
    """The closed form of the noise equilibrium, and how far time averages are from it."""

    every: Stride = 1
    """Stride, in steps, of the states that are averaged."""
    tail: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the training, at its end, over which U Uᵀ and Wᵀ W are averaged."""


class HessianTrace(Strict):
    """Trace of the Hessian of the population's loss, for two-layer linear networks."""

    every: Stride = 1
    """Stride, in steps."""


class Representations(Strict):
    """Alignment of UᵀΓ_U U with WΓ_W Wᵀ at the end of training, from held-out samples."""

    every: Stride = 10_000_000
    """Stride, in steps; the first and the last step are always measured."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 4000
    """Held-out samples that the Γ are estimated from."""
    grams_of: Annotated[int, Field(ge=0)] | None = None
    """Seed of the experiment whose two matrices are kept at the last step, for the figure."""


class NormGrowth(Strict):
    """Expected increment of ‖θ‖² in a step."""

    every: Stride = 1
    """Stride, in steps."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    """Held-out samples that Tr Σ and ∇L are estimated from, where the data are not finite."""


class NoetherFlow(Strict):
    """Mean change of a Noether charge over many draws of one SGD step, at the first and last state.

    The charge is ‖U‖² − ‖W‖² for two-layer linear networks and ‖θ‖² for scale-invariant ones.
    """

    every: Stride = 10_000_000
    """Stride, in steps; only the first and the last step are measured."""
    draws: Annotated[int, Field(ge=2, le=1_000_000)] = 2000
    """Number of draws."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Samples a draw."""
    learning_rate: LearningRate = 0.001
    """Learning rate of the drawn steps."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] = 20_000
    """Samples that the prediction is estimated from, where it has no closed form."""


class CircleRadius(Strict):
    """Position and predicted radius of the `circle` network."""

    every: Stride = 1
    """Stride, in steps."""


class Measurements(Strict):
    """What is measured along a run; each name is a module of `sharpflow.measurements`."""

    gauss_newton: GaussNewton | None = None
    """Gauss-Newton sharpness Λ, Dᵀv₁, ‖R‖² and DᵀF."""
    hessian: Hessian | None = None
    """Top eigenvalues of the Hessian."""
    batch_sharpness: BatchSharpness | None = None
    """Batch sharpness."""
    noise_balance: NoiseBalance | None = None
    """Relative imbalance of the noise, and entries of its matrix."""
    equilibrium: Equilibrium | None = None
    """Norms, Tr H and rate that the theory predicts, and the error of time averages."""
    hessian_trace: HessianTrace | None = None
    """Trace of the Hessian."""
    representations: Representations | None = None
    """Alignment of the two layers' representations."""
    norm_growth: NormGrowth | None = None
    """Expected growth of the norm of scale-invariant networks."""
    noether_flow: NoetherFlow | None = None
    """Drawn and predicted change of a Noether charge."""
    circle_radius: CircleRadius | None = None
    """Position and predicted radius of the toy of two parameters."""


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
    """Number of seeds: first_seed, first_seed + 1, …"""
    first_seed: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """The first seed; claims are to be judged on seeds that no setting was chosen on."""
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
    leave_out: list[Name] = []
    """Experiments that are not run although `experiments` names them or is `all`."""
    experiments_folder: str = "config/experiments"
    """Folder with one YAML file an experiment, relative to the working directory."""
    overrides: dict[Name, dict[str, Any]] = {}
    """Changes to experiments, merged key by key over their files; `null` removes a key."""
    cifar10_path: str | None = None
    """Folder of your copy of CIFAR-10's binary version, for all data that name no `path`."""
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
        if not value.strip("./"):
            raise ValueError("a folder of its own, not the root or the working directory")
        return value.rstrip("/")
