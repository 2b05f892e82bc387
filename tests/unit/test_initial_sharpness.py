"""Learning rates in units of 2/λ₀: of each run's own start, in training, replay and the tables."""

import numpy as np
import pytest
import torch
from config_folder import EXPERIMENT, ConfigFolder
from shards import found, network, one_run, shard, trained
from specs import measurements

from sharpflow.config import load
from sharpflow.curvature.reference import dense_hessian
from sharpflow.errors import ConfigError
from sharpflow.figures import base
from sharpflow.measurements.evaluate import evaluate
from sharpflow.results.tables import ExperimentTable, networks
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.training import train

MODEL = {"kind": "mlp", "hidden_layers": 2, "activation": "tanh"}
UNITS = {"kind": "initial_sharpness", "tol": 1e-6}
OPTIMISERS = {
    "sgd": ({}, 2.0),
    "heavy_ball": ({"momentum": 0.5}, 3.0),
    "nesterov": ({"momentum": 0.5}, 1.5),
}


def problem(make_dataset, units=0.8, schedule=UNITS, **changes):
    return shard(make_dataset(), MODEL, learning_rate=units, schedule=schedule, **changes)


def sharpness(problem, run):
    """λ₀ of a run, from its dense Hessian, over the parameters that are trained."""
    start = one_run(problem.initial_state(), run)
    own = {n: t for n, t in start.items() if n not in problem.frozen}

    def loss(trained):
        return problem.loss(network(problem)(start | trained), problem.targets)

    return float(torch.linalg.eigvalsh(dense_hessian(loss, own))[-1])


def test_each_run_has_the_rate_of_its_own_start(make_dataset):
    shared = problem(make_dataset)
    expected = torch.tensor([1.6 / sharpness(shared, run) for run in range(2)])
    assert abs(expected[0] / expected[1] - 1) > 0.005
    torch.testing.assert_close(shared.learning_rate(3), expected.double(), rtol=1e-5, atol=0)
    alone = problem(make_dataset, seeds=[1])
    torch.testing.assert_close(alone.learning_rate(3), expected[1:].double(), rtol=1e-5, atol=0)


def test_only_trained_parameters_are_curved(make_dataset):
    frozen = problem(make_dataset, training={"frozen": 1})
    expected = 1.6 / sharpness(frozen, 0)
    assert float(frozen.learning_rate(0)[0]) == pytest.approx(expected, rel=1e-5)
    assert expected > 1.001 * float(problem(make_dataset).learning_rate(0)[0])


def test_the_warm_up_rises_to_it(make_dataset):
    rate = problem(make_dataset, schedule=UNITS | {"warmup": 3}).learning_rate
    found_rates = torch.stack([rate(step) for step in range(6)])
    expected = torch.tensor([0.25, 0.5, 0.75, 1.0, 1.0, 1.0]).double()
    torch.testing.assert_close(found_rates[:, 0] / rate(9)[0], expected)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_run_is_the_one_with_that_number_as_its_rate(make_dataset, name):
    """And its threshold is that of the number."""
    options, factor = OPTIMISERS[name]
    chosen = {"optimiser": {"kind": name} | options}
    units = problem(make_dataset, **chosen)
    trajectory = train(units)
    for run in range(2):
        rate = float(units.learning_rate(0)[run])
        plain = shard(make_dataset(), MODEL, learning_rate=rate, seeds=[run], **chosen)
        alone = train(plain)
        for name_of, tensor in alone.states[10].items():
            torch.testing.assert_close(trajectory.states[10][name_of][run : run + 1], tensor)
        told = found(trajectory.table, "learning_rate", run, 4)
        np.testing.assert_allclose(told, rate)
        told = found(trajectory.table, "stability_threshold", run, 4)
        np.testing.assert_allclose(told, factor / rate)


def test_replay_and_resumption_take_the_same_rates(make_dataset, tmp_path):
    training = {"steps": 12, "states_megabytes": 1e-6, "batch": 4}
    whole = train(problem(make_dataset, training=training))
    assert sorted(whole.states) == [0, 12]
    options = measurements(hessian={"every": 5, "tol": 1e-6})
    again = problem(make_dataset, training=training)
    result = evaluate(again, [0, 12], lambda step: whole.states[step], options)
    assert result.replay_deviation < 1e-12
    first = found(result.table, "hessian_sharpness", 1, 0)
    assert float(first[0] * again.learning_rate(0)[1]) == pytest.approx(1.6, rel=1e-4)

    class Killed(Exception):
        pass

    class Stops(Checkpoint):
        def offer(self, contents):
            super().offer(contents)
            raise Killed

    place = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train(problem(make_dataset, training=training), Stops(place, "key", 0))
    resumed = train(problem(make_dataset, training=training), Checkpoint(place, "key"))
    for name, tensor in whole.states[12].items():
        assert torch.equal(resumed.states[12][name], tensor)


def test_a_start_that_has_no_unit_is_told(make_dataset):
    flat = shard(
        make_dataset(),
        MODEL | {"initialisation": {"kind": "default", "scale": 5e-324}},
        learning_rate=1.0,
        schedule=UNITS,
    )
    with pytest.raises(ConfigError) as caught:
        flat.learning_rate(0)
    assert "\n" not in str(caught.value)
    assert "seed 0 starts where no eigenvalue of the Hessian is above 0" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "needed", "helps"),
    [
        ({"optimiser": {"kind": "adam"}}, "'a learning rate a run'", "optimiser.kind = sgd"),
        ({"optimiser": {"kind": "sam"}}, "'a learning rate a run'", "optimiser.kind = heavy_ball"),
    ],
)
def test_what_cannot_follow_it_is_refused_before_any_job(tmp_path, changes, needed, helps):
    folder = ConfigFolder(tmp_path)
    folder.write(EXPERIMENT | {"schedule": "initial_sharpness"} | changes)
    with pytest.raises(ConfigError) as caught:
        load(folder.file)
    message = str(caught.value)
    assert "\n" not in message
    assert f"schedule.kind = 'initial_sharpness' needs {needed}" in message
    assert helps in message


def test_the_tables_say_what_the_rate_is_a_multiple_of(make_dataset):
    trajectory, _ = trained(problem(make_dataset), hessian={"every": 5})
    runs = trajectory.table.assign(case="units", width=5, learning_rate=0.8)
    setup = {"rate_symbol": "ηλ₀/2", "threshold_symbol": "2/η"}
    tables = {"e": ExperimentTable(runs, runs, {"cases": {"units": setup}})}
    (own,) = networks(tables)
    assert np.isnan(own.threshold)
    assert base.label(own, [own]) == "units, ηλ₀/2 = 0.8"
    assert "ηλ₀/2 = 0.8" in base.scale_sentence(tables)
    table = base.numbers_table(tables, [own], {})
    assert table["rows"][0][table["columns"].index("ηλ₀/2")] == "0.8"
    assert "η" not in table["columns"]
