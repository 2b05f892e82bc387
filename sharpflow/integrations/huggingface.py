"""Losses, weights and a trainer's callback for the models of Hugging Face transformers."""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # pyright: ignore[reportMissingImports]
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR  # pyright: ignore[reportMissingImports]

from sharpflow.curvature.batches import changed
from sharpflow.curvature.graphs import at_parameters
from sharpflow.curvature.model_loss import random_state_kept
from sharpflow.curvature.monitor import Log, SharpnessMonitor, evaluation_mode
from sharpflow.curvature.streamed_loss import Weight
from sharpflow.integrations.callback import start_monitor
from sharpflow.integrations.probe import held, training_samples

IGNORED = -100
"""A label that the losses of transformers leave out."""


def huggingface_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """The loss that a model computes itself of a batch with labels.

    Raises:
        ValueError: it computes none.
    """
    loss = model(**batch).loss
    if loss is None:
        raise ValueError("the model computes no loss of the batch; does the batch hold labels?")
    return loss


def huggingface_logits(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """The logits of a batch, for a loss of one's own or a Gauss-Newton matrix."""
    return model(**batch).logits


def label_tokens(batch: Mapping[str, Any], shifted: bool = True) -> int:
    """Number of labels of a batch that are not ignored: the weight of a mean over them.

    Args:
        batch: with `labels`, (samples, …, length).
        shifted: whether the model shifts them, as a causal one does, which predicts no first token;
            `label_weight` finds that out.

    Raises:
        ValueError: the batch has no labels.
    """
    labels = batch.get("labels")
    if labels is None:
        raise ValueError("the batch holds no labels to count; give weight, a function of a batch.")
    return int((labels[..., 1:] != IGNORED if shifted else labels != IGNORED).sum())


def label_weight(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> Weight:
    """`label_tokens` as the model counts them: which logits its own loss depends on says so.

    Costs a forward pass of each batch. Models of one family differ: GPT-2 shifts the labels itself,
    Bart's decoder does not.

    Args:
        model: any of transformers, in the mode that it is measured in.
        batches: of the model; read once.

    Returns:
        The weight of a batch, for `StreamedLoss`, `sharpness` or `SharpnessTracker`.

    Raises:
        ValueError: the loss is a mean over something else, or its logits are not at hand.
    """
    with (
        random_state_kept(range(torch.cuda.device_count())),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        counts = [
            (label_tokens(batch), label_tokens(batch, shifted=False), _counted(model, batch))
            for batch in batches
        ]
    if all(counted == shifted for shifted, _, counted in counts):
        return label_tokens
    _, plain_first, first = counts[0]
    # several labels a row of the logits, as of a choice of many, change no share
    if all(counted * plain_first == plain * first for _, plain, counted in counts):
        return partial(label_tokens, shifted=False)
    raise ValueError(
        "the loss is not a mean over the labels that are not ignored, shifted or not; give weight, "
        "a function of a batch, for what it is a mean over."
    )


def _counted(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """Number of rows of the logits that the loss depends on."""
    outputs = at_parameters(model, {}, lambda: model(**batch))  # buffers stay as they are
    logits = getattr(outputs, "logits", None)
    slope = None
    if isinstance(logits, Tensor) and logits.requires_grad and outputs.loss is not None:
        (slope,) = torch.autograd.grad(outputs.loss, logits, allow_unused=True)
    if slope is None:
        raise ValueError(
            "what the loss is a mean over cannot be read from the logits; give weight, a function "
            "of a batch."
        )
    return int((slope != 0).any(-1).sum())


class SharpnessCallback(TrainerCallback):
    """Measures the sharpness of a model on fixed samples while `transformers.Trainer` trains it.

    The numbers of each measurement are added to `state.log_history`, or given to `log` instead:
    `log=trainer_log(trainer)` reports them wherever the trainer reports. The state lies beside each
    checkpoint's other files as `<name>.pt`. The training is the same with the callback and without.

    The loss is the model's own, in evaluation mode (dropout off) unless `eval_mode` is False;
    modules are put back into the modes that they were in. Under several processes each measures its
    share of the samples, and all get the same number.

    Args:
        probe: batches to measure on, read once when the training starts, and held on the model's
            device; by default `samples` of the training data.
        loss: of the model and a batch.
        weight: what a batch weighs; by default `label_weight`.
        samples: of the training data, chosen once by a fixed seed.
        batch_size: of these; by default that of the trainer's loader.
        every: optimiser steps from one measurement to the next.
        budget: largest share of the training time; see `SharpnessMonitor`.
        effective: whether the sharpness is that of the optimiser's metric, and its threshold is
            given; for optimisers that `preconditioning` knows.
        eval_mode: whether to measure in evaluation mode.
        log: takes the numbers; see `SharpnessMonitor`.
        name: that the logged numbers begin with; several callbacks need different ones.
        resume_from: folder of the checkpoint that the training is resumed from; by default the one
            of that step in the trainer's output folder.
        clock: seconds that pass.
        options: of `SharpnessTracker`: `k`, `tol`, `only`, `check_every`, and more.

    Attributes:
        monitor: from the start of the training on, with `records` of all measurements.
    """

    def __init__(
        self,
        probe: Iterable[Any] | None = None,
        loss: Callable[[Any, Any], Tensor] = huggingface_loss,
        weight: Weight | None = None,
        *,
        samples: int = 256,
        batch_size: int | None = None,
        every: int = 50,
        budget: float = 0.1,
        effective: bool = True,
        eval_mode: bool = True,
        log: Log | Sequence[Log] | None = None,
        name: str = "sharpness",
        resume_from: str | Path | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ) -> None:
        self.monitor: SharpnessMonitor | None = None
        self._probe, self._loss, self._weight = probe, loss, weight
        self._samples, self._batch_size, self._effective = samples, batch_size, effective
        self._logs = None if log is None else [log] if callable(log) else list(log)
        self._name, self._resume_from, self._options = name, resume_from, options
        self._schedule = {
            "every": every, "budget": budget, "eval_mode": eval_mode, "name": name, "clock": clock,
        }  # fmt: skip

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the samples, make the tracker, and load its state beside a checkpoint.

        Raises:
            ValueError: there is no probe, no one optimiser, or as for `label_weight` and
                `SharpnessTracker`.
        """
        model, processes = kwargs["model"], args.world_size
        batches = self._probe
        if batches is None:
            batches = training_samples(
                kwargs["train_dataloader"],
                self._samples,
                self._batch_size,
                (args.process_index, processes),
            )
        device = next(model.parameters()).device
        batches = held(batches, lambda batch: changed(batch, lambda tensor: tensor.to(device)))
        with evaluation_mode(model, bool(self._schedule["eval_mode"])):
            weight = self._weight or label_weight(model, batches)

        def history(step: int, scalars: Mapping[str, float]) -> None:
            state.log_history.append({**scalars, "epoch": state.epoch, "step": step})

        logs = [history] if self._logs is None else self._logs
        self.monitor = start_monitor(
            model,
            self._loss,
            batches,
            [kwargs["optimizer"]] if self._effective else None,
            logs if state.is_world_process_zero else [],
            self._schedule,
            self._options | {"weight": weight, "distributed": processes > 1},
        )
        if state.global_step:
            self._resume(self._file(self._resume_from or _checkpoint(args, state)), state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure if that is due."""
        if self.monitor is not None:
            asked = control.should_log
            self.monitor.step(state.global_step)
            control.should_log = asked  # reporting the sharpness is not what the trainer asked for

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the state beside the checkpoint's other files."""
        folder = _checkpoint(args, state)
        if self.monitor is not None and state.is_world_process_zero:
            if folder.is_dir():
                torch.save(self.monitor.state_dict(), self._file(folder))
            else:
                warnings.warn(f"{folder} is absent; the state is not saved.", RuntimeWarning, 2)

    def _file(self, folder: str | Path) -> Path:
        return Path(folder) / f"{self._name.replace('/', '_')}.pt"

    def _resume(self, file: Path, state: TrainerState) -> None:
        assert self.monitor is not None
        if file.is_file():
            self.monitor.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        else:
            warnings.warn(
                f"{file} is absent: the sharpness is followed anew from step {state.global_step}; "
                "give resume_from where the checkpoint lies elsewhere.",
                RuntimeWarning,
                stacklevel=2,
            )


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def trainer_log(trainer: Any) -> Log:
    """Reports through a `transformers.Trainer`: to its history and to all that it reports to."""

    def log(step: int, scalars: Mapping[str, float]) -> None:
        trainer.log(dict(scalars))

    return log
