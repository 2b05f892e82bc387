"""Sharpness along a training: checkpoints, schedule and budget, thresholds, logs."""

import csv
import math
import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from processes import one_of_two
from small_classifier import draw, net, samples
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adagrad, Adam
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature import SharpnessTracker, preconditioning, sharpness
from sharpflow.curvature.monitor import SharpnessMonitor, SharpnessRecord, evaluation_mode
from sharpflow.integrations.loggers import csv_log, tensorboard_log, wandb_log

INPUTS, LABELS = samples(23)


class Clock:
    """Seconds that pass only where a test lets them."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def loss_of_pair(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def loader():
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=12)


def classifier(optimiser=None, **options):
    """A model and its tracker over a loader."""
    model = net()
    chosen = optimiser(model) if optimiser else None
    tracker = SharpnessTracker(model, loss_of_pair, loader(), optimiser=chosen, **options)
    return model, chosen, tracker


def dense(samples=23, optimiser=None, **options):
    """A model with a closed form and its tracker; few samples are compressed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    chosen = optimiser(model) if optimiser else SGD(model.parameters(), lr=0.1)
    inputs, targets = draw(samples, 5), 3 * draw(samples, 2, seed=1)
    return model, chosen, SharpnessTracker(model, mse_loss, inputs, targets, **options)


def train_step(model, optimiser):
    optimiser.zero_grad()
    cross_entropy(model(INPUTS)[:, :2], LABELS % 2).backward()
    optimiser.step()


# --- checkpoints of a tracker

MAKERS = {
    "sgd": lambda: classifier(lambda m: SGD(m.parameters(), lr=0.1), k=1, check_every=4),
    "adam": lambda: classifier(lambda m: Adam(m.parameters(), lr=1e-2), k=2, check_every=4),
    "closed form": lambda: dense(k=2, check_every=4),
    "compressed": lambda: dense(samples=4, k=1, check_every=4),
    "left the compressed form": lambda: dense(samples=4, k=6, check_every=4),
}


def follow(model, optimiser, tracker, steps):
    found = []
    for _ in range(steps):
        train_step(model, optimiser)
        result = tracker.measure()
        found.append((result.values.tolist(), result.vectors.tolist(), result.matvecs))
    return found


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_resumed_run_measures_the_same_to_the_last_bit(name, tmp_path):
    model, optimiser, tracker = MAKERS[name]()
    follow(model, optimiser, tracker, 10)
    saved = tmp_path / "checkpoint.pt"
    parts = {"model": model, "optimiser": optimiser, "tracker": tracker}
    torch.save({key: part.state_dict() for key, part in parts.items()}, saved)
    expected = follow(model, optimiser, tracker, 10)

    state = torch.load(saved, weights_only=True)
    model, optimiser, fresh = MAKERS[name]()
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    fresh.load_state_dict(state["tracker"])
    assert fresh.verified == tracker.verified != {}
    assert follow(model, optimiser, fresh, 10) == expected
    assert fresh.dense is tracker.dense
    assert fresh.corrections == tracker.corrections
    assert fresh.threshold == tracker.threshold or math.isnan(fresh.threshold)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            fresh.state_dict()["warm_start"]["changes"],
            tracker.state_dict()["warm_start"]["changes"],
            strict=True,
        )
    )


def test_the_state_matters():
    """Without it, the same step costs more products."""
    model, optimiser, tracker = MAKERS["sgd"]()
    state = None
    for _ in range(9):
        train_step(model, optimiser)
        tracker.measure()
    state = tracker.state_dict()
    train_step(model, optimiser)
    warm, cold = (SharpnessTracker(model, loss_of_pair, loader()) for _ in range(2))
    state["of"]["optimiser"] = "none"
    warm.load_state_dict(state)
    assert warm.measure().matvecs < cold.measure().matvecs


def test_a_state_from_before_the_first_measurement():
    _, _, tracker = classifier()
    state = tracker.state_dict()
    model, _, fresh = classifier()
    fresh.load_state_dict(state)
    expected = tracker.measure().values.tolist()
    assert fresh.measure().values.tolist() == expected
    assert model is not tracker.model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: classifier(k=2), "k = 1, and here it is 2"),
        (lambda: classifier(only="0.*"), "only = []"),
        (lambda: classifier(lambda m: SGD(m.parameters(), lr=1.0)), "optimiser = 'none'"),
        (lambda: (0, 0, SharpnessTracker(net(), *data(), dtype=torch.float32)), "dtype = "),
        (lambda: (0, 0, SharpnessTracker(net().float(), *data(torch.float32))), "'0.weight' is"),
        (lambda: (0, 0, SharpnessTracker(net(nn.Linear(6, 6)).double(), *data())), "'2.weight' is"),
    ],
)
def test_a_state_of_another_tracker_is_refused(make, words):
    state = SharpnessTracker(net(), *data()).state_dict()
    _, _, other = make()
    before = other.state_dict()["generator"].clone()
    with pytest.raises(ValueError) as caught:
        other.load_state_dict(state)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(other.state_dict()["generator"], before)


def data(dtype=torch.float64):
    return cross_entropy, INPUTS.to(dtype), LABELS


def test_what_is_no_state_or_of_other_data_is_refused():
    _, _, tracker = dense()
    whole = tracker.state_dict()
    tracker.load_state_dict(whole)
    for state in ({"model": 1}, None, whole | {"warm_start": {}}, whole | {"generator": None}):
        with pytest.raises(ValueError, match="no state of a SharpnessTracker"):
            tracker.load_state_dict(state)
    with pytest.raises(ValueError, match="no state of a SharpnessMonitor"):
        SharpnessMonitor(tracker).load_state_dict(None)
    state = dense(samples=4)[2].state_dict()
    with pytest.raises(ValueError, match="of another loss, or of other data"):
        tracker.load_state_dict(state)


# --- the metric of plain SGD is the identity


@pytest.mark.parametrize(("keys", "factor"), [({}, 2.0), ({"momentum": 0.9}, 3.8)])
def test_plain_sgd_keeps_the_closed_form_and_its_threshold_is_of_the_present(keys, factor):
    model, optimiser, _ = dense(optimiser=lambda m: SGD(m.parameters(), lr=0.1, **keys))
    inputs, targets = draw(23, 5), draw(23, 2, seed=1)
    tracker = SharpnessTracker(model, mse_loss, inputs, targets, tol=1e-8, optimiser=optimiser)
    found = tracker.measure()
    assert tracker.dense
    assert tracker.threshold == pytest.approx(factor / 0.1)
    assert found.values.item() == pytest.approx(
        sharpness(model, mse_loss, inputs, targets, tol=1e-8)
    )
    optimiser.param_groups[0]["lr"] = 0.05
    tracker.measure()
    assert tracker.threshold == pytest.approx(factor / 0.05)


def test_two_learning_rates_leave_the_closed_form():
    model, *_ = dense()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
    optimiser = SGD(groups, lr=0.02)
    inputs, targets = draw(23, 5), draw(23, 2, seed=1)
    tracker = SharpnessTracker(model, mse_loss, inputs, targets, tol=1e-8, optimiser=optimiser)
    found = tracker.measure().values.item()
    assert not tracker.dense
    plain = SharpnessTracker(model, lambda f, y: mse_loss(f, y), inputs, targets, k=1)
    hessian = plain._operator().to_dense()
    d = preconditioning(optimiser, dict(model.named_parameters())).diagonal.rsqrt()
    assert found == pytest.approx(float(torch.linalg.eigvalsh(d[:, None] * hessian * d)[-1]))
    assert tracker.threshold == pytest.approx(2 / 0.1)


def test_a_learning_rate_of_zero_has_an_infinite_threshold():
    model, optimiser, tracker = classifier(lambda m: Adam(m.parameters(), lr=1e-2), tol=1e-8)
    train_step(model, optimiser)
    expected = tracker.measure().values.item()
    optimiser.param_groups[0]["lr"] = 0.0
    assert tracker.measure().values.item() == pytest.approx(expected)
    assert tracker.threshold == math.inf


@pytest.mark.parametrize("still", [0, 1])
def test_parameters_with_a_learning_rate_of_zero_stand_still(still):
    """As frozen ones; the threshold is that of those that move."""
    model = net()
    rates = [0.1, 0.1]
    rates[still] = 0.0
    parts = [{"params": model[i].parameters(), "lr": r} for i, r in zip((0, 2), rates, strict=True)]
    optimiser = SGD(parts)
    tracker = SharpnessTracker(model, *data(), tol=1e-9, optimiser=optimiser)
    found = tracker.measure().values.item()
    moving = ("2.*", "0.*")[still]
    assert found == pytest.approx(sharpness(model, *data(), tol=1e-9, only=moving))
    assert tracker.threshold == pytest.approx(20.0)


def test_the_decay_of_adagrad_is_part_of_its_metric():
    model = net()
    optimiser = Adagrad(model.parameters(), lr=0.1, lr_decay=0.5)
    for _ in range(3):
        train_step(model, optimiser)
    params = dict(model.named_parameters())
    slower = preconditioning(optimiser, params).diagonal
    optimiser.param_groups[0]["lr_decay"] = 0.0
    torch.testing.assert_close(slower, 2.0 * preconditioning(optimiser, params).diagonal)


def test_an_optimiser_of_unknown_threshold_is_refused_at_once():
    with pytest.raises(ValueError, match="the threshold of RAdam is not known"):
        classifier(lambda m: torch.optim.RAdam(m.parameters()))


def legacy_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_measuring_over_a_loader_draws_nothing():
    """Reading a DataLoader draws a seed from PyTorch's generator."""
    model, *_ = classifier()
    before = torch.random.get_rng_state(), random.getstate(), legacy_state()
    tracker = SharpnessTracker(model, loss_of_pair, loader())
    tracker.measure()
    after = torch.random.get_rng_state(), random.getstate(), legacy_state()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


# --- the schedule


class Timed:
    """A tracker whose measurements take as long as is said."""

    distributed, optimiser, k = False, None, 1

    def __init__(self, clock, costs):
        _, _, self._tracker = classifier()
        self.model, self._clock, self._costs = self._tracker.model, clock, iter(costs)

    def measure(self, vectors):
        self._clock.now += next(self._costs)
        return self._tracker.measure(vectors)


def run(monitor, clock, steps, seconds=1.0):
    """Steps of a training that take as long; the step numbers that were measured."""
    measured = []
    for step in range(1, steps + 1):
        clock.now += seconds
        if monitor.step():
            measured.append(step)
    return measured


def forever(cost):
    while True:
        yield cost


def test_every_so_many_steps_where_the_budget_allows():
    clock = Clock()
    monitor = SharpnessMonitor(Timed(clock, forever(0.25)), every=5, budget=0.1, clock=clock)
    assert run(monitor, clock, 23) == [5, 10, 15, 20]
    assert [record.step for record in monitor.records] == [5, 10, 15, 20]
    assert all(record.seconds == 0.25 for record in monitor.records)


@pytest.mark.parametrize("budget", [0.125, 0.25, 0.5])
def test_the_share_of_the_time_is_kept(budget):
    """After the first measurement, whose cost nobody knows, it is never exceeded."""
    clock = Clock()
    monitor = SharpnessMonitor(Timed(clock, forever(4.0)), every=5, budget=budget, clock=clock)
    spent = []
    for step in range(1, 401):
        clock.now += 1.0
        if monitor.step():
            spent.append((step, 4.0 * (len(spent) + 1) / clock.now))
    assert all(share <= budget for _, share in spent[1:])
    # and it is used: a measurement waits for no more than a due step and the time that it needs
    assert spent[-1][1] > 0.8 * min(budget, 4 / 9)
    gaps = [b - a for (a, _), (b, _) in pairwise(spent[1:])]
    assert min(gaps) >= 5


def test_a_measurement_put_off_is_made_as_soon_as_the_budget_allows():
    clock = Clock()
    monitor = SharpnessMonitor(Timed(clock, forever(2.0)), every=10, budget=0.125, clock=clock)
    # 2 s at step 10 (second 12); due at 20, and 4 s are within an eighth at second 30 + 2 only
    assert run(monitor, clock, 45) == [10, 28, 42]


def test_the_cost_that_is_expected_is_that_of_the_last_one():
    clock = Clock()
    costs = iter([8.0, 0.0, 0.0, 0.0, 0.0])
    monitor = SharpnessMonitor(Timed(clock, costs), every=10, budget=0.25, clock=clock)
    # 8 s at second 18; another 8 s fit where 16 ≤ (t + 8) / 4, at second 56, which is step 48
    assert run(monitor, clock, 70) == [10, 48, 50, 60, 70]


def test_a_budget_of_one_never_waits():
    clock = Clock()
    monitor = SharpnessMonitor(Timed(clock, forever(100.0)), every=3, budget=1, clock=clock)
    assert run(monitor, clock, 9) == [3, 6, 9]


def test_steps_that_another_counts():
    clock = Clock()
    monitor = SharpnessMonitor(Timed(clock, forever(0.0)), every=10, clock=clock)
    counts = (4, 9, 13, 14, 20, 41, 42, 50)
    assert [step for step in counts if monitor.step(step)] == [13, 20, 41, 50]


@pytest.mark.parametrize(
    "keys",
    [{"every": 0}, {"every": 2.5}, {"every": True}, {"budget": 0}, {"budget": 1.5}],
)
def test_a_schedule_that_makes_no_sense_is_refused(keys):
    with pytest.raises(ValueError, match=next(iter(keys))):
        SharpnessMonitor(classifier()[2], **keys)


def test_a_resumed_monitor_goes_on_as_it_would_have(tmp_path):
    def make():
        clock = Clock()
        model, optimiser, tracker = MAKERS["sgd"]()
        lines = []
        monitor = SharpnessMonitor(
            tracker, 3, 0.5, lambda step, numbers: lines.append((step, numbers)), clock=clock
        )
        return clock, model, optimiser, monitor, lines

    def steps(count, clock, model, optimiser, monitor):
        for _ in range(count):
            train_step(model, optimiser)
            clock.now += 1.0
            monitor.step()

    clock, model, optimiser, monitor, lines = make()
    steps(10, clock, model, optimiser, monitor)
    parts = {"model": model, "optimiser": optimiser, "monitor": monitor}
    torch.save({n: part.state_dict() for n, part in parts.items()}, tmp_path / "c.pt")
    steps(10, clock, model, optimiser, monitor)

    state = torch.load(tmp_path / "c.pt", weights_only=True)
    later, model, optimiser, resumed, others = make()
    later.now += 1000.0  # another process, another zero of the clock
    for name, part in (("model", model), ("optimiser", optimiser), ("monitor", resumed)):
        part.load_state_dict(state[name])
    assert resumed.steps == 10
    assert resumed.records == monitor.records[:3]
    steps(10, later, model, optimiser, resumed)
    assert resumed.records == monitor.records
    assert others == lines[3:]
    assert [record.step for record in resumed.records] == [3, 6, 9, 12, 15, 18]


def test_what_was_spent_before_a_checkpoint_counts():
    clock = Clock()
    monitor = SharpnessMonitor(classifier()[2], every=10, budget=0.125, clock=clock)
    state = monitor.state_dict() | {"elapsed": 12.0, "spent": 2.0, "expected": 2.0, "steps": 10}
    state |= {"due": 20, "records": [vars(SharpnessRecord(10, (1.0,), (0.0,), None, True, 1, 2.0))]}
    monitor.load_state_dict(state)
    measured = []
    for step in range(11, 35):
        clock.now += 1.0
        if monitor.step():
            measured.append(step)
    assert measured[0] == 28


# --- what is recorded


def test_records_have_the_threshold_of_the_present_learning_rate():
    model, optimiser, tracker = classifier(lambda m: SGD(m.parameters(), lr=0.4, momentum=0.5))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    monitor = SharpnessMonitor(tracker, every=1, budget=1)
    for step in range(3):
        train_step(model, optimiser)
        scheduler.step()
        record = monitor.step()
        assert record.threshold == pytest.approx(3 / (0.4 * 0.5 ** (step + 1)))
        assert record.values[0] == pytest.approx(sharpness(model, loss_of_pair, loader()), rel=1e-4)
        assert record.converged
        assert record.residuals[0] <= 1e-3 * record.values[0]
        assert record.matvecs > 0


def test_names_of_what_is_logged():
    lines = []
    monitor = SharpnessMonitor(
        classifier(lambda m: SGD(m.parameters(), lr=0.1), k=3)[2],
        every=1,
        log=[lambda step, numbers: lines.append((step, numbers))] * 2,
        name="head",
    )
    record = monitor.step()
    assert lines == [(1, record.scalars("head"))] * 2
    assert record.scalars("head") == {
        "head": record.values[0],
        "head/2": record.values[1],
        "head/3": record.values[2],
        "head/threshold": pytest.approx(20),
        "head/residual": record.residuals[0],
        "head/converged": 1.0,
        "head/matvecs": record.matvecs,
        "head/seconds": record.seconds,
    }
    plain = SharpnessMonitor(classifier()[2], every=1).step()
    assert plain.threshold is None
    assert "sharpness/threshold" not in plain.scalars()


def test_a_network_that_diverged_is_recorded_as_such_and_the_training_goes_on():
    model, optimiser, tracker = classifier(lambda m: SGD(m.parameters(), lr=0.1))
    monitor = SharpnessMonitor(tracker, every=1, budget=1)
    monitor.step()
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf
    with pytest.warns(RuntimeWarning, match="step 2 has no sharpness: "):
        record = monitor.step()
    assert math.isnan(record.values[0])
    assert (record.converged, record.matvecs) == (False, 0)
    assert record.threshold == pytest.approx(20)
    assert record.scalars().keys() == monitor.records[0].scalars().keys()
    model.load_state_dict(net().state_dict())
    assert monitor.step().values == pytest.approx(monitor.records[0].values, rel=1e-3)
    assert optimiser.param_groups[0]["lr"] == 0.1


class Moody(nn.Linear):
    """Counts calls of `train`, which do more than set a flag in some modules."""

    calls = 0

    def train(self, mode=True):
        self.calls += 1
        return super().train(mode)


def test_dropout_is_off_while_measuring_and_modes_are_put_back():
    model = net(nn.Dropout(0.5), nn.BatchNorm1d(6), Moody(6, 6))
    model.double()[3].eval()
    with pytest.raises(ValueError, match="is in training mode"):
        SharpnessTracker(model, loss_of_pair, loader())
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    with evaluation_mode(model):
        tracker = SharpnessTracker(model, loss_of_pair, loader())
        expected = tracker.measure().values.item()
    record = SharpnessMonitor(tracker, every=1).step()
    assert record.values[0] == pytest.approx(expected)
    assert [module.training for module in model.modules()] == modes
    assert model[4].calls == 0
    with pytest.raises(ValueError, match="is in training mode"):
        SharpnessMonitor(tracker, every=1, eval_mode=False).step()
    assert [module.training for module in model.modules()] == modes


def test_training_is_the_same_with_and_without():
    def trained(measuring):
        torch.manual_seed(3)
        model = net(nn.Dropout(0.2))
        optimiser = Adam(model.parameters(), lr=1e-2)
        with evaluation_mode(model):
            tracker = SharpnessTracker(model, loss_of_pair, loader(), optimiser=optimiser)
        monitor = SharpnessMonitor(tracker, every=2, budget=1)
        shuffled = DataLoader(TensorDataset(INPUTS, LABELS), batch_size=6, shuffle=True)
        for _ in range(3):
            for batch in shuffled:
                optimiser.zero_grad()
                loss_of_pair(model, batch).backward()
                optimiser.step()
                if measuring:
                    monitor.step()
        assert len(monitor.records) == (6 if measuring else 0)
        return model.state_dict()

    plain, measured = trained(False), trained(True)
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


# --- logs


def test_csv_is_read_back_exactly_and_a_resumed_run_goes_on_with_it(tmp_path):
    path = tmp_path / "new folder" / "sharpness.csv"
    log = csv_log(path)
    for step in (5, 10, 15):
        log(step, {"sharpness": step / 3, "sharpness/threshold": math.inf})
    resumed = csv_log(path)  # from a checkpoint of step 9
    resumed(10, {"sharpness": 0.1, "sharpness/threshold": math.nan})
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [5, 10]
    assert [float(row["sharpness"]) for row in rows] == [5 / 3, 0.1]
    assert [row["sharpness/threshold"] for row in rows] == ["inf", "nan"]


def test_csv_of_other_columns_is_refused_and_kept(tmp_path):
    path = tmp_path / "table.csv"
    log = csv_log(path)
    log(1, {"sharpness": 1.0})
    with pytest.raises(ValueError, match="has the columns"):
        log(2, {"other": 1.0})
    with pytest.raises(ValueError, match="give another file"):
        csv_log(path)(2, {"other": 1.0})
    assert path.read_bytes() == b"step,sharpness\r\n1,1.0\r\n"


def test_tensorboard_has_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        log = tensorboard_log(writer)
        log(50, {"sharpness": 1.5, "sharpness/threshold": 20.0})
        log(100, {"sharpness": 2.5, "sharpness/threshold": 40.0})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("sharpness")] == [(50, 1.5), (100, 2.5)]
    assert [e.value for e in events.Scalars("sharpness/threshold")] == [20.0, 40.0]


class Run:
    """The face of a run of Weights & Biases: `log(data, step, commit)`, steps never going back."""

    def __init__(self):
        self.history = []

    def log(self, data, step=None, commit=None):
        assert isinstance(data, dict)
        assert not self.history or step >= self.history[-1][0]
        self.history.append((step, data))


def test_weights_and_biases_has_the_numbers():
    run = Run()
    monitor = SharpnessMonitor(classifier()[2], every=2, budget=1, log=wandb_log(run))
    for _ in range(4):
        monitor.step()
    assert run.history == [(r.step, r.scalars()) for r in monitor.records]
    assert [step for step, _ in run.history] == [2, 4]


# --- several processes


def process(rank: int, folder: str) -> None:
    """One of two, whose clocks differ: measuring takes the second four times as long."""
    with one_of_two(rank, folder):
        model = net()
        pairs = list(zip(INPUTS.split(5), LABELS.split(5), strict=True))[rank::2]
        tracker = SharpnessTracker(model, loss_of_pair, pairs, distributed=True)
        clock, plain = Clock(), tracker.measure

        def measure(vectors):
            clock.now += (0.5, 2.0)[rank]
            return plain(vectors)

        tracker.measure = measure
        monitor = SharpnessMonitor(tracker, every=5, budget=0.25, clock=clock)
        said = run(monitor, clock, 30), [record.values for record in monitor.records]
        torch.save(said, f"{folder}/{rank}.pt")


def test_processes_measure_at_the_same_steps(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    alone = Clock()
    slow = SharpnessMonitor(Timed(alone, forever(2.0)), every=5, budget=0.25, clock=alone)
    assert first[0] == run(slow, alone, 30)
    whole = sharpness(net(), cross_entropy, INPUTS, LABELS)
    assert first[1][0][0] == pytest.approx(whole, rel=1e-4)


def test_the_library_imports_no_trainer():
    code = "import sys, sharpflow.curvature, sharpflow.curvature.monitor, sharpflow.integrations"
    code += "; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded, done.stderr
    assert not loaded & {"lightning", "pytorch_lightning", "transformers", "tensorboard"}
