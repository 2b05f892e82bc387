"""What the options of each kind of part are made of; light to import.

An `options.py` has one class, `Options`, which derives from the class of its kind below. Its fields
are the keys of the YAML: annotations give type and bounds, the docstring under a field its meaning.
Its methods say what the part needs and what it gives, as words and numbers that can be known before
anything runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer

from sharpflow.parts import names


class Strict(BaseModel):
    """A mapping of which every key is known, and every value of its own type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Span(Strict):
    """Evenly spaced numbers."""

    first: Annotated[float, Field(ge=0, le=1e6)]
    """The first of them."""
    last: Annotated[float, Field(ge=0, le=1e6)]
    """The last of them."""


class PartOf:
    """Marks a field that holds another part: a name, or a mapping with its `kind` and options."""

    def __init__(self, kind: str):
        self.kind = kind


class UserPath:
    """Marks a field that names a file or folder of the user's.

    It is looked for beside the paper's `paper.yaml` first, then in the working directory.

    Args:
        holds: `code` is digested with whatever it imports; `data` is an input of the job.
        pattern: of the files in a folder that are inputs; only for `data`.
        advice: what to do where there is no such file, a sentence.
    """

    def __init__(self, holds: Literal["code", "data"], pattern: str = "*", advice: str = ""):
        self.holds = holds
        self.pattern = pattern
        self.advice = advice


def distinct(values: list) -> list:
    """`values`, if no two are alike."""
    if len({str(value) for value in values}) != len(values):
        raise ValueError("the same value stands in the list twice")
    return values


def _learning_rate(value: float) -> float:
    if not (math.isfinite(value) and 0 < value <= 1e6):
        raise ValueError("a learning rate is a finite number above 0, at most 1e6")
    return value


Name = Annotated[
    str, AfterValidator(names.name), Field(json_schema_extra={"pattern": names.PATTERN})
]
LearningRate = Annotated[float, AfterValidator(_learning_rate)]
Width = Annotated[int, Field(ge=1, le=20_000)]
Stride = Annotated[int, Field(ge=1, le=10_000_000)]
Eigenpairs = Annotated[int, Field(ge=1, le=32)]
Tolerance = Annotated[float, Field(ge=1e-12, le=0.1)]
Seed = Annotated[int, Field(ge=0, le=2**31)]
Activation = Literal["linear", "tanh", "relu", "elu", "softplus", "swish", "gelu"]


TargetForm = Literal["signs", "one_hot", "classes", "real"]


@dataclass(frozen=True)
class Form:
    """The form of a data source's samples, as far as it is known before they are made.

    Attributes:
        inputs: `images` (channels, rows, columns), `vectors` (d), `tokens` (length), or
            `population` (d): vectors drawn anew from a distribution.
        shape: of one input; None where only the data can tell.
        outputs: numbers a target; None where only the data can tell.
        targets: `signs` (±1), `one_hot`, `classes` (an index a position) or `real`.
        samples: n; None for a population that is sampled online, or where only the data can tell.
        vocabulary: number of different tokens.
    """

    inputs: Literal["images", "vectors", "tokens", "population"]
    shape: tuple[int, ...] | None
    outputs: int | None
    targets: TargetForm
    samples: int | None
    vocabulary: int | None = None

    @property
    def size(self) -> int | None:
        """Numbers an input."""
        return None if self.shape is None else math.prod(self.shape)


class Options(Strict):
    """What the options of every kind of part share.

    Attributes:
        paper_key: key of the paper that the part belongs to; empty for the library's.
        part: the `registry.Part` that they are of.
    """

    paper_key: ClassVar[str] = ""
    part: ClassVar[Any] = None

    def check_files(self) -> None:
        """Raise PartError or DataError where the user's files that it names do not do.

        It is called before anything runs, with paths as jobs open them, and has to be quick:
        nothing of a file is run, and of a large one the beginning is read.
        """

    @model_serializer(mode="wrap")
    def _plain(self, handler: Any) -> dict[str, Any]:
        """The options as a job gets them: with the paper that the part is found in, if any."""
        plain = handler(self)
        return plain | {"paper": self.paper_key} if self.paper_key else plain


Words = frozenset[str]
Needs = Sequence[str | tuple[str, ...]]
"""Capabilities that are needed; of a tuple of them, any one."""


class DataOptions(Options):
    """Options of a data source."""

    def form(self) -> Form:
        """The form of its samples."""
        raise NotImplementedError

    def capabilities(self) -> Words:
        """What its datasets have beyond inputs and targets."""
        return frozenset()

    def of_seed(self, seed: int) -> "DataOptions":
        """The options of the dataset of the run with a seed; the same for all by default."""
        return self

    @property
    def label(self) -> str:
        """How the page and file names call it, beside the number of samples."""
        return ""


def smoothness(activation: Activation) -> Words:
    """`third derivatives` where networks of an activation have them; ELU has them but at 0."""
    return frozenset() if activation == "relu" else frozenset({"third derivatives"})


class ModelOptions(Options):
    """Options of a network."""

    takes: ClassVar[tuple[str, ...]] = ("vectors", "images")
    """The forms of inputs that it can be given."""

    def capabilities(self) -> Words:
        """What can be done with it beyond calling it, `dense stack` say."""
        return frozenset()

    def needs(self) -> Needs:
        """Capabilities of the data that it needs."""
        return ()

    def check(self, form: Form, width: int) -> None:
        """Raise ValueError, with a sentence, where the data's form or the width does not do."""

    def parameter_count(self, form: Form, width: int) -> int | None:
        """Trained parameters of one run, where they are known before the network is built."""
        return None

    def multiplications(self, form: Form, width: int) -> int | None:
        """Multiplications of one sample's forward pass, for estimates of time.

        By default each parameter is used once, as in dense layers.
        """
        return self.parameter_count(form, width)

    def units(self, form: Form, width: int) -> int | None:
        """Numbers that one sample's pass keeps for the gradient, for estimates of memory.

        By default as many as there are parameters, more than any dense network has.
        """
        return self.parameter_count(form, width)

    def layer_count(self) -> int | None:
        """Layers that can be frozen, where they are known before the network is built."""
        return None


class LossOptions(Options):
    """Options of a loss."""

    targets: ClassVar[tuple[str, ...]] = ("real", "signs", "one_hot")
    """The forms of targets that it is defined for."""

    def capabilities(self) -> Words:
        """What is known of it, `squared error` say."""
        return frozenset()


class InitialisationOptions(Options):
    """Options of a distribution of initial weights."""

    scale: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    """What all of its weights and offsets are multiplied by."""

    def needs(self) -> Needs:
        """Capabilities of the network and the data that it needs."""
        return ()


class OptimiserOptions(Options):
    """Options of an update rule."""

    copies: ClassVar[int] = 0
    """Tensors of the parameters' size that its state holds."""
    threshold_symbol: ClassVar[str] = "threshold"
    """How figures write its stability threshold."""

    def capabilities(self) -> Words:
        """What is known of it.

        `rotation invariant` if any orthonormal basis gives the same run, `plain steps` if a step is
        θ − η∇L, `linear steps` if it is a fixed sum of gradients, `preconditioner` if it has one,
        `squared gradients` if it divides by √v̂ + ε, `a learning rate a run` if its update takes
        rates (R,) as well as a number.
        """
        return frozenset()


class ScheduleOptions(Options):
    """Options of a learning rate's course.

    Attributes:
        rate_symbol: how figures write what `learning_rates` are; η, or a multiple of some unit.
    """

    rate_symbol: ClassVar[str] = "η"

    def needs(self) -> Needs:
        """Capabilities of network, data, loss and optimiser that it needs."""
        return ()

    def check(self, steps: int) -> None:
        """Raise ValueError, with a sentence, where the training's length does not do."""


class MeasurementOptions(Options):
    """Options of a measurement."""

    def needs(self) -> Needs:
        """Capabilities of network, data, loss and optimiser that it needs."""
        return ()

    def gives(self) -> Words:
        """Quantities that the table will have."""
        raise NotImplementedError

    def eigenpairs(self) -> Mapping[Literal["gram", "hessian"], int]:
        """Eigenpairs that a call looks for, by the matrix: J Jᵀ, or a Hessian; for estimates."""
        return {}

    def drawn(self, batch: int) -> int:
        """Samples of gradients that a call takes beyond the run's own, for estimates.

        Args:
            batch: samples of a training step.
        """
        return 0

    def check(self, seeds: range) -> None:
        """Raise ValueError, with a sentence, where the experiment's seeds do not do."""


class FlowOptions(Options):
    """Options of a process that runs beside training, a flow say, from the same start."""

    every: Stride = 10
    """Stride, in steps, at which its states are stored. They are measured at that of each
    measurement, or at this one if it is the longer; one is a multiple of the other."""

    def needs(self) -> Needs:
        """Capabilities of network, data, loss and optimiser that it needs."""
        return ()

    def gives(self) -> Words:
        """Quantities that its table will have, beyond those that every process beside training has.

        Those are the loss at its states, the stability threshold, and the distance from training.
        """
        return frozenset()

    def passes(self) -> int:
        """Passes through the network and back that one step's length takes, for estimates."""
        return 1

    def check(self, setup: Any) -> None:
        """Raise ValueError, with a sentence, where the rest of the set-up does not do."""


class DescentFlowOptions(FlowOptions):
    """Options of a flow of full-batch descent on one loss with one learning rate."""

    def needs(self) -> Needs:
        return (("plain steps", "mean square"), "finite samples")

    def gives(self) -> Words:
        return frozenset({"predicted_loss", "predicted_variance"})

    def check(self, setup: Any) -> None:
        training = setup.training
        for wrong, key, wanted in (
            (training.batch is not None, "training.batch", "null, for all samples"),
            (training.weight_decay != 0, "training.weight_decay", "0"),
            (training.clip_norm is not None, "training.clip_norm", "null"),
            (setup.schedule.part.name != "constant", "schedule", "constant"),
        ):
            if wrong:
                raise ValueError(
                    "it is the flow of descent on one loss with one learning rate, for which "
                    f"{key} must be {wanted}"
                )


class LaterFlowOptions(DescentFlowOptions):
    """Options of a flow that may begin after some steps of the optimiser."""

    start: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Step of training from which the flow goes on; before it, its states are training's. RMSprop's
    first steps, while its mean of squared gradients fills, are no flow."""

    def check(self, setup: Any) -> None:
        super().check(setup)
        if self.start >= setup.training.steps:
            raise ValueError(
                f"it starts at step {self.start}, and training ends at step {setup.training.steps}"
            )
