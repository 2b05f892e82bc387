import numpy as np
import pytest
import specs
import torch
from gaussian_shards import population, shard

from papers.ziyin2024.measurements._population import held_out, sampled_noise_trace
from sharpflow.config.feasible import check_parts
from sharpflow.errors import ConfigError, IntegrityError
from sharpflow.measurements.base import Snapshot
from sharpflow.measurements.evaluate import evaluate
from sharpflow.results.rates import accumulated
from sharpflow.symmetry import (
    alignment,
    gaussian_gammas,
    hessian_trace,
    noether_path,
    noise_equilibrium,
    noise_imbalance,
    plain_balance,
    population_gradient,
    stationary_gammas,
    weighted_grams,
)
from sharpflow.training import train

NET_B = {"kind": "scale_invariant", "normalisation": "layer"}


def evaluated(problem, states, **chosen):
    """The evaluation of states by step."""
    return evaluate(problem, sorted(states), states.__getitem__, specs.measurements(**chosen))


def measured(problem, trajectory=None, **measurements):
    """The evaluation's table, indexed by (quantity, seed, step, index)."""
    evaluation = evaluated(problem, (trajectory or train(problem)).states, **measurements)
    return evaluation.table.set_index(["quantity", "seed", "step", "index"]).value


def covariances(problem):
    law = problem.population
    return law.teacher, law.input_covariance, law.noise_covariance


def test_noise_balance_is_that_of_the_population():
    problem = shard()
    trajectory = train(problem)
    values = measured(problem, trajectory, noise_balance={"every": 20, "entries": 4})
    for step in (0, 40, 120):
        state = trajectory.states[step]
        u, w = state["u"][1], state["w"][1]
        gammas = gaussian_gammas(u, w, *covariances(problem))
        gram_u, gram_w = weighted_grams(u, w, *gammas)
        assert values["noise_imbalance", 1, step, 0] == pytest.approx(
            float(noise_imbalance(u, w, *gammas))
        )
        for index in range(4):
            wanted = float((gram_u - gram_w)[0, index])
            assert values["imbalance_entry", 1, step, index] == pytest.approx(wanted)


def test_hessian_trace_is_that_of_the_population_loss():
    problem = shard(seeds=(4,))
    values = measured(problem, hessian_trace={"every": 120})
    state = problem.initial_state()
    flat = torch.cat([state["u"].flatten(), state["w"].flatten()])
    sizes = state["u"].numel()

    def loss(vector):
        parameters = {
            "u": vector[:sizes].view_as(state["u"]),
            "w": vector[sizes:].view_as(state["w"]),
        }
        return problem.model.population_loss(parameters, problem.population)[0]

    exact = torch.autograd.functional.hessian(loss, flat).trace()
    assert values["hessian_trace", 4, 0, 0] == pytest.approx(float(exact), rel=1e-9)


def test_equilibrium_averages_the_tail():
    problem = shard(seeds=(0, 5))
    trajectory = train(problem)
    values = measured(problem, trajectory, equilibrium={"every": 10, "tail": 0.25})
    tail = [trajectory.states[step] for step in (90, 100, 110, 120)]
    teacher, sigma_x, sigma_noise = covariances(problem)
    gammas = sigma_x.trace() * sigma_noise, sigma_noise.trace() * sigma_x
    for name, (u, w) in (
        ("equilibrium_error", noise_equilibrium(teacher, *gammas)),
        ("plain_balance_error", plain_balance(teacher)),
    ):
        gram_w = torch.stack([s["w"][1].mT @ s["w"][1] for s in tail]).mean(0)
        gram_u = torch.stack([s["u"][1] @ s["u"][1].mT for s in tail]).mean(0)
        for index, (found, exact) in enumerate(((gram_w, w.mT @ w), (gram_u, u @ u.mT))):
            error = torch.linalg.matrix_norm(found - exact) / torch.linalg.matrix_norm(exact)
            assert values[name, 5, 120, index] == pytest.approx(float(error))
    u, w = noise_equilibrium(teacher, *gammas)
    assert values["closed_norm_squared", 0, 0, 0] == pytest.approx(float(w.square().sum()))
    assert values["closed_norm_squared", 0, 0, 1] == pytest.approx(float(u.square().sum()))
    trace = float(hessian_trace(u, w, sigma_x))
    assert values["hessian_trace_predicted", 0, 0, 0] == pytest.approx(trace)


def test_predictions_know_weight_decay_and_isotropy():
    isotropic = population(4, 4, input_std=1.0, noise_std=1.0, teacher="identity")
    options = {"every": 120, "tail": 0.2}
    rate = measured(shard(isotropic, batch=10), equilibrium=options)["rate_predicted", 0, 0, 0]
    assert rate == pytest.approx(4 * 4 * 0.01**2 / 10)
    flat = measured(shard(batch=None, weight_decay=0.1), equilibrium=options)
    assert flat["norm_ratio_predicted", 0, 0, 0] == pytest.approx(1.0)
    assert "rate_predicted" not in flat.index.get_level_values(0)
    without = measured(shard(), equilibrium=options)["norm_ratio_predicted", 0, 0, 0]
    some = measured(shard(weight_decay=0.1), equilibrium=options)["norm_ratio_predicted", 0, 0, 0]
    most = measured(shard(weight_decay=50.0), equilibrium=options)
    assert most["norm_ratio_predicted", 0, 0, 0] == pytest.approx(1.0, abs=0.01)
    assert abs(some - 1) < abs(without - 1)


def test_representations_of_a_linear_network_are_those_of_the_closed_form():
    problem = shard()
    trajectory = train(problem)
    options = {"every": 120, "samples": 30_000, "grams_of": 0}
    values = measured(problem, trajectory, representations=options).sort_index()
    u, w = trajectory.states[120]["u"][0], trajectory.states[120]["w"][0]
    gram_u, gram_w = weighted_grams(u, w, *gaussian_gammas(u, w, *covariances(problem)))
    assert values["alignment", 0, 120, 0] == pytest.approx(
        float(alignment(gram_u, gram_w)), abs=0.02
    )
    plain = float(alignment(u.mT @ u, w @ w.mT))
    assert values["alignment_unweighted", 0, 120, 0] == pytest.approx(plain)
    assert np.allclose(values["gram_u", 0, 120], gram_u.flatten(), atol=0.05 * gram_u.max())
    grams = values.index[values.index.get_level_values(0) == "gram_w"]
    assert set(grams.droplevel(["quantity", "index"])) == {(0, 120)}


def test_the_matrices_are_of_one_seed_whichever_shard_it_is_in():
    options = {"every": 120, "samples": 50, "grams_of": 101}
    alone, together = (
        measured(shard(seeds=seeds), representations=options) for seeds in ((101,), (100, 101, 102))
    )
    for name in ("gram_u", "gram_w"):
        kept = together.xs(name, level="quantity")
        assert set(kept.index.get_level_values("seed")) == {101}
        assert np.allclose(kept, alone.xs(name, level="quantity"), rtol=1e-9)


def norms(trajectory):
    table = trajectory.table[trajectory.table.quantity == "norm_squared"]
    return table.groupby(["seed", "step"]).value.sum()


def test_norm_growth_is_what_steps_of_the_run_add_on_average():
    problem = shard(model=NET_B, batch=4, learning_rate=0.05, steps=400, seeds=tuple(range(12)))
    trajectory = train(problem)
    values = measured(problem, trajectory, norm_growth={"every": 10, "samples": 20})
    predicted = values["norm_increment_predicted"].droplevel("index").unstack("seed").loc[50:]
    grown = norms(trajectory).unstack("seed").loc[50:].diff().sum()
    ratio = grown.sum() / accumulated(predicted.index, predicted).sum()
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_norm_growth_of_gradient_descent_is_exact():
    data = population(samples=20)
    problem = shard(data, model=NET_B, batch=None, learning_rate=0.05, record_every=1)
    trajectory = train(problem)
    values = measured(problem, trajectory, norm_growth={"every": 1, "samples": 50})
    predicted = values["norm_increment_predicted"].droplevel("index")
    grown = norms(trajectory).groupby("seed").diff().groupby("seed").shift(-1).dropna()
    assert np.allclose(grown, predicted.loc[grown.index], rtol=1e-6)


def test_the_noise_of_held_out_samples_is_unbiased():
    problem = shard(seeds=(0,))
    state = problem.initial_state()
    u, w = state["u"][0], state["w"][0]
    teacher, sigma_x, sigma_noise = covariances(problem)
    drift = population_gradient(u, w, teacher, sigma_x)[0].square().sum()
    gamma_w = gaussian_gammas(u, w, teacher, sigma_x, sigma_noise)[1]
    exact = 4 * torch.trace(w @ gamma_w @ w.mT) - drift, drift
    found = []
    for step in range(3000):
        snapshot = Snapshot(problem, 0, state, {}, step)
        samples = held_out(snapshot, "test", 2)
        found.append(sampled_noise_trace(snapshot, {"u": 1.0}, *samples, whole=False))
    for index in range(2):
        values = torch.stack([trace[index] for trace in found])
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - exact[index]) < 4 * error
        # biased, half of the noise would count as signal
        assert 4 * error < exact[0] / 2


@pytest.mark.parametrize("model", [{}, NET_B], ids=["linear", "net_b"])
def test_noether_flow_predicts_the_mean_of_many_draws(model):
    dataset = population(samples=None if not model else 50)
    problem = shard(dataset, model=model, batch=None, steps=200, seeds=(0, 1))
    options = {"every": 200, "draws": 8000, "batch": 4, "learning_rate": 0.01, "samples": 8000}
    values = measured(problem, noether_flow=options)
    for index in (0, 1):
        found, wanted, sde = (
            values[f"flow_{name}"].groupby("index").mean()[index]
            for name in ("measured", "predicted", "sde")
        )
        assert found == pytest.approx(wanted, rel=0.08)
        if index == 1:
            assert abs(found - sde) > 0.1 * abs(found)
    assert set(values["draws"]) == {8000.0}
    assert set(values.index.get_level_values("step")) == {200}


def test_circle_radius():
    dataset = population(2, 1, input_std=1.0, noise_std=2.0, teacher="identity")
    circle = {"kind": "circle", "angle": 2.4}
    problem = shard(dataset, model=circle, batch=1, learning_rate=0.02)
    trajectory = train(problem)
    values = measured(problem, trajectory, circle_radius={"every": 60})
    assert values["position", 1, 60, 1] == float(trajectory.states[60]["theta"][1, 1])
    radius = (1 + 8 * 0.02**2 * 4 * 60) ** 0.25
    assert values["predicted_radius", 1, 60, 0] == pytest.approx(radius)
    still = measured(shard(dataset, model=circle, batch=None), circle_radius={"every": 60})
    assert set(still["predicted_radius"]) == {1.0}


def test_replay_lands_on_the_states_and_changes_nothing():
    options = {"every": 1, "entries": 0}
    dense = shard(record_every=1)
    sparse = shard(record_every=40, states_megabytes=1e-6)
    assert sorted(train(sparse).states) == [0, 120]
    every, replayed = (measured(p, noise_balance=options) for p in (dense, sparse))
    assert every.index.equals(replayed.index)
    assert np.allclose(every, replayed, rtol=1e-9)


def test_no_step_is_replayed_where_every_measured_state_is_stored():
    problem = shard()
    states = train(problem).states
    problem.advance = None
    evaluation = evaluated(problem, states, hessian_trace={"every": 10})
    assert len(evaluation.table) == 3 * 13
    assert evaluation.replay_deviation == 0.0


def test_an_altered_state_is_found_by_replay():
    problem = shard(record_every=40, states_megabytes=1e-6)
    states = train(problem).states
    states[120] = {name: t * 1.001 for name, t in states[120].items()}
    with pytest.raises(IntegrityError, match="missed the stored state of step 120"):
        evaluated(problem, states, hessian_trace={"every": 10})


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("equilibrium", "'linear two layers'"),
        ("hessian_trace", "'linear two layers'"),
        ("noise_balance", "'linear two layers'"),
        ("noether_flow", "'linear two layers' or 'scale invariance'"),
        ("circle_radius", "'circle'"),
    ],
)
def test_measurements_say_what_they_need(name, needed):
    tanh = {
        "data": {"source": "gaussian", "inputs": 5, "outputs": 4},
        "model": {"kind": "two_layer", "activation": "tanh"},
        "training": {"batch": 3},
        "widths": [6],
        "learning_rates": [0.01],
        "measurements": {name: {}},
    }
    setup = specs.TYPES.setup.model_validate(tanh)
    with pytest.raises(ConfigError, match=rf"measurements\.{name} needs {needed}, which"):
        check_parts(setup, range(3), specs.TYPES, lambda keys: "test.yaml")


def test_a_diverged_run_has_no_rows_and_its_mates_have():
    problem = shard(seeds=(0, 1))
    start = problem.initial_state()
    start["u"][0] *= 1e9
    problem.initial_state = lambda: start
    values = measured(problem, hessian_trace={"every": 10})
    counts = values["hessian_trace"].groupby("seed").count()
    assert counts[1] == 13
    assert counts[0] < 13


def balanced(**changes):
    """A shard that starts at a balanced minimum of an anisotropic population."""
    data = population(4, 4, noise_std={"first": 2.0, "last": 0.5})
    start = {"initialisation": {"kind": "balanced"}}
    return shard(data, (0, 1), start, 8, 0.02, **{"steps": 40} | changes)


def test_tr_h_along_the_noether_flow_is_that_of_the_path():
    problem = balanced()
    trajectory = train(problem)
    values = measured(problem, trajectory, equilibrium={"every": 10})
    _, sigma_x, sigma_noise = covariances(problem)
    gammas = stationary_gammas(sigma_x, sigma_noise)
    for run in (0, 1):
        u, w = (trajectory.states[0][name][run] for name in ("u", "w"))
        path = noether_path(u, w, *gammas, 0.02, 3, list(range(1, 41)))
        for step in (10, 20, 40):
            exact = float(hessian_trace(*path[step - 1], sigma_x))
            assert values["hessian_trace_flow", run, step, 0] == pytest.approx(exact, rel=1e-6)
        assert values["hessian_trace_flow", run, 0, 0] == pytest.approx(
            float(hessian_trace(u, w, sigma_x))
        )


@pytest.mark.parametrize(
    "changes", [{"batch": None}, {"weight_decay": 0.01}, {"schedule": {"kind": "cosine"}}]
)
def test_no_flow_is_said_where_none_is_known(changes):
    values = measured(balanced(**changes), equilibrium={"every": 10})
    assert "hessian_trace_flow" not in values.index.get_level_values("quantity")
    elsewhere = measured(shard(), equilibrium={"every": 10})
    assert "hessian_trace_flow" not in elsewhere.index.get_level_values("quantity")


ORBIT = {
    "every": 40,
    "directions": 3,
    "points": 5,
    "samples": 4000,
    "draws": 400,
    "batch": 3,
    "learning_rate": 0.02,
}


def test_the_flow_along_an_orbit_falls_through_one_zero_to_which_sgd_returns():
    values = measured(balanced(), noether_orbit=ORBIT)
    for name in ("orbit_falling", "orbit_single_zero", "orbit_returning"):
        assert set(values[name]) == {1.0}


def test_without_label_noise_nothing_flows_and_nothing_is_said():
    data = population(4, 4, noise_std=0.0)
    problem = shard(data, (0,), {"initialisation": {"kind": "balanced"}}, 8, 0.02, steps=40)
    trajectory = train(problem)
    assert evaluated(problem, trajectory.states, noether_orbit=ORBIT).table.empty
