"""What runs beside training: integration, resume, the plan, and the tables that hold both."""

import numpy as np
import pandas as pd
import pytest
import torch
from config_folder import EXPERIMENT, PAPER, ConfigFolder
from specs import TYPES, part
from synthetic_runs import RATE, rows

from sharpflow.claims import base
from sharpflow.config import load, make_plan
from sharpflow.errors import ConfigError, FlowError, PartError
from sharpflow.flows import integrate as integration
from sharpflow.flows.integrate import integrate
from sharpflow.flows.objectives import problem_objective
from sharpflow.flows.process import Advance, Process
from sharpflow.measurements.evaluate import evaluate
from sharpflow.parts.loading import load_part
from sharpflow.results.runs import runs_of
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable, Network, curves, networks, relative
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.training import train

STEPS = 12


def flow(name, **options):
    return part("flows", name, **options) | {"kind": name}


def curve(table, quantity, seed=0):
    own = table[(table["quantity"] == quantity) & (table["seed"] == seed)].sort_values("step")
    return own["value"].to_numpy()


# --- integration


def test_the_midpoint_is_that_of_three_iterates_and_has_no_oscillation_in_it(make_problem):
    problem = make_problem(training={"steps": STEPS})
    states = [problem.initial_state()]
    for step in range(STEPS + 1):
        states.append(problem.step(states[-1], step).state)
    found = integrate(problem, flow("midpoint", every=1))
    for step in range(1, STEPS + 1):
        for name, tensor in found.states[step].items():
            before, now, after = (states[step + gap][name] for gap in (-1, 0, 1))
            torch.testing.assert_close(tensor, (before + 2 * now + after) / 4)
    gap = sum(float((states[5][n][1] - t[1]).square().sum()) for n, t in found.states[5].items())
    assert curve(found.table, "oscillation_squared", seed=1)[5] == pytest.approx(gap)
    assert curve(found.table, "distance").max() < 1e-12


@pytest.mark.parametrize("name", ["gradient", "central"])
def test_a_flow_of_small_steps_is_training(make_problem, name):
    """Far below the edge, with a small learning rate, training follows its flow."""
    problem = make_problem(training={"steps": STEPS}, learning_rate=1e-3)
    table = integrate(problem, flow(name)).table
    loss = curve(train(problem).table, "loss")
    moved = abs(loss[-1] - loss[0])
    np.testing.assert_allclose(curve(table, "loss"), loss, atol=0.02 * moved)
    np.testing.assert_allclose(curve(table, "predicted_loss"), curve(table, "loss"), rtol=1e-6)


def test_states_are_those_of_the_stride_and_have_the_form_of_trainings(make_problem):
    problem = make_problem(training={"steps": STEPS}, optimiser={"kind": "rmsprop"})
    states = integrate(problem, flow("gradient", every=5)).states
    assert sorted(states) == [0, 5, 10, 12]
    wanted = {name: tensor.shape for name, tensor in problem.initial_state().items()}
    assert {name: tensor.shape for name, tensor in states[10].items()} == wanted


@pytest.mark.parametrize("name", ["gradient", "central"])
@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop"])
def test_a_flow_that_starts_later_is_training_until_then(make_problem, name, optimiser):
    """From there on it is the flow of that step's weights and mean of squared gradients."""
    setting = {"learning_rate": 1e-4, "optimiser": {"kind": optimiser}}
    problem = make_problem(training={"steps": STEPS}, **setting)
    found = integrate(problem, flow(name, every=1, start=5))
    loss = curve(train(problem).table, "loss", seed=1)
    np.testing.assert_allclose(curve(found.table, "loss", seed=1)[:6], loss[:6], rtol=1e-6)
    assert (curve(found.table, "predicted_variance") == 0).all()

    states = [problem.initial_state()]
    for step in range(6):
        states.append(problem.step(states[-1], step).state)
    for key in ("weight0", "weight1"):
        assert torch.equal(found.states[5][key], states[5][key])
        if optimiser == "rmsprop":
            assert torch.equal(found.states[5][f"square/{key}"], states[6][f"square/{key}"])
    begun = found.states[5]
    objective = problem_objective(problem, 1, begun)
    squares = [begun[key][1].reshape(-1) for key in begun if key.startswith("square/")]
    own = load_part("flows", flow(name)).build(flow(name, start=5), problem, 1).flow
    start = own.start(objective.start, torch.cat(squares) if squares else None, 5.0)
    for key, tensor in objective.named(own.step(start).state.weights).items():
        torch.testing.assert_close(found.states[6][key][1].double(), tensor, rtol=1e-5, atol=1e-7)


class Killed(Exception):
    """In the place of a signal."""


class Dies(Checkpoint):
    """A checkpoint that is written at every offer, after some of which the job is killed."""

    def __init__(self, path, offers):
        super().__init__(path, "key", interval=0.0)
        self.left = offers

    def offer(self, contents):
        super().offer(contents)
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("offers", [1, 7, STEPS])
@pytest.mark.parametrize("name", ["midpoint", "gradient", "central"])
def test_after_a_kill_it_ends_in_the_same_bytes(make_problem, tmp_path, name, offers):
    problem = make_problem(training={"steps": STEPS}, learning_rate=0.3)
    whole = integrate(problem, flow(name, every=5))
    with pytest.raises(Killed):
        integrate(problem, flow(name, every=5), Dies(tmp_path / "c", offers))
    again = integrate(problem, flow(name, every=5), Checkpoint(tmp_path / "c", "key"))
    assert again.table.equals(whole.table)
    assert sorted(again.states) == sorted(whole.states)
    for step, state in whole.states.items():
        assert all(torch.equal(state[n], t) for n, t in again.states[step].items())


class Short(Process):
    """Cannot be followed from step 3 on beside one of the runs, or gives something else there."""

    def __init__(self, problem, run, predicts):
        super().__init__(problem, run)
        self.predicts = predicts

    def advance(self, state, here, there):
        if here.step == 3 and self.run == 1 and not self.predicts:
            raise FlowError("too steep")
        return Advance(there.now, {"odd": 1.0} | (self.predicts if here.step == 3 else {}))


def stood_in(monkeypatch, **predicts):
    class Part:
        @staticmethod
        def build(options, problem, run):
            return Short(problem, run, predicts)

    monkeypatch.setattr(integration, "load_part", lambda *_: Part)
    return flow("midpoint", every=4)


def test_what_cannot_be_followed_is_data_and_the_other_runs_go_on(
    make_problem, monkeypatch, capsys
):
    problem = make_problem(training={"steps": 6})
    table = integrate(problem, stood_in(monkeypatch)).table
    assert np.isfinite(curve(table, "loss", 0)).all()
    assert np.isfinite(curve(table, "loss", 1)).tolist() == [True] * 4 + [False] * 3
    assert curve(table, "diverged_step", 1).tolist() == [4]
    assert curve(table, "odd", 1).size == 7
    assert "seed 1, step 3: too steep" in capsys.readouterr().out


def test_a_process_that_changes_what_it_gives_is_refused(make_problem, monkeypatch):
    problem = make_problem(training={"steps": 6})
    with pytest.raises(PartError, match="odd, more"):
        integrate(problem, stood_in(monkeypatch, more=2.0))


def test_a_flow_is_measured_at_its_stored_states(make_problem):
    problem = make_problem(training={"steps": STEPS})
    states = integrate(problem, flow("gradient", every=5)).states
    chosen = {"hessian": part("measurements", "hessian", every=5, tol=1e-9)}
    table = evaluate(problem, sorted(states), states.__getitem__, chosen).table
    assert sorted(table["step"].unique()) == [0, 5, 10, 12]


# --- plan


@pytest.fixture
def folder(tmp_path):
    return ConfigFolder(tmp_path)


def planned(folder, **changes):
    folder.write(changes)
    return make_plan(load(folder.file))


def test_without_flows_no_job_changes(folder):
    plain = planned(folder)
    with_flow = planned(folder, flows={"midpoint": {"every": 10}}, cases=EXPERIMENT["cases"])
    for name, shard in plain.shards.items():
        assert shard.training == with_flow.shards[name].training
        assert shard.evaluation == with_flow.shards[name].evaluation
    assert not plain.flows
    assert all("process" not in each for each in plain.described(plain.shards.values()))
    (settings,) = plain.settings.values()
    assert "flows" not in settings
    assert all("flows" not in case for case in settings["cases"].values())


def test_each_shard_has_its_flows_measured_at_the_longer_stride(folder):
    plan = planned(folder, flows={"midpoint": {"every": 5}, "gradient": {"every": 30}})
    assert len(plan.flows) == 2 * len(plan.shards)
    for each in plan.flows.values():
        every = {name: o["every"] for name, o in each.evaluation["measurements"].items()}
        least = {"midpoint": 5, "gradient": 30}[each.name]
        assert every == {"gauss_newton": least, "hessian": max(least, 10)}
        assert each.evaluation["training"] == each.training
        assert each.training["flow"]["kind"] == each.name
    described = plan.described(plan.shards.values())
    assert [one["process"] for one in described[:3]] == ["discrete", "gradient", "midpoint"]
    assert len({one["trajectories"] for one in described}) == len(described)


def refusal(folder, **changes):
    folder.write(changes)
    with pytest.raises(ConfigError) as caught:
        load(folder.file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flows": {"midpoint": {"every": 7}}}, "must be a multiple of the other"),
        (
            {"flows": {"central": {}}},
            "model.kind = mlp is given: one of its options, the activation",
        ),
        (
            {"flows": {"gradient": {}}, "training": {"steps": 9, "batch": 4}},
            "training.batch must be",
        ),
        ({"flows": {"gradient": {}}, "schedule": "cosine"}, "schedule must be constant"),
        ({"flows": {"gradient": {}}, "optimiser": "adam"}, "optimiser.kind = rmsprop"),
        ({"flows": {"centrl": {}}}, "central"),
        ({"flows": {"gradient": {"start": 5000}}}, "it starts at step 5000, and training ends at"),
    ],
)
def test_what_cannot_flow_is_refused_before_any_job(folder, changes, said):
    assert said in refusal(folder, **changes)


def test_kinks_may_be_followed_when_it_is_said(folder):
    assert planned(folder, flows={"central": {"kinks": True}}).flows


# --- tables, claims


def both(central=0.5):
    """One run with training, and two processes beside it."""
    steps = np.arange(60)
    found = {"discrete": {"loss": 1.0 + 0 * steps, "hessian_sharpness": 300.0 + 0 * steps}}
    found |= {"central": {"distance": central + 0 * steps, "hessian_sharpness": 400.0 + 0 * steps}}
    found |= {"gradient": {"distance": 1.0 + 0 * steps}}
    parts = [
        rows(values, steps=steps, seed=seed).assign(process=process)
        for process, values in found.items()
        for seed in range(4)
    ]
    return pd.concat(parts, ignore_index=True)


def test_training_and_what_runs_beside_it_are_read_from_one_table():
    table = both()
    tables = {"one": ExperimentTable(table, summarise(table), {"cases": {"tanh": {}}})}
    (network,) = networks(tables)
    assert network == Network("one", "tanh", 200, RATE)
    assert set(tables["one"].runs["quantity"]) == {
        "loss",
        "hessian_sharpness",
        "stability_threshold",
    }
    assert curves(tables, network, "distance").empty
    assert (curves(tables, network, "distance", process="gradient") == 1.0).all(axis=None)
    assert (relative(tables, network, "hessian_sharpness", process="central") == 1.0).all(axis=None)
    assert curves(tables, network, "distance", process="nothing").empty
    run = runs_of(table, {})[0]
    assert run.process("central").curve("distance")[1][0] == 0.5
    with pytest.raises(ValueError, match=r"no process 'other' ran, only \w+, \w+\."):
        run.process("other")


def test_means_are_taken_process_by_process():
    summary = summarise(both()).set_index(["process", "quantity", "step"])["mean"]
    assert summary["central", "hessian_sharpness", 3] == 400.0
    assert summary["discrete", "hessian_sharpness", 3] == 300.0


@base.claim(
    statement="It is near.",
    band=(0.0, 0.6),
    origin="chosen: for the test",
    method="distance",
    reads=["loss"],
    beside={"central": ["distance"], "gradient": ["distance"]},
    foils={"gradient flow": lambda run: run.process("gradient").curve("distance")[1][-1]},
)
def near(run):
    return run.process("central").curve("distance")[1][-1]


@pytest.mark.parametrize(("distance", "verdict"), [(0.5, "supported"), (0.9, "not supported")])
def test_a_claim_is_judged_on_what_ran_beside_training(distance, verdict):
    judged = base.judge(near, "p", "", "one", both(distance), {})
    own, control = (judged[judged["control"] == flag] for flag in (False, True))
    assert own["verdict"].tolist() == [verdict]
    assert control["verdict"].tolist() == ["not supported"]


def test_a_claim_that_no_process_feeds_names_what_would(folder, tmp_path):
    claims = tmp_path / "mine" / "claims"
    claims.mkdir(parents=True)
    (claims.parent / "paper.yaml").write_text("key: mine\ntitle: mine\n")
    (claims / "near.py").write_text(
        "from sharpflow.claims.base import claim\n\n\n@claim(statement='.', band=(0, 1), "
        "origin='chosen: x', method='', reads=['loss'], beside={'midpoint': ['distance'], "
        "'gradient': ['distance']})\ndef near(run):\n    return 0.0\n"
    )
    papers = {"papers": [str(PAPER), str(claims.parent)]}
    asked = {"claims": ["mine/near"], "measurements": {"hessian": {"every": 10}}, "figures": []}
    for flows, said in (
        ({}, "flows.midpoint"),
        ({"midpoint": {}}, "flows.gradient"),
        ({"midpoint": {}, "gradient": {}}, ""),
    ):
        folder.write(asked | {"flows": flows}, **papers)
        if not said:
            assert load(folder.file).claims["dense_here"]
            continue
        with pytest.raises(ConfigError, match=said):
            load(folder.file)


def test_every_flow_of_the_library_gives_what_it_says(make_problem):
    problem = make_problem(training={"steps": 2})
    for name in ("midpoint", "gradient", "central"):
        options = flow(name)
        process = load_part("flows", options).build(options, problem, 0)
        first = problem.initial_state()
        window = integration.Window(0, first, first, problem.step(first, 0).state)
        there = window.following(problem.step(window.after, 1).state)
        begun = process.begin(window.of_run(0))
        given = process.advance(begun, window.of_run(0), there.of_run(0)).predicted
        assert set(given) == TYPES.options("flows")[name]().gives()
