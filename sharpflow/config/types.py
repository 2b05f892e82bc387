"""Every key of the configuration that is no part's, and the whole made with the parts' options.

The field descriptions are the reference: `config/schema.json` and `config/README.md` are made
from them, with those of the parts that were found.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from sharpflow.errors import ConfigError
from sharpflow.parts.options import (
    LearningRate,
    Name,
    Options,
    PartOf,
    Strict,
    Stride,
    UserPath,
    Width,
    distinct,
)
from sharpflow.parts.processes import DISCRETE
from sharpflow.parts.registry import Part, Registry

TAGS = {"data": "source"}
"""The key that names a part, where it is not `kind`."""
BY_KEY = ("measurements", "flows")
"""Kinds of which a set-up has several, each under its name as the key."""
WORD = {
    "data": "Data",
    "models": "Model",
    "losses": "Loss",
    "initialisations": "Initialisation",
    "optimisers": "Optimiser",
    "schedules": "Schedule",
    "measurements": "Measurement",
    "flows": "Flow",
}


class Training(Strict):
    """How the ensemble is trained and what of it is kept."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 600
    """Number of optimiser steps."""
    batch: Annotated[int, Field(ge=1, le=60_000)] | None = None
    """Samples a step (SGD); `null` uses all of them (GD)."""
    sampling: Literal["with_replacement", "epochs"] = "with_replacement"
    """How a batch is drawn: `with_replacement`, each by itself; `epochs`, the parts of a random
    order of all samples, another one in each epoch, in which what does not fill a batch is left
    out. A population has no epochs."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Coefficient γ: γθ is added to the gradient, or, by `adamw`, taken from θ apart from it."""
    clip_norm: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Largest norm of the gradient over all parameters; a longer one is shortened to it."""
    frozen: Annotated[int, Field(ge=0, le=64)] = 0
    """Number of layers that do not move, counted from the output layer downwards."""
    record_every: Stride = 1
    """Stride, in steps, of the trajectory's rows."""
    states_megabytes: Annotated[float, Field(gt=0, le=100_000)] = 8.0
    """Bytes of stored states a run, in MiB; evaluation replays the steps between them."""


class SetupKeys(Strict):
    """What a case may change, but for the parts."""

    widths: Annotated[list[Width], Field(min_length=1), AfterValidator(distinct)]
    """Widths of the network, one run each."""
    learning_rates: Annotated[list[LearningRate], Field(min_length=1), AfterValidator(distinct)]
    """Learning rates η, one run each."""
    training: Training = Training()
    """Batches, weight decay, and what is recorded."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type of training and evaluation."""


class ExperimentKeys(Strict):
    """What an experiment has beyond a set-up."""

    paper: Name | None = None
    """Key of the paper it belongs to; in a paper's folder it is that of the folder, and need not be
    given. Its figures go to `figures/<paper>/`."""
    title: str
    """One line for the report."""
    seeds: Annotated[int, Field(ge=1, le=100_000)]
    """Number of seeds: first_seed, first_seed + 1, …"""
    first_seed: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """The first seed; claims are to be judged on seeds that no setting was chosen on."""
    seeds_per_job: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Seeds trained together in one job; divides `seeds`."""
    common_random_numbers: bool = True
    """Whether runs of one seed share their random numbers over cases, widths and learning rates,
    which pairs them for a comparison; else each has its own."""
    cases: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Named variations: each gives the keys of the set-up in which it differs."""
    figures: list[str] | dict[Name, str] = Field(default=[])
    """Figures that show this experiment, by name, or `name: module`; `paper/name` for another
    paper's."""
    claims: list[str] = Field(default=[])
    """Claims that are judged on it, by name; `paper/name` for another paper's."""

    @model_validator(mode="after")
    def _whole_jobs(self):
        if self.seeds % self.seeds_per_job:
            raise ValueError(
                f"seeds = {self.seeds} is not a multiple of seeds_per_job = {self.seeds_per_job}"
            )
        return self

    @property
    def seed_range(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def figure_modules(self) -> dict[str, str]:
        """What draws a figure, by the figure's name."""
        figures = self.figures
        if isinstance(figures, dict):
            return dict(figures)
        return {name.rpartition("/")[2]: name for name in figures}


class Statement(Strict):
    """One thing that a paper says, and the claims that it is judged by."""

    name: str
    """What it is about, as a few words that can stand within a sentence."""
    text: str
    """The statement, in our words."""
    claims: list[str] = Field(default=[])
    """Claims that it is judged by, by name, in the order in which the page shows them."""


class Recorded(Strict):
    """A file `recorded.yaml` of a paper's folder: verdicts of a finished run at its own scale."""

    source: str
    """Where and when the run was made, and what differs from the claims of today."""
    verdicts: dict[
        Name, dict[str, dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]]]
    ]
    """Verdict and result, as text, by experiment, claim and case."""


SOURCES = ("paper: ", "drawn here: ")


def a_source(value: str) -> str:
    """Where a claim comes from, or ValueError."""
    if not value.startswith(SOURCES) or value in SOURCES:
        raise ValueError(
            "a text that begins with 'paper: ' and names a theorem, an equation, a figure or a "
            "section there, or with 'drawn here: ' for a consequence that the paper does not "
            "state, and says from what"
        )
    return value


def one_by_one(texts: dict[str, str]) -> dict[str, str]:
    """Texts by case, of texts some of which are under several, `tanh, relu`."""
    return {case.strip(): text for cases, text in texts.items() for case in cases.split(",")}


class Paper(Strict):
    """A file `paper.yaml`: what the folder that it stands in is about."""

    key: Name
    """Short name, in paths and in other papers' references."""
    title: str
    """The publication's title, or what the folder is about."""
    authors: str = ""
    """Who wrote it."""
    venue: str = ""
    """Where and when it was published."""
    citation: str = ""
    """How to cite it."""
    link: str = ""
    """Address of the publication."""
    says: list[str | Statement] = Field(default=[])
    """What it claims: a sentence each, or a statement with the claims that it is judged by."""
    published: dict[str, str] = Field(default={})
    """What the publication states where a claim has a number, by the claim's name."""
    sources: dict[str, Annotated[str, AfterValidator(a_source)]] = Field(default={})
    """Where each claim comes from, by its name: `paper: …` with the theorem, equation, figure or
    section, or `drawn here: …` for a consequence that the publication does not state."""
    explanations: dict[Name, dict[str, Annotated[dict[str, str], AfterValidator(one_by_one)]]] = (
        Field(default={})
    )
    """Why a claim does not hold in a case of an experiment, and what shows it, by experiment, claim
    and case (or several cases, `tanh, relu`; `all`, where the claim is on the experiment as a
    whole): a phrase without a full stop, that the page prints after what came out where the claim
    is not supported there."""
    figures: list[str] = Field(default=[])
    """Its figures, in the order in which the page shows them."""
    experiments: dict[Name, dict[str, Any]] = Field(default={})
    """Experiments that stand here and not in a file of `experiments/`."""


def a_device(value: str) -> str:
    """A name of a device, or ValueError."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", value):
        raise ValueError("auto, cpu, cuda, or a GPU by its number such as cuda:1")
    return value


class ConfigurationKeys(Strict):
    """A file such as `config/config.yaml`: which experiments run, at what scale, and where to."""

    results: str
    """Folder for everything that is made; no two configurations share one."""
    papers: Annotated[list[str], AfterValidator(distinct)] = Field(default=[])
    """Folders of papers, each with a `paper.yaml`; relative to this file, or to the working
    directory."""
    experiments: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = "all"
    """Experiments to run: `all` that are found, or a list of names."""
    leave_out: list[Name] = Field(default=[])
    """Experiments that are not run although `experiments` names them or is `all`."""
    experiments_folder: str = "config/experiments"
    """Folder with further experiments, one YAML file each, that name their `paper`; it need not
    exist. Relative to the working directory."""
    overrides: dict[Name, dict[str, Any]] = Field(default={})
    """Changes to experiments, merged key by key over their files; `null` removes a key."""
    seeds: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Number of seeds of every experiment, in the place of its own; a job then takes at most as
    many of them as before."""
    full_scale: str | None = None
    """Configuration of the same experiments at their papers' own scale, relative to this file, to
    the working directory or to what comes with sharpflow; the page says in what an experiment falls
    short of it."""
    device: Annotated[str, AfterValidator(a_device)] = "auto"
    """Where jobs compute: `auto`, `cpu`, `cuda`, or one GPU by its number, `cuda:1`; `auto` is CUDA
    where there is one, and `cuda` the GPU with the fewest jobs."""
    jobs_per_gpu: Annotated[int, Field(ge=1, le=64)] = 1
    """Training and evaluation jobs that share one GPU of this machine at a time."""
    threads_per_job: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads of a training or evaluation job; the last digits of results depend on it."""
    confidence: Annotated[float, Field(gt=0.5, le=0.9999)] = 0.95
    """Confidence of every interval over seeds."""
    explorer_kilobytes: Annotated[int, Field(ge=100, le=20_000)] = 600
    """What the curves on the page, to choose from and to compare, may take of it; where all runs do
    not fit in full, the page says what was left out."""

    @field_validator("results")
    @classmethod
    def _plain_folder(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", value) or ".." in value.split("/"):
            raise ValueError("a path of letters, digits, '.', '_', '-' and '/', without '..'")
        if not value.strip("./"):
            raise ValueError("a folder of its own, not the root or the working directory")
        return value.rstrip("/")


def camel(name: str) -> str:
    """`heavy_ball` as `HeavyBall`."""
    return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]", name))


@dataclass(frozen=True)
class Types:
    """The types of the configuration, with the options of every part of a registry in them."""

    registry: Registry

    def options(self, kind: str) -> dict[str, type[Options]]:
        """The options of each part of a kind, with the key that names it."""
        return self._options[kind]

    @cached_property
    def _options(self) -> dict[str, dict[str, type[Options]]]:
        kinds = ("initialisations", *(kind for kind in WORD if kind != "initialisations"))
        made: dict[str, dict[str, type[Options]]] = {}
        for kind in kinds:
            parts = self.registry.parts(kind)
            made[kind] = {name: self._named(part, made) for name, part in parts.items()}
        return made

    def _named(self, part: Part, made: Mapping[str, Mapping[str, type[Options]]]) -> type[Options]:
        written = self.registry.options_class(part)
        fields: dict[str, Any] = {}
        if part.kind not in BY_KEY:
            tag = TAGS.get(part.kind, "kind")
            described = Field(description=f"Names this {WORD[part.kind].lower()}.")
            fields[tag] = (Literal[part.name], described)
        for name, field in written.model_fields.items():
            for mark in (m for m in field.metadata if isinstance(m, PartOf)):
                fields[name] = (_choice(made[mark.kind], TAGS.get(mark.kind, "kind")), _as(field))
        title = camel(part.name) + WORD[part.kind]
        named = _made(title, __base__=written, __doc__=written.__doc__, **fields)
        named.paper_key = part.paper
        named.part = part
        return named

    @cached_property
    def measurements(self) -> type[Strict]:
        """What may stand under `measurements`."""
        return self._by_key(
            "measurements", "What is measured along a run; each name is a measurement's."
        )

    @cached_property
    def flows(self) -> type[Strict]:
        """What may stand under `flows`."""
        if DISCRETE in self.options("flows"):
            raise ConfigError(
                f"{self.options('flows')[DISCRETE].part.file}: training itself is called "
                f"{DISCRETE!r} in the tables; give what runs beside it another name."
            )
        return self._by_key(
            "flows", "What runs beside training, from the same start; each name is a process's."
        )

    def _by_key(self, kind: str, text: str) -> type[Strict]:
        fields: dict[str, Any] = {}
        for name, options in self.options(kind).items():
            first = " ".join((options.__doc__ or "").split("\n\n")[0].split())
            fields[name] = (options | None, Field(default=None, description=first))
        made = _made(camel(kind), __base__=Strict, **fields)
        made.__doc__ = text
        return made

    @cached_property
    def setup(self) -> type[SetupKeys]:
        """What a case may change."""
        parts: dict[str, Any] = {
            "data": (_choice(self.options("data"), "source", short=False), Field(**_data)),
            "model": (_choice(self.options("models"), "kind"), Field(**_model)),
            "loss": (_choice(self.options("losses"), "kind"), Field(**_loss)),
            "optimiser": (_choice(self.options("optimisers"), "kind"), Field(**_optimiser)),
            "schedule": (_choice(self.options("schedules"), "kind"), Field(**_schedule)),
            "measurements": (self.measurements, Field(default=self.measurements(), **_measured)),
            "flows": (self.flows, Field(default=self.flows(), **_flows)),
        }
        return _made("Setup", __base__=SetupKeys, **parts)

    @cached_property
    def experiment(self) -> type[Any]:
        """One experiment's file."""
        made = _made("Experiment", __base__=(ExperimentKeys, self.setup))
        made.__doc__ = "One file of a folder `experiments/`; its name is the file's."
        return made

    @cached_property
    def configuration(self) -> type[ConfigurationKeys]:
        """The top-level file: a key `<source>_path` for every source of data with a `path`."""
        paths: dict[str, Any] = {}
        for source, options in self.options("data").items():
            field = options.model_fields.get("path")
            if field is not None and not field.is_required():
                text = f"Folder of your copy of `{source}`, for all its data that name no `path`."
                paths[f"{source}_path"] = (str | None, Field(default=None, description=text))
        made = _made("Configuration", __base__=ConfigurationKeys, **paths)
        made.__doc__ = ConfigurationKeys.__doc__
        return made


def _made(name: str, **keywords: Any) -> Any:
    """A model whose docstrings need not be looked for, as it was written nowhere."""
    return create_model(name, __cls_kwargs__={"use_attribute_docstrings": False}, **keywords)


_data: dict[str, Any] = {"description": "The dataset."}
_model: dict[str, Any] = {"description": "The network."}
_loss: dict[str, Any] = {"default": "mse", "validate_default": True, "description": "The loss."}
_optimiser: dict[str, Any] = {
    "default": "sgd",
    "validate_default": True,
    "description": "The update rule.",
}
_schedule: dict[str, Any] = {
    "default": "constant",
    "validate_default": True,
    "description": "The course of the learning rate.",
}
_measured: dict[str, Any] = {"description": "What is measured along the runs."}
_flows: dict[str, Any] = {
    "description": "Flows and other processes that run beside training, measured as it is."
}


def _as(field: FieldInfo) -> FieldInfo:
    """A field of a part's options, its default validated as a part."""
    if field.is_required():
        return Field(description=field.description)
    return Field(default=field.default, validate_default=True, description=field.description)


def _choice(options: Mapping[str, type[Options]], tag: str, short: bool = True) -> Any:
    """One of several parts: a mapping with its tag, or its name alone."""
    union: Any = reduce(or_, options.values())
    chosen = Annotated[union, Field(discriminator=tag)] if len(options) > 1 else union
    if not short:
        return chosen
    names: Any = Literal[tuple(options)]

    def expanded(value: Any) -> Any:
        return {tag: value} if isinstance(value, str) else value

    return Annotated[chosen, BeforeValidator(expanded, json_schema_input_type=names | chosen)]


def parts_in(options: BaseModel) -> Iterator[Options]:
    """A part's options and those of the parts that it names, whatever holds them."""
    if isinstance(options, Options):
        yield options
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from parts_in(value)


def user_paths(options: BaseModel) -> Iterator[tuple[str, UserPath]]:
    """Fields of a part's own options that name a file or folder of the user's."""
    for name, field in type(options).model_fields.items():
        for mark in (m for m in field.metadata if isinstance(m, UserPath)):
            if getattr(options, name) is not None:
                yield name, mark
