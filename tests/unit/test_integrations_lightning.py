"""The callback in real trainings by Lightning: what it measures, logs, saves and leaves alone."""

import csv
import logging
import math
import warnings
from importlib import import_module

import pytest
import torch
from small_classifier import net, samples
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sharpflow.curvature import preconditioning, sharpness

lightning = pytest.importorskip("lightning.pytorch")
SharpnessCallback = import_module("sharpflow.integrations.lightning").SharpnessCallback
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
INPUTS, LABELS = samples(40)
PROBE = [(INPUTS[:13], LABELS[:13]), (INPUTS[13:20], LABELS[13:20])]
ADAM = {"optimiser": torch.optim.Adam, "lr": 0.01}


class Classifier(lightning.LightningModule):
    """A small net with dropout that keeps the losses of its steps."""

    def __init__(self, optimiser=torch.optim.SGD, dropout=0.2, **keys):
        super().__init__()
        self.net = net(nn.Dropout(dropout))
        self.optimiser, self.keys, self.seen = optimiser, keys or {"lr": 0.1}, []

    def forward(self, inputs):
        return self.net(inputs)

    def loss(self, batch):
        return cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss)
        self.seen.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        optimiser = self.optimiser(self.parameters(), **self.keys)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]


def loader():
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=8, shuffle=True)


def fit(module, callbacks, folder, steps=10, resume=None, logger=False, loader=loader, **keys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            callbacks=callbacks,
            logger=logger,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=folder,
            **keys,
        )
        torch.manual_seed(5)
        trainer.fit(module, loader(), ckpt_path=resume)
    return trainer


def always(**keys):
    return SharpnessCallback(probe=PROBE, budget=1, **({"every": 2} | keys))


@pytest.mark.parametrize("keys", [{"lr": 0.1, "momentum": 0.9}, ADAM], ids=["sgd", "adam"])
def test_it_measures_the_module_in_evaluation_mode_against_the_present_threshold(keys, tmp_path):
    module, callback = Classifier(**keys), always(tol=1e-6, k=2)
    trainer = fit(module, [callback], tmp_path)
    records = callback.monitor.records
    assert [record.step for record in records] == [2, 4, 6, 8, 10]
    (optimiser,) = trainer.optimizers
    rate = keys["lr"] * 0.9**10
    assert optimiser.param_groups[0]["lr"] == pytest.approx(rate)
    factor = 38 if keys is ADAM else 3.8
    assert records[-1].threshold == pytest.approx(factor / rate)
    assert records[0].threshold == pytest.approx(factor / (keys["lr"] * 0.9**2))
    joined = [torch.cat(parts) for parts in zip(*PROBE, strict=True)]
    expected = sharpness(module.net.eval(), cross_entropy, *joined, tol=1e-6, optimiser=optimiser)
    assert records[-1].values[0] == pytest.approx(expected, rel=1e-5)
    if keys is ADAM:
        scale = preconditioning(optimiser, dict(module.named_parameters())).diagonal
        assert float(scale.max() / scale.min()) > 1.5, "the metric is another than that of SGD"


@pytest.mark.parametrize("probe", [None, PROBE], ids=["training samples", "given"])
def test_the_training_is_the_same_with_and_without(probe, tmp_path):
    measured, plain = Classifier(**ADAM), Classifier(**ADAM)
    callback = SharpnessCallback(probe=probe, samples=16, every=2, budget=1)
    fit(measured, [callback], tmp_path)
    end = torch.random.get_rng_state()
    fit(plain, [], tmp_path)
    assert len(callback.monitor.records) == 5
    assert measured.seen == plain.seen
    assert torch.equal(end, torch.random.get_rng_state())
    for name, tensor in measured.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name])
    assert [m.training for m in measured.modules()] == [m.training for m in plain.modules()]


def test_a_run_that_is_resumed_goes_on_as_it_would_have(tmp_path):
    # one batch an epoch: Lightning does not bring a plain loader back to the middle of one
    def numbers(callback):
        return [(r.step, r.values, r.residuals, r.matvecs) for r in callback.monitor.records]

    def full():
        return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=40)

    keys = {**ADAM, "dropout": 0.0}
    whole = always(check_every=3)
    fit(Classifier(**keys), [whole], tmp_path, steps=10, loader=full)
    first = always(check_every=3)
    trainer = fit(Classifier(**keys), [first], tmp_path, steps=5, loader=full)
    trainer.save_checkpoint(tmp_path / "five.ckpt")
    assert torch.load(tmp_path / "five.ckpt", weights_only=True)["callbacks"]
    second = always(check_every=3)
    fit(Classifier(**keys), [second], tmp_path, 10, tmp_path / "five.ckpt", loader=full)
    assert [step for step, *_ in numbers(second)] == [2, 4, 6, 8, 10]
    assert numbers(second) == numbers(whole)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    callback = always()
    fit(Classifier(), [callback], tmp_path, steps=2)
    other = always(k=2)
    other.load_state_dict(callback.state_dict())
    assert other.state_dict()["steps"] == 2, "kept until the training starts"
    with pytest.raises(ValueError, match="k = 1, and here it is 2"):
        fit(Classifier(), [other], tmp_path, steps=2)


def test_loggers_and_metrics_have_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = [
        lightning.loggers.CSVLogger(tmp_path / "csv"),
        lightning.loggers.TensorBoardLogger(tmp_path / "board"),
    ]
    lines = []
    callback = always(every=3, log=lambda *line: lines.append(line), prog_bar=True)
    trainer = fit(Classifier(), [callback], tmp_path, logger=loggers, log_every_n_steps=5)
    records = callback.monitor.records
    assert [record.step for record in records] == [3, 6, 9]
    with open(f"{loggers[0].log_dir}/metrics.csv", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["sharpness"]]
    # a trainer's logs count its batches from 0
    assert [int(row["step"]) for row in rows] == [2, 5, 8]
    assert [float(row["sharpness"]) for row in rows] == [r.values[0] for r in records]
    assert [float(row["sharpness/threshold"]) for row in rows] == [r.threshold for r in records]
    events = EventAccumulator(loggers[1].log_dir)
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("sharpness")]
    assert found == [(r.step - 1, pytest.approx(r.values[0])) for r in records]
    assert float(trainer.callback_metrics["sharpness"]) == pytest.approx(records[-1].values[0])
    assert float(trainer.progress_bar_metrics["sharpness"]) == pytest.approx(records[-1].values[0])
    assert lines == [(r.step, r.scalars()) for r in records]


def test_optimiser_steps_are_counted_and_not_batches(tmp_path):
    callback = always()
    fit(Classifier(), [callback], tmp_path, steps=4, accumulate_grad_batches=2)
    assert [record.step for record in callback.monitor.records] == [2, 4]


def test_the_default_probe_is_of_the_training_data_and_fixed(tmp_path):
    callback = SharpnessCallback(samples=11, every=1, budget=1, tol=1e-6)
    module = Classifier()
    fit(module, [callback], tmp_path, steps=1)
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:11]
    expected = sharpness(module.net.eval(), cross_entropy, INPUTS[chosen], LABELS[chosen], tol=1e-6)
    assert callback.monitor.records[0].values[0] == pytest.approx(expected, rel=1e-5)
    parts = callback.monitor.tracker._general.batches
    assert [len(batch[0]) for batch in parts] == [8, 3]


def test_batches_pass_through_the_hooks_of_the_module(tmp_path):
    class Scaled(Classifier):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0] * 3, batch[1]

    module, callback = Scaled(), always(tol=1e-6)
    fit(module, [callback], tmp_path, steps=2)
    joined = [torch.cat(parts) for parts in zip(*PROBE, strict=True)]
    expected = sharpness(module.net.eval(), cross_entropy, 3 * joined[0], joined[1], tol=1e-6)
    assert callback.monitor.records[0].values[0] == pytest.approx(expected, rel=1e-5)


class TwoOptimisers(Classifier):
    """Each trains a layer."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        for optimiser in self.optimizers():
            optimiser.zero_grad()
        self.manual_backward(loss)
        for optimiser in self.optimizers():
            optimiser.step()

    def configure_optimizers(self):
        first, _, _, last = self.net
        return [torch.optim.SGD(m.parameters(), lr=lr) for m, lr in ((first, 0.1), (last, 0.5))]


def test_of_several_optimisers_the_one_that_holds_the_parameters_is_taken(tmp_path):
    callbacks = [always(only="net.3.*", name="last"), always(effective=False)]
    trainer = fit(TwoOptimisers(), callbacks, tmp_path, steps=8)
    first, second = (callback.monitor.records for callback in callbacks)
    assert [record.step for record in first] == [2, 4, 6, 8]
    assert {record.threshold for record in first} == {4.0}
    assert {record.threshold for record in second} == {None}
    assert trainer.callback_metrics["last"] <= trainer.callback_metrics["sharpness"] * 1.001
    assert len({callback.state_key for callback in callbacks}) == 2
    with pytest.raises(ValueError, match="0 optimisers hold all the measured parameters"):
        fit(TwoOptimisers(), [always()], tmp_path)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(INPUTS, LABELS, strict=True))


class NoLoss(Classifier):
    loss = None

    def training_step(self, batch, batch_idx):
        return cross_entropy(self(batch[0]), batch[1])


@pytest.mark.parametrize(
    ("module", "callback", "keys", "words"),
    [
        (NoLoss, always, {}, "give NoLoss a method loss"),
        (
            Classifier,
            lambda: SharpnessCallback(),
            {"loader": lambda: DataLoader(Stream(), batch_size=8)},
            "without numbered samples; give probe",
        ),
        (Classifier, lambda: always(eval_mode=False), {}, "net.2 .Dropout. is in training mode"),
        (lambda: Classifier(torch.optim.RAdam), always, {}, "threshold of RAdam is not known"),
        (Classifier, always, {"precision": "bf16-true"}, "torch.float32 or torch.float64 only"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(
    module, callback, keys, words, tmp_path
):
    made = module()
    with pytest.raises(ValueError, match=words):
        fit(made, [callback()], tmp_path, **keys)
    assert made.seen == []


def test_a_loss_of_the_users(tmp_path):
    module = NoLoss()
    callback = always(loss=lambda module, batch: module(batch[0]).pow(2).mean(), tol=1e-6)
    fit(module, [callback], tmp_path, steps=2)
    inputs = torch.cat([batch[0] for batch in PROBE])
    expected = sharpness(
        module.net.eval(), lambda f, _: f.pow(2).mean(), inputs, LABELS[:20], tol=1e-6
    )
    assert callback.monitor.records[0].values[0] == pytest.approx(expected, rel=1e-5)
    assert not math.isnan(expected)
