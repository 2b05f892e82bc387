"""Where the samples of a step come from: one dataset, a dataset for each run, or a population.

Each kind has `samples` (their number, None for a population), `inputs` and `targets` (all samples
that a full loss is taken over: shared by the runs, or with a leading run dimension), `batch(step)`
and `of_run(run)`. Random numbers are drawn for `BLOCK` steps at a time, each run's from its stream.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sharpflow.data.population import Population
from sharpflow.training.streams import BLOCK, generator, normals

Samples = tuple[Tensor, Tensor]
EVALUATION_SAMPLES = 2000
"""Samples of a population that stand for it where a loss has no closed form."""
_CACHED_NUMBERS = 2**17


class Streams:
    """Blocks of the random numbers of all runs; the last block is kept."""

    def __init__(self, stream: str, seeds: Sequence[int]):
        self.stream = stream
        self.seeds = seeds
        self._held = -1
        self._rows = torch.empty(0)

    def generators(self, purpose: str, block: int = 0) -> list[torch.Generator]:
        """One generator a run."""
        return [generator(self.stream, seed, purpose, block) for seed in self.seeds]

    def normals(self, purpose: str, shape: tuple[int, ...], block: int = 0) -> Tensor:
        """Standard normals (R, *shape), float32."""
        drawn = torch.empty(len(self.seeds), *shape)
        for row, source in zip(drawn, self.generators(purpose, block), strict=True):
            torch.randn(*shape, generator=source, out=row)
        return drawn

    def block(
        self, step: int, draw: Callable[[int], Tensor], length: int = BLOCK
    ) -> tuple[int, Tensor]:
        """The position of a step in its block, and what `draw(block)` gave for the block."""
        number, offset = divmod(step, length)
        if self._held != number:
            self._rows = draw(number)
            self._held = number
        return offset, self._rows


class SharedSamples:
    """One dataset for all runs; batches are drawn from it, for each run its own.

    Args:
        stream: of the random numbers.
        inputs, targets: (n, ...).
        size: samples a step, or None for all of them.
        epochs: whether batches are the parts of a random order of all samples, anew in each epoch;
            else each is drawn by itself, with replacement.

    Attributes:
        shared: whether all runs have the same samples.
    """

    shared = True

    def __init__(
        self,
        stream: Streams,
        inputs: Tensor,
        targets: Tensor,
        size: int | None,
        epochs: bool = False,
    ):
        self.inputs, self.targets = inputs, targets
        self.samples = self._count()
        self._stream, self._size, self._epochs = stream, size, epochs

    def _count(self) -> int:
        return self.targets.shape[0]

    def draw(self, count: int, source: torch.Generator, size: int | None = None) -> Tensor:
        """Places of the samples of batches that are drawn as a step's is, each by itself.

        Args:
            count: number of batches.
            source: of the random numbers.
            size: samples of each; by default those of a step.

        Returns:
            (count, size).
        """
        size = size or self._size
        assert size is not None, "all samples are taken, and none drawn"
        if not self._epochs:
            return torch.randint(self.samples, (count, size), generator=source)
        orders = (torch.randperm(self.samples, generator=source) for _ in range(count))
        return torch.stack([order[:size] for order in orders])

    def _block(self, block: int) -> Tensor:
        """Places of the samples of the steps of a block, or of an epoch, (R, steps, S)."""
        assert self._size is not None, "all samples are taken, and none drawn"
        sources = self._stream.generators("batches", block)
        if not self._epochs:
            return self._places([self.draw(BLOCK, source) for source in sources])
        orders = [torch.randperm(self.samples, generator=source) for source in sources]
        whole = self._per_epoch * self._size
        return self._places([order[:whole].view(-1, self._size) for order in orders])

    def _places(self, drawn: list[Tensor]) -> Tensor:
        return torch.stack(drawn).to(self.targets.device)

    @property
    def _per_epoch(self) -> int:
        """Steps of an epoch; what does not fill a batch is left out, other samples each time."""
        return self.samples // (self._size or self.samples)

    def _rows(self, step: int) -> Tensor:
        """Places of the samples of a step, (R, S)."""
        length = self._per_epoch if self._epochs else BLOCK
        offset, indices = self._stream.block(step, self._block, length)
        return indices[:, offset]

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step."""
        if self._size is None:
            return self.inputs, self.targets
        rows = self._rows(step)
        return self.inputs[rows], self.targets[rows]

    def of_run(self, run: int) -> Samples:
        """All samples of one run."""
        return self.inputs, self.targets


class RunSamples(SharedSamples):
    """A finite dataset for each run; inputs and targets (R, n, ...)."""

    shared = False

    def _count(self) -> int:
        return self.targets.shape[1]

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step, (R, S, ...)."""
        if self._size is None:
            return self.inputs, self.targets
        rows = self._rows(step)
        runs = torch.arange(len(rows), device=rows.device)[:, None]
        return self.inputs[runs, rows], self.targets[runs, rows]

    def of_run(self, run: int) -> Samples:
        """All samples of one run."""
        return self.inputs[run], self.targets[run]


class OnlineSamples:
    """A population: every batch is new. With no batch size it gives no batches.

    `inputs` and `targets` are `EVALUATION_SAMPLES` samples a run that no step sees.
    """

    samples: int | None = None
    shared = False

    def __init__(self, stream: Streams, population: Population, size: int | None):
        self.population = population
        self._stream, self._size = stream, size
        self._evaluation: Samples | None = None
        self._group: tuple[tuple[int, int], Samples] | None = None

    def _draw(self, block: int) -> Tensor:
        """Standard normals of a block, (R, BLOCK, S, d0 + d2), float32."""
        assert self._size is not None, "with no batch size there are no batches"
        stream, sizes = self._stream, (BLOCK, self._size, self.population.size)
        drawn = np.empty((len(stream.seeds), math.prod(sizes)), dtype=np.float32)
        for row, seed in zip(drawn, stream.seeds, strict=True):
            normals(row, stream.stream, seed, "normals", block)
        return torch.from_numpy(drawn.reshape(-1, *sizes))

    def batch(self, step: int) -> Samples:
        """Inputs and targets of a step, (R, S, ...)."""
        offset, normals = self._stream.block(step, self._draw)
        group = max(1, min(BLOCK, _CACHED_NUMBERS * BLOCK // normals.numel()))
        first = offset - offset % group
        if self._group is None or self._group[0] != (step - offset, first):
            samples = self.population.sample(normals[:, first : first + group])
            self._group = (step - offset, first), samples
        inputs, targets = self._group[1]
        return inputs[:, offset - first], targets[:, offset - first]

    def _held_out(self) -> Samples:
        if self._evaluation is None:
            shape = (EVALUATION_SAMPLES, self.population.size)
            self._evaluation = self.population.sample(self._stream.normals("evaluation", shape))
        return self._evaluation

    @property
    def inputs(self) -> Tensor:
        """(R, n, d0)."""
        return self._held_out()[0]

    @property
    def targets(self) -> Tensor:
        """(R, n, d2)."""
        return self._held_out()[1]

    def of_run(self, run: int) -> Samples:
        """The evaluation samples of one run."""
        return self.inputs[run], self.targets[run]


Batches = SharedSamples | RunSamples | OnlineSamples
