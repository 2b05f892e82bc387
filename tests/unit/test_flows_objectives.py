"""Losses with three derivatives: closed forms, autograd and differences agree."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from specs import part, spec
from torch import Tensor, nn
from torch.nn import functional as F

from sharpflow.curvature import top_eigenpairs
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.dense_loss import DenseLoss
from sharpflow.data.base import generate
from sharpflow.errors import FlowError
from sharpflow.flows import (
    AutogradObjective,
    CentralFlow,
    GradientDescent,
    Objective,
    RMSprop,
    model_objective,
    problem_objective,
    problem_rule,
)
from sharpflow.flows.dense import DenseObjective, TargetLoss
from sharpflow.flows.smoothness import gradient_order
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.parts.loading import load_part
from sharpflow.training import Problem

SMOOTH = [name for name, each in ACTIVATIONS.items() if each.smooth]
LOSSES = {
    "mse": {"kind": "mse"},
    "cross_entropy": {"kind": "cross_entropy", "label_smoothing": 0.1},
    "binary_cross_entropy": {"kind": "binary_cross_entropy"},
}
EXACT = {"dtype": torch.float64}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **EXACT)


def loss_part(name: str):
    return load_part("losses", LOSSES[name]).build(LOSSES[name])


def stack(activation: str, loss_name: str, biased: bool) -> tuple[DenseObjective, Objective]:
    """5–7–6–3, in closed form and by autograd."""
    sizes, n = [5, 7, 6, 3], 9
    loss, x, y = loss_part(loss_name), draw(n, 5), draw(n, 3, seed=1)
    y = {"mse": y, "cross_entropy": y.softmax(1), "binary_cross_entropy": y.sign()}[loss_name]
    shapes = list(pairwise(sizes))
    weights = [draw(*shape, seed=2 + i) / 2 for i, shape in enumerate(shapes)]
    biases = [draw(b, seed=9 + i) / 2 for i, (_, b) in enumerate(shapes)] if biased else None
    names = [f"{kind}{i}" for i in range(3) for kind in ("wb" if biased else "w")]

    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        h = x
        for i in range(3):
            h = h @ parameters[f"w{i}"]
            h = h + parameters[f"b{i}"] if biased else h
            h = ACTIVATIONS[activation].function(h) if i < 2 else h
        return h

    dense = DenseObjective(
        weights, biases, activation, prepare_inputs(x), TargetLoss(loss, y, 1 / n),
        lambda found: dict(zip(names, found, strict=True)),
    )  # fmt: skip
    general = AutogradObjective(lambda p: loss(outputs(p), y), dense.named(dense.start), outputs)
    return dense, general


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("activation", SMOOTH)
def test_closed_forms_are_those_of_autograd(activation, loss_name, biased):
    dense, general = stack(activation, loss_name, biased)
    ours, theirs = dense.at(dense.start), general.at(general.start)
    u = draw(dense.size, 3, seed=20)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
    torch.testing.assert_close(ours.gradient, theirs.gradient)
    torch.testing.assert_close(ours.hessian().to_dense(), theirs.hessian().to_dense())
    torch.testing.assert_close(ours.outputs, theirs.outputs)
    torch.testing.assert_close(ours.third_derivatives(u), theirs.third_derivatives(u))
    torch.testing.assert_close(ours.second_outputs(u), theirs.second_outputs(u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("blocks", [[4], [3, 1], [1] * 6, [1] * 20])
def test_third_derivatives_take_up_passes_of_products(blocks, dtype, monkeypatch):
    """The solver's vectors are written over later; those outside of their span are seen."""
    dense, _ = stack("tanh", "mse", True)
    dense.inputs = prepare_inputs(dense.inputs.matrix.to(dtype))
    dense.loss = replace(dense.loss, targets=dense.loss.targets.to(dtype))
    dense.dtype = dtype
    v = torch.linalg.qr(draw(dense.size, sum(blocks), seed=5))[0].to(dtype)
    inside, outside = v[:, :4] @ draw(4, 2, seed=6).to(dtype), draw(dense.size, 2, seed=7).to(dtype)
    outside = inside + 1e-2 * outside
    expected = [dense.at(dense.start).third_derivatives(u) for u in (inside, outside)]
    point = dense.at(dense.start)
    hessian = point.hessian()
    for block in v.split(blocks, 1):
        rows = block.T.clone()
        hessian.matvec(rows.T)
        rows.zero_()
    afresh = []
    passes = DenseLoss._passes
    monkeypatch.setattr(DenseLoss, "_passes", lambda *args: afresh.append(1) or passes(*args))
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(point.third_derivatives(inside), expected[0], **tolerance)
    assert bool(afresh) == (sum(blocks) > 8)
    torch.testing.assert_close(point.third_derivatives(outside), expected[1], **tolerance)
    assert len(afresh) == 1 + (sum(blocks) > 8)


def test_third_derivatives_of_directions_of_unlike_lengths():
    dense, general = stack("tanh", "mse", True)
    u = draw(dense.size, 3, seed=20) * torch.tensor([1.0, 1e6, 0.0], dtype=torch.float64)
    found = dense.at(dense.start).third_derivatives(u)
    expected = general.at(general.start).third_derivatives(u)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9 * float(theirs.norm()))


def rate_of_bend(objective: Objective, u: Tensor, v: Tensor, along: Tensor, h: float) -> float:
    """d/dw (uᵀHv) along a direction, by a central difference."""
    ahead, behind = (objective.at(objective.start + s * h * along).hessian() for s in (1, -1))
    return float(u @ (ahead.matvec(v) - behind.matvec(v))) / (2 * h)


@pytest.mark.parametrize("kind", ["dense", "general"])
def test_third_derivatives_are_those_of_differences(kind):
    objective = stack("tanh", "cross_entropy", True)[kind == "general"]
    u = draw(objective.size, 2, seed=3)
    found = objective.at(objective.start).third_derivatives(u)
    along = draw(objective.size, seed=4)
    for row, (i, j) in zip(found, [(0, 0), (0, 1), (1, 1)], strict=True):
        expected = rate_of_bend(objective, u[:, i], u[:, j], along, 1e-5)
        assert float(row @ along) == pytest.approx(expected, rel=1e-6)


def test_second_outputs_are_those_of_differences():
    objective, _ = stack("softplus", "mse", True)
    u, h = draw(objective.size, 1, seed=3)[:, 0], 1e-3
    ahead, here, behind = (objective.at(objective.start + s * h * u).outputs for s in (1, 0, -1))
    found = objective.at(objective.start).second_outputs(u[:, None])[0]
    torch.testing.assert_close(found, (ahead - 2 * here + behind) / h**2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_third_derivatives_of_activations(name):
    z = draw(200).requires_grad_()
    each = ACTIVATIONS[name]
    (expected,) = torch.autograd.grad(
        (each.second_derivative(z) + 0 * z).sum(), z, materialize_grads=True
    )
    z = z.detach()
    if name == "elu":  # what is added is a fall by 1
        grid = torch.linspace(-1, 1, 20001, **EXACT)
        fall = each.third_derivative(grid) - torch.exp(grid.clamp(max=0)) * (grid < 0)
        assert float(torch.trapezoid(fall, grid)) == pytest.approx(-1, abs=1e-3)
        return
    torch.testing.assert_close(each.third_derivative(z), expected)
    values = (z, *each.value_and_derivative(z))
    torch.testing.assert_close(each.twist(*values), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_third_derivatives_of_losses(name):
    loss, f, y = loss_part(name), draw(4, 3), draw(4, 3, seed=1)
    y = y.softmax(1) if name == "cross_entropy" else y.sign()
    a, b = draw(4, 3, seed=2), draw(4, 3, seed=3)

    def row(outputs: Tensor) -> Tensor:
        return loss.rows(outputs, y).sum()

    once = torch.func.jvp(torch.func.grad(row), (f,), (b,))[1]
    assert once.shape == f.shape
    twice = torch.func.jvp(
        lambda x: torch.func.jvp(torch.func.grad(row), (x,), (b,))[1], (f,), (a,)
    )[1]
    torch.testing.assert_close(loss.third(f, y, a, b), twice)


def test_the_jump_of_elu_is_in_its_third_derivative():
    """Along descent on photographs the sharpness rises, and without the jump it would fall."""
    data = generate(part("data", "photos", samples=400, scaling="standardised"))[0]
    model = {"kind": "mlp", "hidden_layers": 2, "activation": "elu"}
    made = Problem(spec(model, width=100, seeds=[100]), data)
    objective = problem_objective(made)
    assert objective.spread
    here = objective.at(objective.start)
    u = top_eigenpairs(here.hessian()).vectors
    along = -here.gradient / here.gradient.norm()
    expected = rate_of_bend(objective, u[:, 0], u[:, 0], along, 0.01)
    found = float(here.third_derivatives(u)[0] @ along)
    v, way = objective.named(u[:, 0].contiguous()), objective.named(along)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        h = data["coordinates"].double()
        for name in ("weight0", "weight1"):
            h = F.elu(h @ weights[name])
        return (h @ weights["weight2"] - data["targets"]).square().sum(1).mean()

    def slope(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.jvp(loss, (weights,), (v,))[1]

    def bend(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.jvp(slope, (weights,), (v,))[1]

    start = objective.named(objective.start)
    assert float(loss(start)) == pytest.approx(here.loss)
    assert float(bend(start)) == pytest.approx(float(u[:, 0] @ here.hessian().matvec(u[:, 0])))
    plain = float(torch.func.jvp(bend, (start,), (way,))[1])
    assert expected > 0 > plain
    assert abs(found - expected) < 0.3 * abs(plain - expected)  # differences see single kinks


NORMS = {
    "layer": (nn.LayerNorm(6), (20, 6)),
    "batch": (nn.BatchNorm1d(6), (20, 6)),
    "images": (nn.Sequential(nn.Unflatten(1, (2, 3)), nn.BatchNorm1d(2), nn.Flatten()), (20, 6)),
    "instance": (
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten()),
        (20, 6),
    ),
    "group": (nn.GroupNorm(2, 6), (20, 6)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_have_the_third_derivatives_of_differences(name):
    """By autograd alone those of layer, batch and instance norm are wrong."""
    torch.manual_seed(0)
    norm, shape = copy.deepcopy(NORMS[name])
    model = nn.Sequential(nn.Linear(6, 6), norm, nn.Tanh(), nn.Linear(6, 2)).double()
    objective = model_objective(model, F.mse_loss, draw(*shape), draw(20, 2, seed=1))
    u = draw(objective.size, seed=2)
    along = draw(objective.size, seed=3)
    found = objective.at(objective.start).third_derivatives(u[:, None])[0]
    expected = rate_of_bend(objective, u, u, along, 1e-4)
    assert float(found @ along) == pytest.approx(expected, rel=1e-5)


class HalfSine(torch.autograd.Function):
    """sin, whose third derivative autograd has not."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * HalfCosine.apply(x)


class HalfCosine(torch.autograd.Function):
    """cos, whose derivative is −sin with nothing behind it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.cos()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return -slope * x.detach().sin()


class Sine(nn.Module):
    """A sine that autograd differentiates twice."""

    def forward(self, x: Tensor) -> Tensor:
        return HalfSine.apply(x)


def test_a_third_derivative_that_is_wrong_is_found_at_the_start():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), Sine(), nn.Linear(8, 3)).double()
    objective = model_objective(model, F.mse_loss, draw(20, 6), 5 * draw(20, 3, seed=1))
    with pytest.raises(FlowError, match="differences of the second one"):
        CentralFlow(objective, GradientDescent(1e-3)).start()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.ReLU(), "relu"),
        (nn.LeakyReLU(), "leaky ReLU"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.ELU(alpha=2.0), "ELU with a kink"),
        (nn.Sequential(nn.Unflatten(1, (2, 4)), nn.MaxPool1d(2), nn.Flatten()), "max pooling"),
    ],
)
def test_networks_without_third_derivatives_are_refused_before_any_work(layer, words):
    width = 4 if isinstance(layer, nn.Sequential) else 8
    model = nn.Sequential(nn.Linear(6, 8), layer, nn.Linear(width, 3)).double()
    objective = model_objective(model, F.mse_loss, draw(20, 6), draw(20, 3, seed=1))
    with pytest.raises(FlowError, match=f"{words}.* has no usable third derivative"):
        CentralFlow(objective, GradientDescent(1e-3))
    CentralFlow(objective, GradientDescent(1e-3), kinks=True).start()


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


def stable_softmax(h: Tensor) -> Tensor:
    shares = (h - h.amax(1, keepdim=True)).exp()
    return shares / shares.sum(1, keepdim=True)


KINKED = {
    "where": lambda h: torch.where(h > 0, h, 0 * h),
    "product with a condition": lambda h: h * (h > 0),
    "root of a square": lambda h: h.square().sqrt(),
    "sort": lambda h: h.sort(1).values,
    "topk": lambda h: h.topk(8, 1).values,
    "cummax": lambda h: h.cummax(1).values,
    "absolute value": torch.abs,
    "clamp": lambda h: h.clamp(min=0),
    "maximum": lambda h: torch.maximum(h, 0.3 * h),
    "ELU by hand": lambda h: torch.where(h > 0, h, h.clamp(max=0).exp() - 1),
}
SMOOTHLY = {
    "normalize": F.normalize,
    "softmax less its maximum": stable_softmax,
    "absolute value of what is positive": lambda h: h.exp().abs(),
    "clamp of what is inside": lambda h: h.sin().clamp(-2, 2),
    "layer norm": lambda h: F.layer_norm(h, (8,)),
    "steep": lambda h: torch.tanh(10 * h),
    "ELU": F.elu,
}


def of_function(function, dtype, samples: int = 20) -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), Of(function), nn.Linear(8, 3)).to(dtype)
    x, y = draw(samples, 6).to(dtype), draw(samples, 3, seed=1).to(dtype)
    return model_objective(model, F.mse_loss, x, y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("function", KINKED.values(), ids=KINKED)
def test_kinks_that_no_name_tells_are_found_at_the_start(function, dtype):
    flow = CentralFlow(of_function(function, dtype), GradientDescent(1e-3))
    with pytest.raises(FlowError, match="the loss has kinks near its start"):
        flow.start()
    CentralFlow(flow.objective, GradientDescent(1e-3), kinks=True).start()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("samples", [20, 300])
@pytest.mark.parametrize("function", SMOOTHLY.values(), ids=SMOOTHLY)
def test_functions_whose_kinks_do_nothing_are_followed(function, samples, dtype):
    CentralFlow(of_function(function, dtype, samples), GradientDescent(1e-3)).start()


@pytest.mark.parametrize(
    ("function", "order"),
    [(torch.tanh, 2.0), (lambda h: h * (h > 0), 0.0), (lambda h: h.square() * (h > 0), 1.0)],
)
def test_the_order_of_the_gradient_is_that_of_the_function(function, order):
    objective = of_function(function, torch.float64)
    assert gradient_order(objective, objective.start) == pytest.approx(order, abs=0.4)


def test_a_model_in_closed_form_is_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = draw(20, 6), draw(20, 3, seed=1)
    dense = model_objective(model, F.mse_loss, x, y)
    general = model_objective(model, lambda f, t: F.mse_loss(f, t), x, y)
    assert isinstance(dense, DenseObjective)
    moved = dense.start + 0.1 * draw(dense.size, seed=2)
    parameters = dense.named(moved)
    assert {n: p.shape for n, p in parameters.items()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    flat = torch.cat([parameters[n].reshape(-1) for n, _ in model.named_parameters()])
    here = dense.at(moved)
    assert here.loss == pytest.approx(general.at(flat).loss)
    joined = torch.cat(
        [dense.named(here.gradient)[n].reshape(-1) for n, _ in model.named_parameters()]
    )
    torch.testing.assert_close(joined, general.at(flat).gradient)


def test_data_in_parts_are_the_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = draw(20, 6), draw(20, 3, seed=1)

    def of(f: Tensor, t: Tensor) -> Tensor:
        return F.mse_loss(f, t)

    whole = model_objective(model, of, x, y)
    micro = model_objective(model, of, x, y, micro_batch=7)
    batches = [(x[:7], y[:7]), (x[7:], y[7:])]
    streamed = model_objective(model, lambda m, b: of(m(b[0]), b[1]), batches)
    u = draw(whole.size, 2, seed=2)
    expected = whole.at(whole.start)
    for other in (micro, streamed):
        found = other.at(other.start)
        assert found.loss == pytest.approx(expected.loss)
        torch.testing.assert_close(found.gradient, expected.gradient)
        torch.testing.assert_close(found.hessian().matvec(u), expected.hessian().matvec(u))
        torch.testing.assert_close(found.third_derivatives(u), expected.third_derivatives(u))
    assert micro.at(micro.start).outputs.shape == (20, 3)


def problem(optimiser: str = "sgd", schedule: str = "constant", **training) -> Problem:
    model = {"kind": "mlp", "hidden_layers": 2, "activation": "tanh", "bias": True}
    shard = spec(model, training, optimiser={"kind": optimiser}, learning_rate=0.01)
    shard["schedule"] = part("schedules", schedule)
    return Problem(shard, {"inputs": draw(12, 4), "targets": draw(12, 2, seed=1)})


@pytest.mark.parametrize("frozen", [0, 1])
def test_an_objective_of_a_problem_is_its_run(frozen):
    made = problem(frozen=frozen)
    state = made.initial_state()
    found = made.loss_and_gradient(made.parameters(state), made.inputs, made.targets)
    for run in (0, 1):
        objective = problem_objective(made, run)
        point = objective.at(objective.start)
        assert point.loss == pytest.approx(float(found.losses[run]))
        for name, gradient in objective.named(point.gradient).items():
            torch.testing.assert_close(gradient, found.gradients[name][run])
        for name, tensor in objective.named(objective.start).items():
            torch.testing.assert_close(tensor, state[name][run])
        assert isinstance(objective, DenseObjective) == (not frozen)


def test_each_run_has_its_learning_rate():
    shard = spec({"kind": "mlp", "hidden_layers": 2, "activation": "tanh"}, learning_rate=0.5)
    shard["schedule"] = part("schedules", "initial_sharpness")
    made = Problem(shard, {"inputs": draw(12, 4), "targets": draw(12, 2, seed=1)})
    for run in (0, 1):
        rule, objective = problem_rule(made, run), problem_objective(made, run)
        found = CentralFlow(objective, rule).step(CentralFlow(objective, rule).start())
        assert found.observation.values[0] == pytest.approx(1.0, rel=1e-3)  # half of the threshold


def test_rules_of_problems():
    assert problem_rule(problem(), 0) == GradientDescent(0.01)
    rule = problem_rule(problem("rmsprop"), 0)
    assert isinstance(rule, RMSprop)
    assert (rule.learning_rate, rule.beta, rule.epsilon) == (0.01, 0.99, 1e-8)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: problem("adam"), "Adam has no flow here"),
        (lambda: problem("heavy_ball"), "HeavyBall has no flow here"),
        (lambda: problem(batch=4), "training.batch is a number"),
        (lambda: problem(weight_decay=0.1), "weight_decay"),
        (lambda: problem(clip_norm=1.0), "clipped"),
        (lambda: problem(schedule="cosine"), "schedule changes the learning rate"),
    ],
)
def test_problems_without_a_flow_are_refused(made, words):
    with pytest.raises(FlowError, match=words):
        problem_rule(made(), 0)


# --- what is no third derivative, and what the model does meanwhile


class Where(nn.Module):
    """A ReLU that no name in the graph tells."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, z, 0 * z)


@pytest.mark.parametrize("blank", [False, True])
def test_a_kink_at_the_start_itself_hides_no_others(blank):
    """A blank sample and no bias: a unit is 0 at the very weights."""
    torch.manual_seed(0)
    x, y = torch.randn(30, 4).double(), torch.randn(30, 2).double()
    net = nn.Sequential(nn.Linear(4, 6), Where(), nn.Linear(6, 2)).double()
    nn.init.zeros_(net[0].bias)
    if blank:
        x[0] = 0
    with pytest.raises(FlowError, match="kinks near its start"):
        CentralFlow(model_objective(net, F.mse_loss, x, y), GradientDescent(1e-3)).start()


@pytest.mark.parametrize("start", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.3, -0.7, 1.9)])
def test_rounding_is_no_kink_of_a_quadratic(start):
    curvatures = torch.tensor([3.0, 1.0, 0.5]).double()
    objective = AutogradObjective(
        lambda p: 0.5 * (curvatures * p["w"] ** 2).sum(), {"w": torch.tensor(start).double()}
    )
    CentralFlow(objective, GradientDescent(0.1)).start()


@pytest.mark.parametrize("rate", [1e-3, 0.1])
def test_a_wrong_second_derivative_is_refused(rate):
    """That of the fused weight_norm: the central flow was off by half of its own way."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double().sign()
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    net = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)).double()
    with pytest.raises(FlowError, match="not those of a symmetric matrix"):
        CentralFlow(model_objective(net, F.mse_loss, x, y), GradientDescent(rate)).start()


def test_an_objective_stays_at_the_model_that_it_was_made_of():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4).double(), torch.randn(30, 2).double()
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 2)
    net = nn.Sequential(*layers).double().eval()
    objective = model_objective(net, F.mse_loss, x, y)
    vectors = torch.randn(objective.size, 1).double()

    def seen() -> list[Tensor]:
        point = objective.at(objective.start)
        product = point.hessian().matvec(vectors[:, 0])
        return [torch.tensor(point.loss), point.gradient, product, point.third_derivatives(vectors)]

    before = seen()
    net.train()
    net(x)
    for one, other in zip(before, seen(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    frozen = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    objective = model_objective(frozen, F.mse_loss, x, y, only="0.*")
    with torch.no_grad():
        frozen[2].weight.mul_(2)
    with pytest.raises(ValueError, match="the model was changed since"):
        _ = objective.at(objective.start).loss
