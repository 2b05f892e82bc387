"""The library's standard networks: shapes, sizes, derivatives, and parts against `torch.nn`."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sharpflow.config.types import Training
from sharpflow.measurements.evaluate import evaluate
from sharpflow.models import vgg
from sharpflow.models.base import Setting
from sharpflow.models.decoder.block import Attention
from sharpflow.models.lstm import Layer
from sharpflow.models.resnet import ResidualNetwork
from sharpflow.models.vit import VisionTransformer
from sharpflow.parts.options import Form
from sharpflow.parts.registry import Registry
from sharpflow.training import Problem, train

IMAGES = Form("images", (2, 8, 8), 1, "signs", 6)
TOKENS = Form("tokens", (5,), 4, "classes", 6, vocabulary=4)
SMALL = {"depth": 1, "heads": 2, "expansion": 2}
TINY = {
    "resnet": (2, {"blocks": [1, 1], "activation": "tanh"}),
    "vgg": (2, {"convolutions": [1, 1], "activation": "softplus"}),
    "vit": (4, SMALL | {"patch": 4}),
    "decoder": (4, SMALL),
    "lstm": (4, {}),
}
"""Width and options of each network."""
VARIANTS = [
    ("resnet", 4, {"blocks": [2, 1, 1], "normalisation": "group", "groups": 2}),
    ("resnet", 3, {"blocks": [1, 2], "normalisation": "none"}),
    ("vgg", 3, {"convolutions": [2, 1, 1], "normalisation": "batch"}),
    ("vgg", 1, {"convolutions": [1, 1, 2], "activation": "tanh"}),
    ("vit", 6, {"depth": 2, "heads": 3, "patch": 2, "pooling": "token"}),
    ("decoder", 6, {"depth": 2, "heads": 3, "tied": True}),
    ("lstm", 3, {"depth": 2}),
]
CASES = [*((name, *rest) for name, rest in TINY.items()), *VARIANTS]


def options_of(name, **options):
    registry = Registry()
    return registry.options_class(registry.parts("models")[name])(**options)


def form_of(name):
    return TOKENS if name in ("decoder", "lstm") else IMAGES


def dataset(name):
    form, source = form_of(name), torch.Generator().manual_seed(0)
    if form is TOKENS:
        tokens = torch.randint(4, (6, 5), generator=source)
        known = {"classes": torch.tensor(4), "vocabulary": torch.tensor(4)}
        return known | {"inputs": tokens, "labels": tokens.roll(-1, 1)}
    images = torch.randn(6, *form.shape, dtype=torch.float64, generator=source)
    return {"inputs": images, "targets": torch.tensor([[1.0], [-1.0]]).repeat(3, 1).double()}


def problem(name, width, options, rate=1e-2):
    training = Training(steps=1).model_dump(mode="json")
    spec = {
        "stream": "test",
        "seeds": [0, 1],
        "width": width,
        "learning_rate": rate,
        "loss": {"kind": "cross_entropy", "label_smoothing": 0.0}
        if form_of(name) is TOKENS
        else {"kind": "mse"},
        "dtype": "float64",
        "device": "cpu",
        "model": options_of(name, **options).model_dump() | {"kind": name},
        "optimiser": {"kind": "sgd"},
        "schedule": {"kind": "constant"},
        "training": training,
    }
    return Problem(spec, dataset(name))


@pytest.mark.parametrize(("name", "width", "options"), CASES)
def test_a_step_of_all_runs_together_lowers_the_loss(name, width, options, capsys):
    ours = problem(name, width, options)
    state, form = ours.initial_state(), form_of(name)
    rows = 6 if form is IMAGES else 30
    parameters = ours.parameters(state)
    outputs = ours.model.network(ours.moment(state, 0), 1)(
        {n: t[1] for n, t in parameters.items()}, ours.inputs
    )
    assert outputs.shape == (rows, form.outputs)
    count = sum(tensor[0].numel() for tensor in parameters.values())
    assert options_of(name, **options).parameter_count(form, width) == count
    moved = ours.step(state, 0).state
    assert (ours.full_loss(moved, 1) < ours.full_loss(state, 0)).all()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", TINY)
def test_the_measured_curvature_is_that_of_the_dense_hessian(name):
    ours = problem(name, *TINY[name])
    states = train(ours).states
    asked = {"hessian": {"every": 1, "k": 2, "tol": 1e-8}}
    table = evaluate(ours, [0, 1], states.get, asked).table
    state = states[1]
    moment, parameters = ours.moment(state, 1), ours.parameters(state)
    own = {key: tensor[1] for key, tensor in parameters.items()}
    sizes = [tensor.numel() for tensor in own.values()]

    def loss(flat):
        parts = zip(own.items(), flat.split(sizes), strict=True)
        named = {key: part.view(tensor.shape) for (key, tensor), part in parts}
        outputs = ours.model.network(moment, 1)(named, ours.inputs)
        return ours.loss(outputs, ours.rows(ours.targets))

    flat = torch.cat([tensor.flatten() for tensor in own.values()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    rows = table[
        (table["quantity"] == "hessian_sharpness") & (table["step"] == 1) & (table["seed"] == 1)
    ]
    expected = torch.linalg.eigvalsh(hessian)[-2:].flip(0).tolist()
    assert rows["value"].tolist() == pytest.approx(expected, rel=1e-6)


def setting(width):
    return Setting(width, IMAGES.shape, 1)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_residual_network_written_out(normalised):
    torch.manual_seed(0)
    options = {"blocks": [1, 1], "activation": "relu"}
    options["normalisation"] = "batch" if normalised else "none"
    net = ResidualNetwork(3, 2, 1, options).double()
    left = iter(list(net.parameters()))

    def convolution(x, stride=1):
        weight, last = next(left), next(left)
        if not normalised:
            return F.conv2d(x, weight, last, stride, weight.shape[-1] // 2)
        plain = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        return F.batch_norm(plain, None, None, last, next(left), training=True)

    images = dataset("resnet")["inputs"]
    stem = convolution(images).relu()
    first = (convolution(convolution(stem).relu()) + stem).relu()
    second = convolution(convolution(first, 2).relu()) + convolution(first, 2)
    expected = F.linear(second.relu().mean((2, 3)), *left)
    torch.testing.assert_close(net(images), expected)


def test_the_plain_convolutional_network_written_out():
    torch.manual_seed(0)
    options = {"convolutions": [1, 2], "activation": "tanh", "normalisation": "none"}
    net = vgg.network(setting(3), options).double()
    a, b, c, d, e, f, head, bias = net.parameters()
    images = dataset("vgg")["inputs"]
    first = F.max_pool2d(torch.tanh(F.conv2d(images, a, b, padding=1)), 2)
    inner = torch.tanh(F.conv2d(first, c, d, padding=1))
    second = F.max_pool2d(torch.tanh(F.conv2d(inner, e, f, padding=1)), 2)
    torch.testing.assert_close(net(images), F.linear(second.flatten(1), head, bias))


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_the_vision_transformer_sees_patches_as_a_strided_convolution_does(pooling):
    torch.manual_seed(0)
    net = VisionTransformer(
        setting(4), SMALL | {"patch": 4, "pooling": pooling, "activation": "gelu"}
    ).double()
    images = dataset("vit")["inputs"]
    kernel = net.embedding.weight.unflatten(1, (2, 4, 4))
    tokens = F.conv2d(images, kernel, net.embedding.bias, stride=4).flatten(2).mT
    if pooling == "token":
        nn.init.normal_(net.token)
        tokens = torch.cat([net.token.expand(6, 1, 4), tokens], 1)
    tokens = net.norm(net.blocks(tokens + net.positions))
    seen = tokens[:, 0] if pooling == "token" else tokens.mean(1)
    torch.testing.assert_close(net(images), net.head(seen))


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = Attention(6, 3, causal=True).double()
    theirs = nn.MultiheadAttention(6, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.split.weight,
            "in_proj_bias": ours.split.bias,
            "out_proj.weight": ours.merge.weight,
            "out_proj.bias": ours.merge.bias,
        }
    )
    tokens = torch.randn(2, 4, 6, dtype=torch.float64)
    mask = torch.full((4, 4), -math.inf, dtype=torch.float64).triu(1)
    expected, _ = theirs(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(ours(tokens), expected)


def test_the_cells_are_those_of_torch():
    torch.manual_seed(0)
    ours, theirs = Layer(5).double(), nn.LSTM(5, 5, batch_first=True).double()
    theirs.load_state_dict(
        {
            "weight_ih_l0": ours.inputs.weight,
            "weight_hh_l0": ours.recurrent.weight,
            "bias_ih_l0": ours.inputs.bias,
            "bias_hh_l0": torch.zeros(20),
        }
    )
    sequence = torch.randn(3, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(sequence), theirs(sequence)[0])


@pytest.mark.parametrize("name", ["decoder", "lstm"])
def test_no_output_sees_a_later_token(name):
    ours = problem(name, *TINY[name])
    parameters, tokens = ours.parameters(ours.initial_state()), ours.inputs
    changed = tokens.clone()
    changed[:, 3] = (tokens[:, 3] + 1) % 4
    difference = ours.model(parameters, changed) - ours.model(parameters, tokens)
    moved = difference.abs().amax(-1).unflatten(1, (6, 5)) > 1e-9
    assert not moved[:, :, :3].any()
    assert moved[:, :, 3].all()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("resnet", {"normalisation": "group", "groups": 4}, "width = 6 .* groups = 4"),
        ("vgg", {"convolutions": [1] * 4}, "8 × 8 pixels cannot be halved 4 times"),
        ("vit", {"heads": 4}, "width = 6 .* heads = 4"),
        ("vit", {"heads": 2, "patch": 3}, "8 × 8 pixels .* patches of 3 × 3"),
        ("decoder", {"heads": 4}, "width = 6 .* heads = 4"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        options_of(name, **options).check(form_of(name), 6)


def test_tied_embeddings_need_an_output_a_token():
    form = Form("tokens", (5,), 3, "classes", 6, vocabulary=4)
    with pytest.raises(ValueError, match="3 outputs and 4 tokens"):
        options_of("decoder", heads=2, tied=True).check(form, 6)
