"""Flows against closed forms, and against the discrete processes that they describe."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sharpflow.errors import FlowError
from sharpflow.flows import (
    AutogradObjective,
    CentralFlow,
    FlowState,
    GradientDescent,
    RMSprop,
    Rule,
    StableFlow,
    model_objective,
)

DOUBLE = {"dtype": torch.float64}


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, **DOUBLE)


# L = ½ (‖y‖²/2) x² − F y₁: sharpness ‖y‖²/2 at x = 0; with η = 1 the threshold is the circle
# ‖y‖ = 2, on which the angle follows φ' = −(F/2) sin φ, and x oscillates with variance F cos φ.
FORCE, RADIUS, ANGLE = 0.3, 2.0, 1.3


def circle(force: float = FORCE) -> AutogradObjective:
    def loss(p: dict[str, Tensor]) -> Tensor:
        return 0.25 * p["y"].square().sum() * p["x"].square().sum() - force * p["y"][0]

    y = vector(RADIUS * math.cos(ANGLE), RADIUS * math.sin(ANGLE))
    return AutogradObjective(loss, {"x": vector(0.0), "y": y})


def angle(time: float, force: float = FORCE) -> float:
    return 2 * math.atan(math.tan(ANGLE / 2) * math.exp(-force * time / RADIUS))


def follow(flow: CentralFlow | StableFlow, state: FlowState, steps: int):
    seen = []
    for _ in range(steps):
        done = flow.step(state)
        seen.append(done.observation)
        state = done.state
    return state, seen


def test_the_central_flow_moves_along_the_threshold():
    flow = CentralFlow(circle(), GradientDescent(1.0), tol=1e-3)
    state, seen = follow(flow, flow.start(), 6)
    y = state.weights[1:]
    assert float(y.norm()) == pytest.approx(RADIUS, abs=1e-4)
    assert float(torch.atan2(y[1], y[0])) == pytest.approx(angle(6), abs=2e-3)
    for observation in seen:
        phi = angle(observation.time)
        assert observation.critical == 1
        assert observation.sharpness[0] == pytest.approx(2.0, abs=1e-3)
        variance = FORCE * math.cos(phi)
        assert observation.variance == pytest.approx(variance, rel=0.02)
        plain = -FORCE * RADIUS * math.cos(phi)
        assert observation.averaged_loss == pytest.approx(plain + variance, abs=0.01)
        assert observation.violation < 1e-6
        largest, direction = observation.variances()
        assert largest.item() == pytest.approx(observation.variance)
        assert abs(direction[0].item()) == pytest.approx(1.0, abs=1e-6)


def test_the_error_is_of_first_order_at_the_threshold():
    ends = []
    for parts in (4, 8, 16):
        flow = CentralFlow(circle(), GradientDescent(1.0), tol=1e9, check_every=10**6)
        state = flow.start(time=1)  # at 0 it would be checked
        for _ in range(4):
            state = flow.step(replace(state, substep=1.0, longest=1 / parts)).state
        y = state.weights[1:]
        ends.append(abs(float(torch.atan2(y[1], y[0])) - angle(4)))
    assert ends[0] / ends[1] == pytest.approx(2, abs=0.2)
    assert ends[1] / ends[2] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("tol", [3e-2, 1e-2, 3e-3])
def test_a_step_is_as_accurate_as_it_says(tol):
    """The error of the step that was compared with half of it is below the difference."""
    flow = CentralFlow(circle(), GradientDescent(1.0), tol=tol, check_every=1)
    state = flow.start()
    done = flow.step(state)
    moved = RADIUS * abs(ANGLE - angle(1))
    y = done.state.weights[1:]
    error = RADIUS * abs(float(torch.atan2(y[1], y[0])) - angle(1)) / moved
    assert done.observation.error <= tol
    assert error <= 1.5 * done.observation.error
    assert done.state.longest <= 1


def gradient_descent(objective: AutogradObjective, rule: Rule, steps: int, kick: Tensor):
    """Iterates of the discrete rule, (steps + 1, p), and its averages ν."""
    weights = objective.start + kick
    average, path, averages = None, [weights], []
    for _ in range(steps):
        gradient = objective.at(weights).gradient
        square = rule.square(gradient, gradient)
        if isinstance(rule, RMSprop):
            rest = rule.begin(gradient) if average is None else average
            average = rest if average is None else rule.beta * rest + (1 - rule.beta) * square
        else:
            average = rule.begin(gradient)
        weights = weights - gradient / rule.metric(average)
        path.append(weights)
        averages.append(average)
    return torch.stack(path), torch.stack(averages)


def test_gradient_descent_oscillates_about_the_central_flow():
    """A step of descent moves y little, and the kick is what the flow says of the oscillation."""
    force, steps = 0.01, 60
    objective, rule = circle(force), GradientDescent(1.0)
    flow = CentralFlow(objective, rule)
    _, seen = follow(flow, flow.start(), steps)
    kick = vector(math.sqrt(force * math.cos(ANGLE)), 0.0, 0.0)
    path, _ = gradient_descent(objective, rule, steps, kick)
    middle = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    measured = (path[1:-1] - middle).square().sum(1)
    predicted = torch.tensor([o.variance for o in seen[1:]], **DOUBLE)
    assert float(predicted.mean() / measured.mean()) == pytest.approx(1, abs=0.1)
    reached, found = float(torch.atan2(path[-1, 2], path[-1, 1])), angle(steps, force)
    assert reached == pytest.approx(found, abs=0.05)
    # gradient flow has left the circle
    plain = StableFlow(objective, rule)
    away, _ = follow(plain, plain.start(), steps)
    assert float(away.weights[1:].norm()) > 1.1 * RADIUS


def test_two_eigenvalues_are_held_each_by_its_oscillation():
    """L = ½ y₁ x₁² + ½ y₂ x₂² − F·y: at y = (2, 2) both are critical, with variances 2 Fᵢ."""
    forces = vector(0.05, 0.02)

    def loss(p: dict[str, Tensor]) -> Tensor:
        return 0.5 * (p["y"] * p["x"].square()).sum() - forces @ p["y"]

    start = {"x": vector(0.0, 0.0), "y": vector(2.0, 2.0)}
    flow = CentralFlow(AutogradObjective(loss, start), GradientDescent(1.0))
    state, seen = follow(flow, flow.start(), 3)
    torch.testing.assert_close(state.weights, vector(0, 0, 2, 2), rtol=0, atol=1e-6)
    assert seen[-1].critical == 2
    values, vectors = seen[-1].variances()
    torch.testing.assert_close(values, 2 * forces, rtol=0, atol=1e-6)
    torch.testing.assert_close(vectors[:2].abs(), torch.eye(2, **DOUBLE), rtol=0, atol=1e-5)
    assert seen[-1].averaged_loss == pytest.approx(seen[-1].loss + float(2 * forces.sum()))


def test_eigenvalues_that_join_are_tracked():
    """The second one, unseen at first, grows into the threshold."""
    forces = vector(0.05, 0.1)

    def loss(p: dict[str, Tensor]) -> Tensor:
        return 0.5 * (p["y"] * p["x"].square()).sum() - forces @ p["y"]

    start = {"x": vector(0.0, 0.0), "y": vector(1.9, 0.5)}
    flow = CentralFlow(AutogradObjective(loss, start), GradientDescent(1.0))
    state, seen = follow(flow, flow.start(), 20)
    torch.testing.assert_close(state.weights[2:], vector(2, 2), rtol=0, atol=1e-6)
    assert [seen[0].critical, seen[5].critical, seen[-1].critical] == [0, 1, 2]
    limited = CentralFlow(AutogradObjective(loss, start), GradientDescent(1.0), limit=1)
    with pytest.raises(FlowError, match="more than 1 eigenvalues are at the threshold"):
        follow(limited, limited.start(), 20)


def quadratic() -> tuple[AutogradObjective, Tensor]:
    scales = vector(0.1, 0.5, 1.2)
    start = {"w": vector(1.0, -2.0, 0.5)}
    return AutogradObjective(lambda p: 0.5 * (scales * p["w"].square()).sum(), start), scales


def test_gradient_flow_of_a_quadratic():
    objective, scales = quadratic()
    for tol in (1e-2, 1e-4):
        flow = StableFlow(objective, GradientDescent(1.0), tol=tol)
        state, seen = follow(flow, flow.start(), 5)
        exact = torch.exp(-5 * scales) * objective.start
        assert float((state.weights - exact).norm()) < tol * float(objective.start.norm())
        assert seen[0].loss == pytest.approx(objective.at(objective.start).loss)
        assert not len(seen[0].values)


def test_below_the_threshold_the_central_flow_is_gradient_flow_to_second_order():
    objective, scales = quadratic()
    exact = torch.exp(-2 * scales) * objective.start
    errors = []
    for parts in (4, 8, 16):
        flow = CentralFlow(objective, GradientDescent(1.0), tol=1e9, check_every=10**6)
        state = flow.start(time=1)
        for _ in range(2):
            state = flow.step(replace(state, substep=1.0, longest=1 / parts)).state
        errors.append(float((state.weights - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.8)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.4)


# L = ½ y x² − F y under RMSprop. With x at the threshold, P_x = y/2, the variance Σ of x and all
# rates follow by hand from P_x' = y'/2 and ν' = c (E[g²] − ν), where E[g_x²] = y² Σ.
PUSH, RATE, BETA = 0.02, 0.4, 0.98


def ramp(y: float) -> AutogradObjective:
    def loss(p: dict[str, Tensor]) -> Tensor:
        return 0.5 * p["y"].sum() * p["x"].square().sum() - PUSH * p["y"].sum()

    return AutogradObjective(loss, {"x": vector(0.0), "y": vector(y)})


def by_hand(scalar: bool, average: list[float]) -> tuple[list[float], float]:
    """dν/dt, and Σ, from ν = [ν] or [ν_x, ν_y]."""
    pace, nu_x, nu_y = (1 - BETA) / BETA, average[0], average[-1]
    bend = 4 * nu_x / RATE**2  # y²
    stiff = RATE**2 * math.sqrt(nu_x / nu_y)
    plain = PUSH**2 - nu_x if scalar else -nu_x  # of E[g²] − ν that P_x follows
    variance = (stiff * PUSH - pace * plain) / (pace * bend + stiff / 2)
    rates = [pace * (plain + bend * variance)]
    return rates if scalar else [*rates, pace * (PUSH**2 - nu_y)], variance


@pytest.mark.parametrize("scalar", [True, False])
def test_the_central_flow_of_rmsprop_is_what_follows_by_hand(scalar):
    rule = RMSprop(RATE, beta=BETA, scalar=scalar)
    average = [0.12] if scalar else [0.12, 4e-4]
    objective = ramp(2 * math.sqrt(average[0]) / RATE)
    flow = CentralFlow(objective, rule, tol=2e-3)
    state, seen = follow(flow, flow.start(average=vector(*average)), 10)
    exact = solve_ivp(
        lambda _, nu: by_hand(scalar, nu)[0], (0, 10), average, rtol=1e-9, dense_output=True
    )
    end = exact.y[:, -1]
    moved = abs(end[0] - average[0])
    assert float(state.average[0]) == pytest.approx(end[0], abs=0.01 * moved)
    assert float(state.weights[1]) == pytest.approx(2 * math.sqrt(end[0]) / RATE, rel=1e-3)
    assert seen[5].variance == pytest.approx(by_hand(scalar, exact.sol(5.0))[1], rel=0.01)
    assert seen[5].values[0] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("scalar", [True, False])
def test_rmsprop_oscillates_about_its_central_flow(scalar):
    """ν settles where the oscillation puts it, far above what the gradient alone would make it."""
    rule = RMSprop(RATE, beta=BETA, scalar=scalar)
    average = vector(*([0.12] if scalar else [0.12, 4e-4]))
    objective = ramp(2 * math.sqrt(float(average[0])) / RATE)
    flow = CentralFlow(objective, rule)
    steps = 60
    state, seen = follow(flow, flow.start(average=average), steps)
    weights = objective.start + vector(math.sqrt(seen[0].variance), 0.0)
    squares, averages = [], []
    for _ in range(steps):
        gradient = objective.at(weights).gradient
        average = BETA * average + (1 - BETA) * rule.square(gradient, gradient)
        weights = weights - gradient / rule.metric(average)
        squares.append(float(weights[0] ** 2))
        averages.append(float(average[0]))
    measured = sum(squares) / steps
    predicted = sum(each.variance for each in seen) / steps
    assert predicted == pytest.approx(measured, rel=0.1)
    assert float(state.average[0]) == pytest.approx(averages[-1], rel=0.1)
    assert float(state.weights[1]) == pytest.approx(float(weights[1]), rel=0.05)
    plain = StableFlow(objective, rule)
    away, _ = follow(
        plain, plain.start(average=vector(*([0.12] if scalar else [0.12, 4e-4]))), steps
    )
    assert float(away.average[0]) < 0.5 * averages[-1]


@pytest.mark.parametrize("scalar", [True, False])
def test_a_corrected_average_goes_on_as_the_discrete_one(scalar):
    """On a slope that does not change, from half of the squared gradient, early in a run."""
    force = vector(0.3, -0.2)
    objective = AutogradObjective(
        lambda p: force @ p["w"] + 1e-12 * p["w"].square().sum(), {"w": vector(0.0, 0.0)}
    )
    rule = RMSprop(0.1, beta=0.97, bias_correction=True, scalar=scalar)
    square = rule.square(force, force)
    torch.testing.assert_close(rule.begin(force), square)
    begun, steps = 5, 30
    corrected = 0.5 * square
    raw = corrected * (1 - rule.beta ** (begun + 1))
    flow = StableFlow(objective, rule)
    state, _ = follow(flow, flow.start(average=corrected, time=begun), steps)
    for _ in range(steps):
        raw = rule.beta * raw + (1 - rule.beta) * square
    corrected = raw / (1 - rule.beta ** (begun + steps + 1))
    torch.testing.assert_close(state.average / square, corrected / square, rtol=0, atol=0.02)


def test_mean_outputs_are_those_over_the_oscillation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.randn(30, 3, **DOUBLE)
    objective = model_objective(model, mse_loss, x, 2 * x[:, :2].sin())
    largest = torch.linalg.eigvalsh(objective.at(objective.start).hessian().to_dense())[-1]
    flow = CentralFlow(objective, GradientDescent(2.02 / float(largest)))
    _, seen = follow(flow, flow.start(), 1)
    observation = seen[0]
    assert observation.critical == 1
    point = objective.at(objective.start)
    change = observation.mean_outputs(point) - point.outputs
    small = 1e-2  # times the oscillation
    shift = small * math.sqrt(float(observation.covariance)) * observation.directions[:, 0]
    both = [objective.at(objective.start + sign * shift).outputs for sign in (1, -1)]
    expected = (sum(both) / 2 - point.outputs) / small**2
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-6)


def test_a_start_above_the_threshold_is_refused():
    objective, _ = quadratic()
    CentralFlow(objective, GradientDescent(1.6)).start()
    with pytest.raises(FlowError, match="starts above the threshold"):
        CentralFlow(objective, GradientDescent(1.8)).start()


def test_a_flow_goes_on_from_its_tensors_as_if_it_had_not_stopped():
    for flow in (
        CentralFlow(circle(), GradientDescent(1.0), check_every=3),
        StableFlow(circle(), GradientDescent(1.0)),
    ):
        state = flow.start()
        for _ in range(4):
            state = flow.step(state).state
        again = FlowState.of({name: t.clone() for name, t in state.tensors().items()})
        for _ in range(4):
            state, again = flow.step(state).state, flow.step(again).state
        for name, tensor in state.tensors().items():
            assert torch.equal(tensor, again.tensors()[name]), name
    with pytest.raises(FlowError, match="lacks changes, gram, longest, substep, time, vectors"):
        FlowState.of({"weights": vector(1), "average": vector(1)})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(0.0), "learning rate is 0"),
        (lambda: GradientDescent("a"), "learning rate is 'a'"),
        (lambda: GradientDescent(None), "learning rate is None"),
        (lambda: GradientDescent(True), "learning rate is True"),
        (lambda: GradientDescent(torch.ones(2)), "learning rate is tensor"),
        (lambda: RMSprop("a"), "learning rate is 'a'"),
        (lambda: RMSprop(0.1, beta="a"), "beta is 'a'"),
        (lambda: RMSprop(0.1, epsilon=None), "epsilon is None"),
        (lambda: RMSprop(0.1, epsilon=math.inf), "epsilon is inf"),
        (lambda: StableFlow(circle(), GradientDescent(1.0), tol="a"), "tol is 'a'"),
        (lambda: StableFlow(circle(), GradientDescent(1.0)).start(time="a"), "time is 'a'"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), tol=None), "tol is None"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), critical="a"), "critical is 'a'"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), limit=2.5), "limit is 2.5"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), check_every=True), "every is True"),
        (lambda: RMSprop(0.1, beta=1.0), "beta is 1"),
        (lambda: RMSprop(0.1, epsilon=-1.0), "epsilon is -1"),
        (lambda: StableFlow(circle(), GradientDescent(1.0), tol=0.0), "tol is 0"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), limit=0), "limit is 0"),
        (lambda: CentralFlow(circle(), GradientDescent(1.0), check_every=0), "check_every is 0"),
        (lambda: StableFlow(circle(), GradientDescent(1.0)).start(vector(1)), "shape"),
        (
            lambda: StableFlow(circle(), GradientDescent(1.0)).start(average=vector(1)),
            "average has shape",
        ),
        (
            lambda: StableFlow(circle(), GradientDescent(1.0)).start(vector(math.nan, 1, 1)),
            "NaN",
        ),
        (lambda: StableFlow(circle(), GradientDescent(1.0)).start(time=-1), "time is -1"),
        (lambda: StableFlow(circle(), GradientDescent(1.0)).start(time=1e16), r"time is 1e\+16"),
        (lambda: StableFlow(circle(), GradientDescent(1.0)).start([1.0]), "weights are a list"),
        (lambda: StableFlow(circle(), RMSprop(0.1)).start(average=-vector(1, 1, 1)), "negative"),
        (lambda: StableFlow(circle(), 0.1), "rule is a float"),
        (lambda: CentralFlow(nn.Linear(2, 1), GradientDescent(1.0)), "objective is a Linear"),
        (lambda: GradientDescent(10**400), "learning rate is 1000"),
    ],
)
def test_mistakes_get_a_sentence(make, words):
    with pytest.raises((FlowError, ValueError), match=words):
        make()


@pytest.mark.parametrize("sharpness", [0.5, 4.0, 20.0, 50.0, 300.0, 1000.0])
def test_gradient_flow_decays_whatever_the_curvature(sharpness):
    """Within what `tol` allows of the move; it grew without bound where the curvature was large."""
    objective = AutogradObjective(
        lambda p: 0.5 * sharpness * p["w"].square().sum() + 0.05 * p["v"].square().sum(),
        {"w": vector(1.0), "v": vector(1.0)},
    )
    flow = StableFlow(objective, GradientDescent(1.0))
    state = flow.start()
    for step in range(1, 6):
        before, state = state, flow.step(state).state
        exact = vector(math.exp(-sharpness * step), math.exp(-0.1 * step))
        move = (state.weights - before.weights).norm()
        assert float((state.weights - exact).norm()) < 0.06 * float(move) + 1e-12, step


def test_an_average_that_starts_at_rest_costs_no_more():
    """With bias correction ν begins at ∇L², where its rate is 0."""
    objective = AutogradObjective(lambda p: 0.5 * p["w"].square().sum(), {"w": vector(1.0, 2.0)})
    used = []
    for corrected in (False, True):
        flow = StableFlow(objective, RMSprop(1e-2, 0.99, 1e-8, bias_correction=corrected))
        used.append(flow.step(flow.start()).observation.substeps)
    assert used[1] <= 2 * used[0]


def test_a_learning_rate_may_be_a_tensor():
    rule = RMSprop(torch.tensor(0.1, requires_grad=True), 0.9)
    assert (rule.learning_rate, type(rule.learning_rate)) == (pytest.approx(0.1), float)
