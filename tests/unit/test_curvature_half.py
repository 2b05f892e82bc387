"""Models of any precision, measured in copies; sparse gradients; parametrised modules."""

import copy
from collections import OrderedDict, namedtuple
from functools import partial

import pytest
import torch
from small_classifier import draw, net, samples
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import parametrizations, parametrize

from sharpflow.curvature import SharpnessTracker, hessian_operator, sharpness
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.reference import dense_hessian

N = 12
INPUTS, LABELS = samples(N)
HALF = (torch.bfloat16, torch.float16)


def exact(model, inputs=INPUTS, targets=LABELS, loss_fn=cross_entropy, only="") -> float:
    """Top eigenvalue of the dense Hessian of a model in float64, in some of its parameters."""
    model = copy.deepcopy(model).double()
    params = {n: p.detach() for n, p in model.named_parameters() if n.startswith(only)}

    def value(p):
        outputs = functional_call(model, p, (inputs,))
        return loss_fn(outputs, targets)

    return float(torch.linalg.eigvalsh(dense_hessian(value, params))[-1])


def normalised():
    """Batch norm, whose buffers are in half precision too, in evaluation mode."""
    model = net(nn.BatchNorm1d(6))
    model(3 * INPUTS + 1)
    return model.eval()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        x = x.to(self.first.weight.dtype)  # follows its parameters, and so is right
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


MODELS = {"plain": net, "batch norm": normalised, "tied": Tied}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_the_value_is_that_of_a_copy_in_float32(name, half, micro_batch):
    model, inputs = MODELS[name]().to(half), INPUTS.to(half)
    found = SharpnessTracker(
        model, cross_entropy, inputs, LABELS, micro_batch=micro_batch, tol=1e-5, dtype=torch.float32
    )
    result = found.measure()
    assert result.vectors.dtype == torch.float32
    assert found.verified["finite_difference"] < 1e-2
    other = SharpnessTracker(
        copy.deepcopy(model).float(),
        cross_entropy,
        inputs.float(),
        LABELS,
        micro_batch=micro_batch,
        tol=1e-5,
    ).measure()
    torch.testing.assert_close(result.values, other.values, rtol=1e-6, atol=0)
    expected = exact(model, inputs.double())
    assert float(result.values[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("half", HALF)
def test_that_of_float64_is_exact(half):
    model, inputs = net().to(half), INPUTS.to(half)
    found = sharpness(model, cross_entropy, inputs, LABELS, tol=1e-9, dtype=torch.float64)
    assert found == pytest.approx(exact(model, inputs.double()), rel=1e-10)
    single = net().float()
    found = sharpness(single, cross_entropy, INPUTS.float(), LABELS, tol=1e-9, dtype=torch.float64)
    assert found == pytest.approx(exact(single, INPUTS.float().double()), rel=1e-10)


def test_targets_are_copied_too():
    model, inputs, targets = net().bfloat16(), INPUTS.bfloat16(), draw(N, 3, seed=1).bfloat16()
    found = sharpness(model, mse_loss, inputs, targets, tol=1e-5, dtype=torch.float32)
    expected = exact(model, inputs.double(), targets.double(), mse_loss)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_model_of_several_precisions():
    model = net(nn.LayerNorm(6)).bfloat16()
    model[2].float()
    inputs = INPUTS.bfloat16()
    found = sharpness(model, cross_entropy, inputs, LABELS, tol=1e-5, dtype=torch.float32)
    assert found == pytest.approx(exact(model, inputs.double()), rel=1e-5)
    with pytest.raises(ValueError, match=r"params mixes .*dtype=torch.float32"):
        hessian_operator(lambda p: INPUTS.sum(), dict(model.named_parameters()))


@pytest.mark.parametrize("frozen", [False, True])
def test_some_of_the_parameters(frozen):
    model, inputs = net().bfloat16(), INPUTS.bfloat16()
    expected = exact(model, inputs.double(), only="0.")
    model[2].requires_grad_(not frozen)
    found = sharpness(
        model,
        cross_entropy,
        inputs,
        LABELS,
        tol=1e-5,
        only=None if frozen else "0.*",
        dtype=torch.float32,
    )
    assert found == pytest.approx(expected, rel=1e-5)


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (x, y),
        lambda x, y: [x, y],
        lambda x, y: Pair(x, y),
        lambda x, y: {"x": x, "y": y, "name": "a batch"},
        lambda x, y: OrderedDict(x=x, y=y),
    ],
    ids=["tuple", "list", "named tuple", "dict", "ordered"],
)
@pytest.mark.parametrize("products", ["autograd", "differences"])
def test_batches_keep_their_form(form, products):
    model, inputs = net().bfloat16(), INPUTS.bfloat16()
    parts = zip(inputs.split(5), LABELS.split(5), strict=True)
    batches = [form(x, y) for x, y in parts]
    seen = set()

    def loss(model, batch):
        seen.add(type(batch))
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
        assert x.dtype == torch.float32
        return cross_entropy(model(x), y)

    tol = 1e-5 if products == "autograd" else 1e-3
    found = sharpness(model, loss, batches, tol=tol, dtype=torch.float32, products=products)
    assert found == pytest.approx(exact(model, inputs.double()), rel=tol / 10)
    assert seen == {type(batches[0])}
    first = batches[0]
    assert (first["x"] if isinstance(first, dict) else first[0]).dtype == torch.bfloat16


def test_a_penalty_on_the_parameters_is_part_of_it():
    model, inputs = net().bfloat16(), INPUTS.bfloat16()

    def penalised(outputs, targets):
        return cross_entropy(outputs, targets) + sum(p.pow(2).sum() for p in model.parameters()) / 4

    found = sharpness(model, penalised, inputs, LABELS, tol=1e-5, dtype=torch.float32)
    assert found == pytest.approx(exact(model, inputs.double()) + 0.5, rel=1e-5)
    held = list(model.parameters())
    with pytest.raises(ValueError, match=r"reads '[02].(weight|bias)' itself"):
        sharpness(
            model,
            lambda f, y: cross_entropy(f, y) + sum(p.float().pow(2).sum() for p in held),
            inputs,
            LABELS,
            dtype=torch.float32,
        )


def test_in_the_metric_of_an_optimiser():
    """What the optimiser keeps is in half precision; the copy has the same numbers."""
    model, inputs = net().bfloat16(), INPUTS.bfloat16()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        cross_entropy(model(inputs), LABELS).backward()
        optimiser.step()
    keys = {"tol": 1e-5, "dtype": torch.float32}
    found = sharpness(model, cross_entropy, inputs, LABELS, optimiser=optimiser, **keys)
    copied = copy.deepcopy(model).float()
    other = torch.optim.Adam(copied.parameters(), 1e-2)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    expected = sharpness(copied, cross_entropy, inputs.float(), LABELS, tol=1e-5, optimiser=other)
    assert found == pytest.approx(expected, rel=2e-3)


def test_the_model_is_left_alone():
    model, inputs = net(nn.BatchNorm1d(6)).bfloat16(), INPUTS.bfloat16()
    cross_entropy(model(inputs), LABELS).backward()
    state = copy.deepcopy(model.state_dict())
    slopes = [p.grad.clone() for p in model.parameters()]
    for products in ("autograd", "differences"):
        sharpness(model, cross_entropy, inputs, LABELS, dtype=torch.float32, products=products)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])
    for slope, parameter in zip(slopes, model.parameters(), strict=True):
        assert torch.equal(parameter.grad, slope)


@pytest.mark.parametrize("half", HALF)
def test_without_the_option_half_precision_is_refused_and_the_option_named(half):
    named = rf"is {half}; .*dtype=torch.float32 measures copies"
    model = net().to(half)
    words = torch.arange(N)
    embedding = nn.Sequential(nn.Embedding(N, 5), model)
    with pytest.raises(ValueError, match=f"inputs {named}"):
        sharpness(model, cross_entropy, INPUTS.to(half), LABELS)
    with pytest.raises(ValueError, match=f"params {named}"):
        sharpness(embedding.to(half), cross_entropy, words, LABELS)
    with pytest.raises(ValueError, match=f"params {named}"):
        sharpness(
            embedding, lambda m, x: cross_entropy(m(x), LABELS[: len(x)]), list(words.split(4))
        )
    with pytest.raises(ValueError, match=r"dtype is torch.bfloat16; "):
        sharpness(net(), cross_entropy, INPUTS, LABELS, dtype=torch.bfloat16)


class Rounding(nn.Module):
    def forward(self, x):
        return x.to(torch.bfloat16).float()


class Casting(nn.Linear):
    def forward(self, x):
        return super().forward(x.to(torch.bfloat16))


class Autocast(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


def whole(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), *layers, nn.Linear(6, 3))


class TestForwardHasAPrecisionOfItsOwn:
    @pytest.mark.parametrize("products", ["autograd", "differences"])
    @pytest.mark.parametrize("make", [Rounding, lambda: Autocast(6, 6)], ids=["cast", "autocast"])
    def test_it_computes_in_half_precision(self, make, products):
        for model, keys in (
            (whole(make()).bfloat16(), {"dtype": torch.float32}),
            (whole(make()), {}),
        ):
            with pytest.raises(ValueError, match=r"computes in torch.bfloat16 inside \("):
                sharpness(
                    model, lambda f, y: cross_entropy(f.float(), y), INPUTS.float(), LABELS,
                    products=products, **keys,
                )  # fmt: skip

    def test_autocast_stands_around_the_call(self):
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast"):
            sharpness(whole(), cross_entropy, INPUTS.float(), LABELS)

    def test_it_casts_to_what_its_parameters_no_longer_are(self):
        model = whole(Casting(6, 6)).bfloat16()
        with pytest.raises(ValueError, match=r"mixes precisions .*x.to\(self.weight.dtype\)"):
            sharpness(model, cross_entropy, INPUTS.bfloat16(), LABELS, dtype=torch.float32)

    def test_the_data_have_another(self):
        with pytest.raises(ValueError, match=r"mixes precisions .*dtype=torch.float32"):
            sharpness(whole(), cross_entropy, INPUTS, LABELS)
        found = sharpness(whole(), cross_entropy, INPUTS, LABELS, tol=1e-9, dtype=torch.float64)
        assert found == pytest.approx(exact(whole()), rel=1e-9)


WEIGHTS = torch.linspace(0.5, 1.5, 3)
WEIGHTED = [
    nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
    partial(cross_entropy, weight=WEIGHTS, label_smoothing=0.1),
]


@pytest.mark.parametrize("loss_fn", WEIGHTED, ids=["module", "partial"])
@pytest.mark.parametrize("batches", [False, True])
def test_weights_that_a_loss_of_torch_holds_follow_the_precision(loss_fn, batches):
    model, inputs = whole().float(), INPUTS.float()
    data = ([(inputs, LABELS)],) if batches else (inputs, LABELS)
    found = sharpness(model, loss_fn, *data, tol=1e-9, dtype=torch.float64)
    double = nn.CrossEntropyLoss(weight=WEIGHTS.double(), label_smoothing=0.1)
    assert found == pytest.approx(exact(model, inputs.double(), loss_fn=double), rel=1e-9)
    held = loss_fn.weight if isinstance(loss_fn, nn.Module) else loss_fn.keywords["weight"]
    assert held is not None
    assert held.dtype == torch.float32


class Penalised(nn.CrossEntropyLoss):
    """Holds the model, and reads its parameters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, outputs, targets):
        weights = sum(p.square().sum() for p in self.model.parameters())
        return super().forward(outputs, targets) + weights


def test_a_loss_that_holds_the_model_is_not_copied():
    model, inputs = whole().float(), INPUTS.float()
    found = sharpness(model, Penalised(model), inputs, LABELS, tol=1e-9, dtype=torch.float64)
    assert found == pytest.approx(exact(model, inputs.double()) + 2, rel=1e-9)


class Lookup(nn.Module):
    """An embedding by the function, whose gradient is sparse if asked for."""

    def __init__(self, sparse: bool):
        super().__init__()
        self.weight = nn.Parameter(draw(7, 6, seed=2))
        self.sparse = sparse

    def forward(self, words):
        return F.embedding(words, self.weight, sparse=self.sparse).flatten(1)


@pytest.mark.parametrize("products", ["autograd", "differences"])
@pytest.mark.parametrize("kind", ["module", "function", "shared"])
def test_sparse_gradients_of_embeddings(kind, products):
    """Some words stand twice in a sample, some never."""
    words = torch.randint(0, 6, (N, 2), generator=torch.Generator().manual_seed(0))

    def make(sparse):
        torch.manual_seed(0)
        if kind == "shared":
            table = nn.Embedding(7, 6, sparse=sparse)
            layers = [table, nn.Tanh(), nn.Linear(6, 7, bias=False)]
            layers[2].weight = table.weight
            return nn.Sequential(*layers, nn.Flatten()).double()
        first = nn.Embedding(7, 6, sparse=sparse) if kind == "module" else Lookup(sparse)
        return nn.Sequential(first, nn.Flatten(), nn.Linear(12, 5), nn.Tanh()).double()

    plain, sparse = (ModelLoss(make(s), cross_entropy, words, LABELS) for s in (False, True))
    keys = {"products": products}
    given = ModelLoss(sparse.model, cross_entropy, words, LABELS, **keys).hessian().to_dense()
    torch.testing.assert_close(given, plain.hessian().to_dense(), rtol=1e-8, atol=1e-9)
    tracker = SharpnessTracker(sparse.model, cross_entropy, words, LABELS, tol=1e-6, **keys)
    assert float(tracker.measure().values[0]) == pytest.approx(exact(plain.model, words), rel=1e-7)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT


@pytest.mark.parametrize(
    "parametrise",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight", Symmetric()),
        lambda layer: parametrizations.spectral_norm(layer).eval(),
        lambda layer: parametrizations.orthogonal(layer, orthogonal_map="cayley"),
    ],
    ids=["symmetric", "spectral norm", "orthogonal"],
)
@pytest.mark.parametrize("products", ["autograd", "differences"])
def test_parametrised_modules(parametrise, products):
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 3)).double()
    parametrise(layer)
    found = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-6, products=products)
    assert found == pytest.approx(exact(model), rel=1e-7)


def test_parametrised_in_half_precision():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 3)).bfloat16()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    inputs = INPUTS.bfloat16()
    found = sharpness(model, cross_entropy, inputs, LABELS, tol=1e-5, dtype=torch.float32)
    assert found == pytest.approx(exact(model, inputs.double()), rel=1e-5)


def test_a_model_on_several_devices_is_refused_in_a_sentence():
    model = net()
    model[2].to("meta")
    with pytest.raises(
        ValueError, match=r"params mixes torch.float64 on cpu, torch.float64 on meta"
    ):
        hessian_operator(lambda p: INPUTS.sum(), dict(model.named_parameters()))


def test_other_mismatches_are_told_as_they_are():
    def loss(outputs, targets):
        return cross_entropy(outputs, targets.int()[:, None].short())

    with pytest.raises(ValueError, match="fails, with RuntimeError") as caught:
        sharpness(net(), loss, INPUTS, LABELS)
    assert "mixes precisions" not in str(caught.value)
