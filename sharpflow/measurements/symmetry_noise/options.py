"""Options of the noise of symmetries."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Charges of the network's symmetries, the gradient noise of their sides, and what it predicts.

    A symmetry has units (hidden units, channels, …), each with outer and inner parameters. Arrays
    run over the units of all chosen symmetries, one after another.
    """

    every: Stride = 100
    """Stride, in steps."""
    parameters: Annotated[list[str], Field(min_length=1, default_factory=lambda: ["*"])]
    """Shell-style patterns of parameters' names: symmetries that move one of them are chosen, and
    belong to the group of the first pattern that fits; imbalances are given by group."""
    matrices: bool = False
    """For symmetries that mix units: whether arrays run over the upper triangles of their matrices,
    row by row, instead of over their diagonals. Those of roots always run over units."""
    gradients: Literal["samples", "batches"] = "samples"
    """`samples`: the gradient of each sample by itself; `batches`: those of batches, for networks
    in which a batch's samples meet, as under batch normalisation."""
    samples: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Samples a state, for `gradients: samples`; `null` takes all of the run's, or 1,000 of a
    population's."""
    draws: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    """Batches a state, for `gradients: batches`, drawn as training draws them."""
    batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Batch size S of E[ĝ²] and of drawn batches; `null` takes that of training."""
    law: Literal["sgd"] | None = "sgd"
    """What is predicted beside charges and noise. `sgd`: the expected change of each charge in a
    step, and the charge that such steps lead to from the start. `null`: nothing; under Adam the
    measurement `adam_balance` has its own charges."""

    @model_validator(mode="after")
    def _own_keys(self):
        kinds = {"samples": ("draws",), "batches": ("samples",)}
        for name in kinds[self.gradients]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is not for gradients = {self.gradients}")
        return self

    def needs(self) -> Needs:
        return ("linear steps", "unclipped steps") if self.law else ()

    def drawn(self, batch: int) -> int:
        if self.gradients == "samples":
            return self.samples or 1000
        return self.draws * (self.batch or batch)

    def gives(self) -> Words:
        sides = ("noise", "gradient", "root")
        found = {f"symmetry_{name}_{side}" for name in sides for side in ("outer", "inner")}
        found |= {"symmetry_of", "symmetry_group", "symmetry_charge", "symmetry_charge_share"}
        found |= {"symmetry_imbalance", "symmetry_root_imbalance"}
        if self.law == "sgd":
            found |= {"symmetry_drift", "symmetry_charge_predicted"}
        return frozenset(found)
