"""What people pass to `sharpness`: the right number, or one sentence that names the mistake."""

import pytest
import torch
from small_classifier import draw, net, samples
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sharpflow import curvature
from sharpflow.curvature import LinearOperator, gauss_newton_operator, sharpness

INPUTS, LABELS = samples(12)
LOADER = DataLoader(TensorDataset(INPUTS, LABELS), batch_size=5)


def loss_of_pair(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def exact(model, loss, inputs=INPUTS, targets=LABELS) -> float:
    """Top eigenvalue of the dense Hessian, by automatic differentiation alone."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def value(vector):
        parts = zip(named.items(), vector.split(sizes), strict=True)
        given = {name: part.view(p.shape) for (name, p), part in parts}
        return loss(functional_call(model, given, (inputs,)), targets)

    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])
    return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, flat))[-1])


@pytest.fixture(scope="module")
def expected() -> float:
    return exact(net(), cross_entropy)


def about(value: float):
    return pytest.approx(value, rel=1e-6)


class Named(nn.Module):
    """Takes its data, and a factor, by name only."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, *, x, factor):
        return factor * self.net(x)


def test_arguments_by_name_go_through_the_loss_of_a_batch(expected):
    batches = [{"x": x, "y": y} for x, y in LOADER]

    def loss(model, batch):
        return cross_entropy(model(x=batch["x"], factor=1.0), batch["y"])

    assert sharpness(Named(), loss, batches, tol=1e-8) == about(expected)


@pytest.mark.parametrize("data", ["whole", "batches"])
@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        torch.jit.script,
        lambda model: torch.jit.trace(model, INPUTS),
        nn.DataParallel,
        lambda model: nn.Sequential(torch.jit.script(model), nn.Identity()),
    ],
    ids=["compiled", "scripted", "traced", "data_parallel", "scripted_part"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrapped_modules(wrap, data, expected):
    model = wrap(net())
    given = (cross_entropy, INPUTS, LABELS) if data == "whole" else (loss_of_pair, LOADER)
    assert sharpness(model, *given, tol=1e-8) == about(expected)


def test_a_module_that_compiles_itself(expected):
    model = net()
    model.compile(backend="aot_eager")
    assert sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-8) == about(expected)


@pytest.mark.parametrize("collect", [lambda f: (f, 0), lambda f: {"logits": f}])
def test_outputs_that_are_no_tensor(collect, expected):
    class Collecting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return collect(self.net(x))

    def loss(outputs, targets):
        return cross_entropy(
            next(iter(dict(outputs).values())) if isinstance(outputs, dict) else outputs[0], targets
        )

    assert sharpness(Collecting(), loss, INPUTS, LABELS, tol=1e-8) == about(expected)


class Physical(nn.Module):
    """A network and its derivative in the inputs, as a physics-informed loss reads it."""

    def __init__(self):
        super().__init__()
        self.net = net(activation=nn.Tanh)

    def forward(self, x):
        x = x.detach().requires_grad_()
        u = self.net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return torch.cat([u, slope], 1)


@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("data", ["whole", "micro", "batches"])
def test_a_forward_that_differentiates_the_network(data, around):
    targets = draw(12, 8, seed=2)
    top = exact(Physical(), mse_loss, targets=targets)
    pairs = list(zip(INPUTS.split(5), targets.split(5), strict=True))
    given = {
        "whole": (mse_loss, INPUTS, targets),
        "micro": (mse_loss, INPUTS, targets),
        "batches": (lambda model, batch: mse_loss(model(batch[0]), batch[1]), pairs),
    }[data]
    options = {"micro_batch": 5} if data == "micro" else {}
    with around():
        assert sharpness(Physical(), *given, tol=1e-8, **options) == about(top)


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=True)


class Alone(nn.Module):
    """A module whose forward takes no data."""

    def forward(self):
        return None


def backward_inside(outputs, targets):
    loss = cross_entropy(outputs, targets)
    loss.backward()
    return loss


compiled_part = net()
# inductor would compile a library that flushes denormals in the whole process, in PyTorch 2.5
compiled_part[0] = torch.compile(compiled_part[0], backend="aot_eager")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((net(), cross_entropy, LOADER, LABELS), "inputs is a DataLoader; .* leave targets out"),
        ((net(), cross_entropy, {"x": INPUTS}, LABELS), "inputs is a dict"),
        ((net(), cross_entropy, [INPUTS], LABELS), "inputs is a list"),
        (
            (net(), cross_entropy, INPUTS.numpy(), LABELS),
            r"inputs is a ndarray; .* torch.as_tensor\(inputs\)",
        ),
        ((net(), loss_of_pair, INPUTS.numpy()), "these are a ndarray; give a list of batches"),
        ((net(), lambda f, y: cross_entropy(f, y), LOADER), r"loss\(model, batch\) fails, with"),
        ((net(), nn.CrossEntropyLoss, INPUTS, LABELS), r"make one of it: CrossEntropyLoss\(\)"),
        ((net(), nn.CrossEntropyLoss, LOADER), r"make one of it: CrossEntropyLoss\(\)"),
        ((net(), None, INPUTS, LABELS), "the loss is a NoneType; it must be a function"),
        ((net(), "mse", LOADER), "the loss is a str; it must be a function"),
        ((nn.LazyLinear(3), cross_entropy, INPUTS, LABELS), "call the model once"),
        ((net(), cross_entropy, None, LABELS), "inputs is a NoneType"),
        ((net(), cross_entropy, (INPUTS, None), LABELS), "inputs is a NoneType"),
        ((net(), cross_entropy, INPUTS, LABELS.numpy()), "targets is a ndarray"),
        ((net(), cross_entropy, INPUTS, (LABELS,)), "targets is a tuple"),
        ((net(), cross_entropy, INPUTS, LABELS.tolist()), "targets is a list"),
        ((net(), cross_entropy, INPUTS), "these are a Tensor"),
        ((net(), cross_entropy, None), "these are a NoneType"),
        ((net(), loss_of_pair, [(INPUTS.numpy(), LABELS.numpy())]), "holds no tensor with a row"),
        ((net(), lambda batch: batch, LOADER), r"loss\(model, batch\) fails, .* 2 were given"),
        ((net(), loss_of_pair, INPUTS, LABELS), r"loss_fn\(model\(inputs\), targets\) fails"),
        ((Named(), cross_entropy, INPUTS, LABELS), r"loss_fn\(model\(inputs\), targets\) fails"),
        ((Alone(), cross_entropy, INPUTS, LABELS), "no parameter|fails"),
        ((net().float(), cross_entropy, INPUTS, LABELS), "mixes precisions"),
        ((net(), cross_entropy, INPUTS[:, :4], LABELS), "fails, with RuntimeError.*shapes"),
        ((net(), cross_entropy, INPUTS, LABELS + 2), "fails, with IndexError: Target 3"),
        ((net(), lambda f, y: f["logits"], INPUTS, LABELS), "fails"),
        ((net(), lambda f, y: cross_entropy(f, y) * 1j, INPUTS, LABELS), "loss is complex"),
        ((net(), lambda f, y: None, INPUTS, LABELS), "loss is NoneType"),
        ((net(), lambda f, y: cross_entropy(f, y).item(), INPUTS, LABELS), "loss is float"),
        ((net(), backward_inside, INPUTS, LABELS), "fails, with RuntimeError"),
        ((net(Reentrant()), cross_entropy, INPUTS, LABELS), r"compatible with .grad\(\)"),
        ((net(Reentrant()), loss_of_pair, LOADER), r"compatible with .grad\(\)"),
        (
            (compiled_part, cross_entropy, INPUTS, LABELS),
            "second derivative .* is compiled: take it as it was before",
        ),
        (
            (
                net(),
                torch.compile(lambda f, y: cross_entropy(f, y), backend="aot_eager"),
                INPUTS,
                LABELS,
            ),
            "second derivative",
        ),
        ((lambda x: x, cross_entropy, INPUTS, LABELS), "model is a function"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_mistakes_are_told_in_a_sentence(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        sharpness(*arguments)
    assert "\n" not in str(caught.value)


def test_a_fault_in_a_later_batch_is_told_too():
    batches = [(INPUTS[:5], LABELS[:5]), (INPUTS[5:], LABELS[5:] + 2)]
    with pytest.raises(ValueError, match=r"loss\(model, batch\) fails, with IndexError: Target"):
        sharpness(net(), loss_of_pair, batches)


def test_random_states_are_kept_where_reading_draws():
    """A loader draws a seed whenever it is read, from its own generator if it has one."""
    own = torch.Generator().manual_seed(3)
    shuffled = DataLoader(TensorDataset(INPUTS, LABELS), batch_size=5, shuffle=True, generator=own)
    model = net()  # which draws too
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), own.get_state()
    sharpness(model, loss_of_pair, LOADER)
    with pytest.raises(ValueError, match="does the loader shuffle"):
        sharpness(model, loss_of_pair, shuffled)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.equal(own.get_state(), before[1])


def test_a_module_that_is_used_twice_is_put_back():
    layer = nn.Linear(5, 5)
    torch.manual_seed(0)
    model = nn.Sequential(layer, nn.GELU(), layer, nn.Linear(5, 3)).double()
    before = [id(p) for p in model.parameters()]
    assert len(before) == 4
    sharpness(model, cross_entropy, INPUTS, LABELS)
    assert [id(p) for p in model.parameters()] == before


def test_a_compiled_loss_is_no_output_curvature():
    loss = torch.compile(lambda f: cross_entropy(f, LABELS), backend="aot_eager")
    model = net()
    with pytest.raises(ValueError, match="a function or module is compiled"):
        gauss_newton_operator(
            lambda p: functional_call(model, p, (INPUTS,)), dict(model.named_parameters()), loss
        )


OF_AN_OPERATOR = [
    name
    for name in curvature.__all__
    if next(iter(getattr(getattr(curvature, name), "__annotations__", {})), "") == "operator"
]


@pytest.mark.parametrize("name", OF_AN_OPERATOR)
@pytest.mark.parametrize("given", [torch.eye(3), torch.eye(3).numpy(), net()], ids=type)
def test_what_is_no_operator_is_told_how_to_make_one(name, given):
    more = [1.0] if name in ("eigenpairs_above", "effective_dimension") else []
    with pytest.raises(TypeError, match=r"LinearOperator.from_dense\(matrix\)"):
        getattr(curvature, name)(given, *more)


def test_functions_of_an_operator_are_found():
    assert {"top_eigenpairs", "bottom_eigenpairs", "trace", "spectral_density"} <= {*OF_AN_OPERATOR}


def test_parameters_and_vectors_of_another_kind_are_told_what_to_give():
    with pytest.raises(TypeError, match=r"params is a list; .* dict\(model.named_parameters\(\)\)"):
        curvature.hessian_operator(lambda params: params[0].sum(), list(net().parameters()))
    with pytest.raises(TypeError, match=r"vectors is a ndarray; .* torch.as_tensor\(vectors\)"):
        LinearOperator.from_dense(torch.eye(3)) @ torch.ones(3).numpy()
