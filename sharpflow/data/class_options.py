"""Options that sources with classes share; light to import."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from sharpflow.data import balance
from sharpflow.parts.options import DataOptions, Form, Seed, TargetForm, Words, distinct

Scaling = Literal["unit", "standardised", "contrast", "whitened"]


class ClassTargets(DataOptions):
    """What becomes of classes."""

    targets: balance.Targets = "signs"
    """`signs`: +1 for the first half of the classes and -1 for the second; `one_hot`: an output a
    class, 1 for the sample's own."""
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the samples whose label is wrong: the other sign, or another class."""
    label_seed: Seed = 0
    """Seed of the draw of the wrong labels."""

    def capabilities(self) -> Words:
        """What its datasets have beyond inputs and targets."""
        return frozenset({"finite samples"})

    def outputs(self, classes: int | None) -> int | None:
        """Numbers a target, for that number of classes."""
        return 1 if self.targets == "signs" else classes


class PictureOptions(ClassTargets):
    """Pictures of several classes."""

    scaling: Scaling = "standardised"
    """`unit`: pixels in [0, 1]; `standardised`: mean 0 and variance 1 a channel; `contrast`: mean 0
    and variance 1 a picture, its brightness and contrast taken out; `whitened`: the same, and then
    principal components of about one variance over the chosen pictures (ZCA; those with less than a
    hundredth of the largest variance stay smaller), mean square 1 a pixel."""
    pooling: Annotated[int, Field(ge=1, le=1024)] = 1
    """Side, in pixels, of the squares whose mean is a pixel, before `scaling`: 8 makes 4 × 4
    of 32 × 32."""
    draw: Literal["by_seed", "fixed"] = "by_seed"
    """`by_seed`: each seed has samples of its own, the draw of its number; `fixed`: all seeds have
    the same, those of `draw_seed`, and differ in their start alone."""
    draw_seed: Seed | None = None
    """With `draw: fixed`, which draw; `null` takes the first samples in the source's order."""

    @model_validator(mode="after")
    def _one_draw(self):
        if self.draw == "by_seed" and self.draw_seed is not None:
            raise ValueError("draw_seed is for draw = fixed; by_seed takes each run's own seed")
        return self

    def of_seed(self, seed: int) -> "DataOptions":
        """The options of the dataset of the run with a seed."""
        if self.draw == "fixed":
            return self
        return self.model_copy(update={"draw": "fixed", "draw_seed": seed})

    def original_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture before `pooling`."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _whole_squares(self):
        _, rows, columns = self.original_shape()
        if rows % self.pooling or columns % self.pooling:
            raise ValueError(
                f"pooling = {self.pooling} does not divide pictures of {rows} × {columns} pixels "
                "into whole squares"
            )
        return self

    def pooled_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an input."""
        channels, rows, columns = self.original_shape()
        return channels, rows // self.pooling, columns // self.pooling

    @property
    def label(self) -> str:
        """How the page and file names call it."""
        pooled = "" if self.pooling == 1 else f"-pooled-{self.pooling}"
        drawn = "" if self.draw_seed is None else f"-draw-{self.draw_seed}"
        return f"{self.scaling}{pooled}{drawn}"


class NumberedPictures(PictureOptions):
    """A balanced choice from pictures whose classes are numbers.

    Attributes:
        shape: channels, rows and columns of a picture.
        class_count: number of classes that the source has.
    """

    shape: ClassVar[tuple[int, int, int]]
    class_count: ClassVar[int] = 10

    samples: Annotated[int, Field(ge=2, le=60_000)] = 1000
    """Number of images n, as many of each sign or class: the first of it in the source's order."""
    classes: (
        Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2), AfterValidator(distinct)]
        | None
    ) = None
    """Classes by number, in the order of their labels; by default all, in their own order."""

    @property
    def available(self) -> int:
        """Number of classes that there are."""
        return self.class_count

    @model_validator(mode="after")
    def _balanced(self):
        if unknown := [each for each in self.classes or () if each >= self.available]:
            raise ValueError(
                f"classes lists {unknown[0]}, where the classes are 0 to {self.available - 1}"
            )
        balance.check(self._chosen, self.samples, self.targets)
        return self

    def original_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a picture before `pooling`."""
        return self.shape

    @property
    def _chosen(self) -> int:
        return self.available if self.classes is None else len(self.classes)

    def form(self) -> Form:
        """The form of its samples."""
        outputs = self.outputs(self._chosen)
        return Form("images", self.pooled_shape(), outputs, self.targets, self.samples)


class TaskOptions(ClassTargets):
    """A user's samples, for regression or of several classes."""

    task: Literal["regression", "classes"] = "regression"
    """`regression`: targets are numbers; `classes`: they come from labels, as `targets` says."""
    samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of samples: the first in the file's order, for classes as many of each sign or class;
    `null` takes all, balanced or not."""
    classes: Annotated[list[int | str], Field(min_length=2), AfterValidator(distinct)] | None = None
    """Labels whose samples are taken, in the order of the outputs or signs; by default all, in
    ascending order."""

    @model_validator(mode="after")
    def _balanced(self):
        if self.task == "classes":
            count = None if self.classes is None else len(self.classes)
            balance.check(count, self.samples, self.targets)
            return self
        for name in ("targets", "label_noise", "label_seed", "classes"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for task = classes, not for {self.task}")
        return self

    def target_form(self, outputs: int | None) -> tuple[int | None, TargetForm]:
        """Numbers a target and their form; `outputs` is the first for regression."""
        if self.task == "regression":
            return outputs, "real"
        return self.outputs(None if self.classes is None else len(self.classes)), self.targets


class ArrayOptions(TaskOptions):
    """Samples in arrays."""

    input_form: Literal["vectors", "images", "tokens"] = "vectors"
    """What the inputs are: `vectors` (n, d), `images` (n, channels, rows, columns), or `tokens`
    (n, length), whole numbers from 0."""
    task: Literal["regression", "classes", "next_token"] = "regression"
    """`regression`: targets (n,) or (n, k); `classes`: labels (n,), from which targets are made as
    `targets` says; `next_token`: labels (n, length), a token for every position."""
    classes: (
        Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2), AfterValidator(distinct)]
        | None
    ) = None
    """Labels whose samples are taken, in the order of the outputs or signs; by default all, in
    ascending order."""
    vocabulary: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Number of different tokens; by default the largest and one more. Only for tokens."""

    @model_validator(mode="after")
    def _tokens(self):
        if self.input_form != "tokens" and self.task == "next_token":
            raise ValueError("task = next_token needs input_form = tokens")
        if self.input_form != "tokens" and self.vocabulary is not None:
            raise ValueError("vocabulary is for input_form = tokens")
        return self

    def form(self) -> Form:
        """The form of its samples."""
        samples, vocabulary = self.samples, self.vocabulary
        outputs, targets = self.target_form(None)
        if self.task == "next_token":
            outputs, targets = vocabulary, "classes"
        return Form(self.input_form, None, outputs, targets, samples, vocabulary)
