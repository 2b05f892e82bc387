"""The preconditioned sharpness: against a dense Hessian and the state of `torch.optim`."""

import pytest
import torch
from shards import found, one_run, shard, trained
from specs import TYPES, measurements, part, spec

from sharpflow.curvature import preconditioning
from sharpflow.curvature.reference import dense_hessian
from sharpflow.data import photos
from sharpflow.errors import PartError
from sharpflow.measurements.evaluate import evaluate
from sharpflow.optimisers.sgd import SGD
from sharpflow.training import Problem, train

STEPS = 8
ADAM = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6}
RULES = {
    "sgd": ({"kind": "sgd"}, torch.optim.SGD, {}),
    "heavy_ball": (
        {"kind": "heavy_ball", "momentum": 0.8},
        torch.optim.SGD,
        {"momentum": 0.8},
    ),
    "nesterov": (
        {"kind": "nesterov", "momentum": 0.5},
        torch.optim.SGD,
        {"momentum": 0.5, "nesterov": True},
    ),
    "rmsprop": (
        {"kind": "rmsprop", "beta": 0.9, "epsilon": 1e-6},
        torch.optim.RMSprop,
        {"alpha": 0.9, "eps": 1e-6},
    ),
    "adam": ({"kind": "adam", **ADAM}, torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw": ({"kind": "adamw", **ADAM}, torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6}),
}


def chosen(every=1, **options):
    return {"preconditioned_hessian": {"every": every, "tol": 1e-8, **options}}


def the_loss(problem):
    """The loss of one run as a function of its parameters."""

    def loss(parameters):
        outputs = problem.model({n: t[None] for n, t in parameters.items()}, problem.inputs)
        return problem.loss(outputs, problem.targets)[0]

    return loss


def curve(table, quantity):
    """The values of a quantity, by seed and step."""
    rows = table[table["quantity"] == quantity].sort_values(["seed", "step"])
    return rows["value"].to_numpy()


@pytest.mark.parametrize("name", RULES)
def test_it_is_that_of_the_dense_hessian_in_the_metric_of_torch(make_dataset, name):
    rule, kind, options = RULES[name]
    decay = 0.1 if name == "adamw" else 0.0
    data = make_dataset(samples=8, dimensions=12)
    training = {"steps": STEPS, "weight_decay": decay}
    problem = shard(
        data, {"kind": "mlp", "hidden_layers": 1}, training, optimiser=rule, learning_rate=0.01
    )
    trajectory, table = trained(problem, **chosen(k=2))
    loss = the_loss(problem)
    for run, seed in enumerate(problem.seeds):
        start = one_run(trajectory.states[0], run)
        leaves = {n: t.clone().requires_grad_() for n, t in start.items()}
        reference = kind(leaves.values(), lr=0.01, weight_decay=decay, **options)
        for step in range(1, STEPS + 1):
            reference.zero_grad()
            loss(leaves).backward()
            reference.step()
            own = {n: t.detach() for n, t in leaves.items()}
            metric = preconditioning(reference, leaves)
            root = metric.diagonal.rsqrt()
            exact = torch.linalg.eigvalsh(root[:, None] * dense_hessian(loss, own) * root)
            values = found(table, "preconditioned_sharpness", seed, step)
            torch.testing.assert_close(values, exact[-2:].flip(0), rtol=1e-6, atol=0.0)
            assert problem.threshold(trajectory.states[step], step) == pytest.approx(
                metric.threshold
            )
    assert set(table[table["quantity"] == "preconditioned_sharpness_converged"]["value"]) == {1.0}


@pytest.mark.parametrize("name", RULES)
def test_a_run_is_the_one_in_the_basis_of_the_inputs(make_dataset, name):
    """Compression is exact for rules that are the same in every basis, and not made for others."""
    data = make_dataset(samples=8, dimensions=12)
    whole = data | {"basis": torch.eye(12, dtype=torch.float64), "coordinates": data["inputs"]}
    ours, expected = (
        trained(shard(each, {"kind": "mlp"}, optimiser=RULES[name][0]), **chosen())
        for each in (data, whole)
    )
    for quantity, place in (("loss", 0), ("preconditioned_sharpness", 1)):
        values, reference = (
            curve(getattr(pair[place], "table", pair[place]), quantity) for pair in (ours, expected)
        )
        assert len(values) > STEPS
        assert values == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_learns_its_metric_has_no_value_before_its_first_step(make_dataset, name):
    rule = RULES[name][0]
    _, table = trained(shard(make_dataset(), {"kind": "mlp"}, optimiser=rule), **chosen())
    learns = "preconditioner" in TYPES.options("optimisers")[rule["kind"]](**rule).capabilities()
    assert int(table["step"].min()) == (1 if learns else 0)


def test_without_bias_correction_the_metric_starts_small(make_dataset):
    levels = {}
    for correction in (True, False):
        rule = {"kind": "adam", **ADAM, "bias_correction": correction}
        problem = shard(make_dataset(), {"kind": "mlp"}, optimiser=rule, learning_rate=1e-6)
        levels[correction] = float(
            found(trained(problem, **chosen())[1], "preconditioned_sharpness", 0, 1)[0]
        )
    # 1 − β₁ in place of 1 of the mean, and √(1 − β₂) of the root; ε is small beside both
    expected = (1.0 - 0.8) / (1.0 - 0.95) ** 0.5
    assert levels[False] / levels[True] == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_frozen_layers_are_left_out(make_dataset, name):
    training = {"steps": 3, "frozen": 1}
    problem = shard(make_dataset(), {"kind": "mlp"}, training, optimiser=RULES[name][0])
    trajectory, table = trained(problem, **chosen())
    state = trajectory.states[3]
    whole = one_run(state, 0)
    moving = {n: t for n, t in whole.items() if n not in problem.frozen}
    assert 0 < len(moving) < len(whole)
    loss = the_loss(problem)
    hessian = dense_hessian(lambda p: loss(whole | p), moving)
    metric = problem.optimiser.preconditioner(problem.optimiser_state(state), 3) or {}
    root = torch.cat(
        [metric.get(n, torch.ones(1, *t.shape))[0].flatten() for n, t in moving.items()]
    )
    root = root.rsqrt()
    exact = torch.linalg.eigvalsh(root[:, None] * hessian * root)[-1]
    value = found(table, "preconditioned_sharpness", 0, 3)[0]
    assert float(value) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize(("name", "rate"), [("nesterov", 0.004), ("rmsprop", 1e-4), ("adam", 2e-4)])
def test_at_most_three_products_a_state(name, rate):
    options = part("data", "photos", samples=60, scaling="unit", draw="fixed", draw_seed=0)
    problem = Problem(
        spec(
            {"kind": "mlp", "hidden_layers": 2},
            {"steps": 150},
            optimiser=RULES[name][0],
            learning_rate=rate,
            seeds=[0],
            width=20,
            dtype="float32",
        ),
        photos.generate(options)[0],
    )
    states, asked = train(problem).states, measurements(preconditioned_hessian={})
    table = evaluate(problem, [0, 150], states.get, asked).table
    later = table[table["step"] > 50]  # the first states have no course to go by
    products = later[later["quantity"] == "preconditioned_products"]["value"]
    assert len(products) > 30
    assert products.mean() <= 3.0
    flags = table[table["quantity"] == "preconditioned_sharpness_converged"]["value"]
    assert flags.mean() > 0.95


class Diagonal(SGD):
    """A rule that is another one in every basis."""

    rotation_invariant = False


GIVEN = {
    "nothing": lambda parameters: {},
    "one parameter of two": lambda parameters: dict(list(parameters.items())[:1]),
    "another shape": lambda parameters: {n: t.flatten() for n, t in parameters.items()},
    "zeros": lambda parameters: {n: torch.zeros_like(t) for n, t in parameters.items()},
}


@pytest.mark.parametrize("kind", GIVEN)
def test_a_rule_of_a_user_that_gives_no_metric_is_refused(make_dataset, kind, monkeypatch):
    problem = shard(make_dataset(), {"kind": "mlp"})
    problem.optimiser = Diagonal()
    ones = {n: torch.ones_like(t) for n, t in one_run(problem.initial_state(), 0).items()}
    given = GIVEN[kind](ones)
    monkeypatch.setattr(Diagonal, "preconditioner", lambda self, state, step: given)
    with pytest.raises(PartError, match=r"Diagonal gives no preconditioner for '\w+'") as caught:
        trained(problem, **chosen())
    assert "\n" not in str(caught.value)
