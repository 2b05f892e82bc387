"""A callback of Lightning that follows the sharpness of the module that is trained."""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sharpflow.curvature.monitor import Log, SharpnessMonitor
from sharpflow.integrations.callback import start_monitor
from sharpflow.integrations.probe import held, training_samples

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer  # pyright: ignore[reportMissingImports]
else:
    try:
        from lightning.pytorch import Callback, LightningModule, Trainer
    except ImportError:
        from pytorch_lightning import Callback, LightningModule, Trainer


class SharpnessCallback(Callback):
    """Measures the sharpness of a LightningModule on fixed samples while it is trained.

    Its numbers go to the trainer's loggers, at their steps, and to `trainer.callback_metrics`; its
    state goes into the checkpoints. The training is the same to the last bit with it and without.

    The loss is called in evaluation mode, so that dropout is off and batch norm uses its running
    statistics, unless `eval_mode` is False. Modules are put back into the modes that they were in.
    Under several processes each measures its share of the samples, and all get the same number.

    Args:
        loss: `loss(pl_module, batch)`, the scalar loss of a batch, which logs nothing; by default
            the module's method `loss(batch)`.
        probe: batches to measure on, read once when the training starts, and held on the module's
            device; by default `samples` of the training data.
        samples: of the training data, chosen once by a fixed seed.
        batch_size: of these; by default that of the training data's loader.
        every: optimiser steps from one measurement to the next.
        budget: largest share of the training time; see `SharpnessMonitor`.
        effective: whether the sharpness is that of the optimiser's metric, and its threshold is
            given; for optimisers that `preconditioning` knows.
        eval_mode: whether to measure in evaluation mode.
        log: more that takes the numbers; see `SharpnessMonitor`.
        prog_bar: whether the progress bar shows the sharpness.
        name: that the logged numbers begin with; several callbacks need different ones.
        clock: seconds that pass.
        options: of `SharpnessTracker`: `k`, `tol`, `only`, `weight`, `check_every`, and more.

    Attributes:
        monitor: from the start of the training on, with `records` of all measurements.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], Tensor] | None = None,
        probe: Iterable[Any] | None = None,
        *,
        samples: int = 1024,
        batch_size: int | None = None,
        every: int = 50,
        budget: float = 0.1,
        effective: bool = True,
        eval_mode: bool = True,
        log: Log | Sequence[Log] = (),
        prog_bar: bool = False,
        name: str = "sharpness",
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ) -> None:
        super().__init__()
        self.monitor: SharpnessMonitor | None = None
        self._loss, self._probe, self._samples, self._batch_size = loss, probe, samples, batch_size
        self._effective, self._prog_bar, self._name = effective, prog_bar, name
        self._logs = [log] if callable(log) else list(log)
        self._schedule = {
            "every": every, "budget": budget, "eval_mode": eval_mode, "name": name, "clock": clock,
        }  # fmt: skip
        self._options = options
        self._loaded: Mapping[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """What the state is found by in a checkpoint."""
        return self._generate_state_key(name=self._name)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the samples and make the tracker.

        Raises:
            ValueError: there is no loss, no probe, no one optimiser, or as for `SharpnessTracker`.
        """
        processes = trainer.world_size
        batches = self._probe
        if batches is None:
            batches = training_samples(
                trainer.train_dataloader,
                self._samples,
                self._batch_size,
                (trainer.global_rank, processes),
            )

        def log(step: int, scalars: Mapping[str, float]) -> None:
            self._log(trainer, pl_module, scalars)

        self.monitor = start_monitor(
            pl_module,
            self._loss or _loss_of(pl_module),
            held(batches, partial(_place, trainer)),
            trainer.optimizers if self._effective else None,
            [log, *(self._logs if trainer.is_global_zero else [])],
            self._schedule,
            self._options | {"distributed": processes > 1},
        )
        if self._loaded is not None:
            self.monitor.load_state_dict(self._loaded)
            self._loaded = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if an optimiser step was taken and a measurement is due."""
        if self.monitor is not None and trainer.global_step > self.monitor.steps:
            self.monitor.step(trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """State of the monitor, for a checkpoint."""
        return self.monitor.state_dict() if self.monitor else dict(self._loaded or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until the training starts."""
        self._loaded = state_dict or None

    def _log(
        self, trainer: Trainer, pl_module: LightningModule, scalars: Mapping[str, float]
    ) -> None:
        # `pl_module.log` alone would lose what falls between the trainer's logging steps
        for logger in trainer.loggers:
            logger.log_metrics(
                dict(scalars), step=trainer.fit_loop.epoch_loop._batches_that_stepped
            )
        for name, value in scalars.items():
            shown = self._prog_bar and name == self._name
            pl_module.log(name, value, prog_bar=shown, logger=False, on_step=True, on_epoch=False)


def _place(trainer: Trainer, batch: Any) -> Any:
    """A batch as `training_step` gets it: converted, through the module's hooks, on its device."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _loss_of(pl_module: LightningModule) -> Callable[[Any, Any], Tensor]:
    if not inspect.isfunction(getattr(type(pl_module), "loss", None)):
        raise ValueError(
            "the loss to measure is not known: give loss, a function of the module and a batch, or "
            f"give {type(pl_module).__name__} a method loss(batch)."
        )
    return lambda module, batch: module.loss(batch)
