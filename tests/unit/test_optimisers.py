"""Update rules against `torch.optim` and written-out steps; thresholds against the iteration."""

import pytest
import torch

from sharpflow.config.types import Types
from sharpflow.models.base import Gradient, differentiate
from sharpflow.optimisers.base import build
from sharpflow.parts.registry import Registry

RUNS, STEPS = 3, 30
ADAM = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6, "bias_correction": True}
RULES = {
    "sgd": {},
    "heavy_ball": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8},
    "rmsprop": {"beta": 0.9, "epsilon": 1e-6},
    "adam": ADAM,
    "adamw": ADAM,
}
TORCH = {
    "sgd": (torch.optim.SGD, {}),
    "heavy_ball": (torch.optim.SGD, {"momentum": 0.8}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-6}),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-6}),
}


def rule(name, weight_decay=0.0, clip_norm=None, **changes):
    return build({"kind": name, **RULES.get(name, {}), **changes}, weight_decay, clip_norm)


def start():
    """Parameters of three runs: a matrix, a vector and a number each."""
    source = torch.Generator().manual_seed(0)
    shapes = {"matrix": (4, 3), "vector": (5,), "number": ()}
    return {
        name: torch.randn(RUNS, *shape, dtype=torch.float64, generator=source)
        for name, shape in shapes.items()
    }


def loss(parameters):
    """Of each run, (R,): curved in several ways, and coupling the parameters."""
    matrix, vector, number = (parameters[name] for name in ("matrix", "vector", "number"))
    bent = (matrix.square().sum(-1) - 1.0).square().sum(-1)
    return bent + torch.cos(vector).sum(-1) * number + number**4 + vector.square().sum(-1)


def gradient(parameters):
    return Gradient(*differentiate(loss, parameters))


def rate(step):
    return 0.02 / (1.0 + 0.1 * step)


def iterate(optimiser, parameters, steps=STEPS):
    """Parameters and state after each step."""
    state, found = optimiser.initial(parameters), []
    for step in range(steps):
        taken = optimiser.step(parameters, state, gradient, rate(step), step)
        parameters, state = taken.parameters, taken.state
        found.append((parameters, state))
    return found


def of_run(tensors, run):
    return {name: tensor[run : run + 1] for name, tensor in tensors.items()}


def assert_same(found, expected):
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-12)


def test_every_rule_has_a_reference_here():
    assert set(Registry().parts("optimisers")) == {*RULES, "sam", "normalised_gd"}


@pytest.mark.parametrize("name", [*RULES, "sam"])
def test_the_options_say_what_the_rule_is(name):
    words = Types(Registry()).options("optimisers")[name].model_construct(kind=name).capabilities()
    optimiser = rule(name, **({"radius": 0.1} if name == "sam" else {}))
    assert optimiser.rotation_invariant == ("rotation invariant" in words)
    assert optimiser.plain == ("plain steps" in words)
    assert (optimiser.response is not None) == ("linear steps" in words)
    learns = optimiser.preconditioner(optimiser.initial(start()), 0) is None
    assert learns == ("preconditioner" in words)
    assert learns != optimiser.rotation_invariant  # a diagonal is another one in every basis


@pytest.mark.parametrize("clip_norm", [None, 1.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_torch(name, weight_decay, clip_norm):
    trajectory = iterate(rule(name, weight_decay, clip_norm), start())
    kind, options = TORCH[name]
    for run in range(RUNS):
        leaves = {n: t.clone().requires_grad_() for n, t in of_run(start(), run).items()}
        reference = kind(leaves.values(), lr=1.0, weight_decay=weight_decay, **options)
        for step, (parameters, _) in enumerate(trajectory):
            reference.zero_grad()
            loss(leaves).sum().backward()
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(leaves.values(), clip_norm)
            reference.param_groups[0]["lr"] = rate(step)
            reference.step()
            assert_same(of_run(parameters, run), {n: t.detach() for n, t in leaves.items()})


def test_adam_without_bias_correction_is_the_written_out_loop():
    trajectory = iterate(rule("adam", bias_correction=False), start())
    theta = start()
    mean = {n: torch.zeros_like(t) for n, t in theta.items()}
    square = {n: torch.zeros_like(t) for n, t in theta.items()}
    for step, (parameters, _) in enumerate(trajectory):
        slopes = gradient(theta).gradients
        for n, g in slopes.items():
            mean[n] = 0.8 * mean[n] + 0.2 * g
            square[n] = 0.95 * square[n] + 0.05 * g**2
            theta[n] = theta[n] - rate(step) * mean[n] / (square[n].sqrt() + 1e-6)
        assert_same(parameters, theta)


def test_sam_is_the_written_out_step_of_each_run_alone():
    optimiser = rule("sam", 0.3, radius=0.1)
    trajectory = iterate(optimiser, start())
    for run in range(RUNS):
        theta = of_run(start(), run)
        for step, (parameters, _) in enumerate(trajectory):
            slopes = gradient(theta).gradients
            size = sum(g.square().sum() for g in slopes.values()).sqrt()
            there = {n: t + 0.1 * slopes[n] / size for n, t in theta.items()}
            ahead = gradient(there).gradients
            theta = {n: t - rate(step) * (ahead[n] + 0.3 * t) for n, t in theta.items()}
            assert_same(of_run(parameters, run), theta)


def test_normalised_gd_is_the_written_out_step_of_each_run_alone():
    trajectory = iterate(rule("normalised_gd", 0.3, 1e-3), start())
    for run in range(RUNS):
        theta = of_run(start(), run)
        for step, (parameters, _) in enumerate(trajectory):
            slopes = gradient(theta).gradients
            size = sum(g.square().sum() for g in slopes.values()).sqrt()
            theta = {n: t - rate(step) * (slopes[n] / size + 0.3 * t) for n, t in theta.items()}
            assert_same(of_run(parameters, run), theta)


def test_normalised_gd_stays_where_the_gradient_vanishes():
    flat = {"x": torch.zeros(2, 3, dtype=torch.float64)}
    ones = {"x": torch.ones_like(flat["x"])}
    moved, _ = rule("normalised_gd").update(ones, flat, {}, 0.1, 0)
    assert_same(moved, ones)


def test_the_threshold_of_normalised_gd_is_the_curvature_of_its_period_two_orbit():
    eta, decay, curvature = 0.1, 1.5, 12.0
    optimiser = rule("normalised_gd", decay)
    # on the orbit ±x a step is −2x: η(1 + γx) = 2x
    orbit = eta / (2.0 - eta * decay)
    points = {"x": orbit * torch.tensor([[1.0], [1.02], [0.98]], dtype=torch.float64)}

    def slope(parameters):
        x = parameters["x"]
        return Gradient(curvature * x.square().sum(1) / 2, {"x": curvature * x})

    taken = optimiser.step(points, {}, slope, eta, 0)
    on, outside, inside = taken.threshold.tolist()
    ratios = (taken.parameters["x"] / points["x"])[:, 0].tolist()
    assert on == pytest.approx(curvature, rel=1e-9)
    assert ratios[0] == pytest.approx(-1.0, rel=1e-9)
    assert outside > curvature > inside
    assert ratios[2] < -1.0 < ratios[1] < 0.0
    assert optimiser.threshold(eta, None) == float("inf")


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_the_preconditioner_is_that_of_the_gradients_so_far(name, correction):
    adam = name != "rmsprop"
    optimiser = rule(name, **({"bias_correction": correction} if adam else {}))
    beta = 0.95 if adam else 0.9
    assert optimiser.preconditioner(optimiser.initial(start()), 0) is None
    theta, squares = start(), []
    for count, (parameters, state) in enumerate(iterate(optimiser, theta, 5), start=1):
        squares.append(gradient(theta).gradients["matrix"] ** 2)
        theta = parameters
        ages = reversed(range(count))
        v = sum((1.0 - beta) * beta**age * g for age, g in zip(ages, squares, strict=True))
        expected = v.sqrt() + 1e-6
        if adam and correction:
            expected = (1.0 - 0.8**count) * ((v / (1.0 - beta**count)).sqrt() + 1e-6)
        found = optimiser.preconditioner(state, count)
        torch.testing.assert_close(found["matrix"], expected, rtol=1e-12, atol=0.0)


def frozen(name):
    """A rule whose preconditioner, where it has one, never changes."""
    changes = {"rmsprop": {"beta": 1.0}, "adam": {"beta2": 1.0}, "adamw": {"beta2": 1.0}}
    plain = {} if name not in ("adam", "adamw") else {"bias_correction": False}
    return changes.get(name, {}) | plain


@pytest.mark.parametrize("name", RULES)
def test_quadratics_contract_below_the_threshold_and_grow_above(name):
    decay = 0.0 if name in ("rmsprop", "adam", "adamw") else 2.0
    optimiser, eta, size = rule(name, decay, **frozen(name)), 0.05, 6
    source = torch.Generator().manual_seed(1)
    theta = {"x": torch.randn(2, size, dtype=torch.float64, generator=source)}
    state = optimiser.initial(theta)
    if "square/x" in state:
        state["square/x"] = 0.1 + torch.rand(2, size, dtype=torch.float64, generator=source)
    metric = optimiser.preconditioner(state, 1) or {"x": torch.ones(2, size, dtype=torch.float64)}
    axes, _ = torch.linalg.qr(torch.randn(2, size, size, dtype=torch.float64, generator=source))
    spectrum = torch.linspace(0.3, 1.0, size, dtype=torch.float64)
    factors = torch.tensor([0.98, 1.02], dtype=torch.float64)
    values = factors[:, None] * optimiser.threshold(eta, None) * spectrum
    root = metric["x"].sqrt()
    hessian = root[:, :, None] * (axes * values[:, None]) @ axes.mT * root[:, None, :]

    def slope(parameters):
        x = parameters["x"]
        product = (hessian @ x[:, :, None])[:, :, 0]
        return Gradient((x * product).sum(1) / 2, {"x": product})

    before = theta["x"].norm(dim=1)
    for step in range(400):
        taken = optimiser.step(theta, state, slope, eta, step)
        theta, state = taken.parameters, taken.state
    below, above = (theta["x"].norm(dim=1) / before).tolist()
    assert below < 1e-3
    assert above > 1e3


@pytest.mark.parametrize("weight_decay", [0.0, 1.5])
def test_sams_edge_is_the_curvature_of_a_period_two_orbit(weight_decay):
    eta, radius, curvature = 0.1, 0.3, 12.0
    optimiser = rule("sam", weight_decay, radius=radius)
    orbit = eta * curvature * radius / (2.0 - eta * (curvature + weight_decay))
    points = {"x": orbit * torch.tensor([[1.0], [1.02], [0.98]], dtype=torch.float64)}

    def slope(parameters):
        x = parameters["x"]
        return Gradient(curvature * x.square().sum(1) / 2, {"x": curvature * x})

    taken = optimiser.step(points, {}, slope, eta, 0)
    on, outside, inside = taken.threshold.tolist()
    ratios = (taken.parameters["x"] / points["x"])[:, 0].tolist()
    assert on == pytest.approx(curvature, rel=1e-9)
    assert ratios[0] == pytest.approx(-1.0, rel=1e-9)
    assert outside > curvature
    assert -1.0 < ratios[1] < 0.0
    assert inside < curvature
    assert ratios[2] < -1.0
    bound = 2.0 / eta - weight_decay
    assert optimiser.threshold(eta, None) == pytest.approx(bound)
    flat = rule("sam", weight_decay, radius=1e-9).threshold(eta, {"x": points["x"]})
    assert flat[0].item() == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("name", [*RULES, "sam", "normalised_gd"])
def test_without_a_learning_rate_every_curvature_is_stable(name):
    optimiser = rule(name, **({"radius": 0.1} if name == "sam" else {}))
    assert optimiser.threshold(0.0, start()) == float("inf")


@pytest.mark.parametrize("name", ["sgd", "heavy_ball", "nesterov"])
def test_a_gradient_moves_the_place_of_rest_and_no_gradient_leads_there(name):
    optimiser, eta = rule(name), 0.01
    parameters, state = iterate(optimiser, start(), 3)[-1]
    rest = optimiser.at_rest(parameters, state, eta)
    slopes = gradient(parameters).gradients
    moved, after = optimiser.update(parameters, slopes, state, eta, 3)
    wanted = {n: t - eta * optimiser.response * slopes[n] for n, t in rest.items()}
    assert_same(optimiser.at_rest(moved, after, eta), wanted)
    nothing = {n: torch.zeros_like(t) for n, t in parameters.items()}
    for step in range(200):
        parameters, state = optimiser.update(parameters, nothing, state, eta, step)
    assert_same(parameters, rest)
