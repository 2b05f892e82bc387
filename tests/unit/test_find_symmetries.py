"""Symmetries that are found from gradients alone, of functions and of modules."""

import pytest
import torch
from torch import nn
from torch.func import grad
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from sharpflow.curvature.graphs import at_parameters
from sharpflow.symmetry import find_symmetries, symmetries_of
from sharpflow.symmetry.relations import relations

NO_EPS = 1e-30


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def kinds(symmetries):
    return {(each.kind, each.units, each.name) for each in symmetries}


class Attention(nn.Module):
    """Heads of queries that share keys and values, with positions by rotation or without."""

    def __init__(self, heads=4, shared=2, size=6, width=8, rotary=False):
        super().__init__()
        self.q = nn.Linear(width, heads * size)
        self.k = nn.Linear(width, shared * size)
        self.v = nn.Linear(width, shared * size)
        self.o = nn.Linear(heads * size, width)
        self.heads, self.shared, self.size, self.rotary = heads, shared, size, rotary

    def turned(self, x):
        half = self.size // 2
        angles = torch.arange(x.shape[-2])[:, None] / 10.0 ** torch.arange(half)
        a, b = x[..., :half], x[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, x):
        def split(values, heads):
            return values.unflatten(-1, (heads, self.size)).transpose(1, 2)

        q, k, v = split(self.q(x), self.heads), split(self.k(x), self.shared), self.v(x)
        q, k = (self.turned(q), self.turned(k)) if self.rotary else (q, k)
        group = self.heads // self.shared
        k, v = (each.repeat_interleave(group, 1) for each in (k, split(v, self.shared)))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Heads(nn.Module):
    """Attention whose heads lie on an axis of their own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(4, 12, 3) / 3) for _ in range(3))
        self.o = nn.Parameter(torch.randn(4, 3, 12) / 3)

    def forward(self, x):
        q, k, v = (torch.einsum("ntd,hdk->nhtk", x, w) for w in (self.q, self.k, self.v))
        return torch.einsum("nhtk,hkd->ntd", F.scaled_dot_product_attention(q, k, v), self.o)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return self.inside(x, x, x)


class Interleaved(nn.Module):
    """Queries, keys and values of one head after those of another, in one projection."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (2, 3, 3)).permute(3, 0, 2, 1, 4)
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(5, 8), nn.Linear(5, 6), nn.Linear(19, 3)
        self.order = [3, 1, 0, 5, 2, 4]

    def forward(self, x):
        return self.o(torch.cat([self.a(x).relu(), x, self.b(x).tanh()[:, self.order].relu()], 1))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(width, eps=NO_EPS) for _ in range(2))

    def forward(self, x):
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=NO_EPS)
        self.block, self.head = Block(5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.block(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


class Gated(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.g, self.u, self.d = (nn.Linear(a, b, bias=False) for a, b in ((6, 9), (6, 9), (9, 4)))
        self.gate = gate

    def forward(self, x):
        return self.d(self.gate(self.g(x)) * self.u(x))


class Adapter(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(9, 7).requires_grad_(False)
        self.a, self.b = nn.Parameter(normal(4, 9)), nn.Parameter(torch.zeros(7, 4))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


class Tied(nn.Module):
    """A language model whose last layer is its first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, tokens):
        return self.down(F.relu(self.up(self.embed(tokens)))) @ self.embed.weight.T


class Recurrent(nn.Module):
    def __init__(self, cell, **options):
        super().__init__()
        self.cell, self.o = cell(5, 6, batch_first=True, **options), nn.Linear(6, 2)

    def forward(self, x):
        return self.o(self.cell(x)[0])


class Mixed(nn.Module):
    """Without layers; inputs by name, outputs in a dict."""

    def __init__(self):
        super().__init__()
        self.w, self.u = nn.Parameter(normal(4, 7)), nn.Parameter(normal(7, 3))
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x, *, times):
        hidden = x @ self.w
        return {"sum": (hidden @ self.u * self.gain, times), "label": "none"}


def stack(*layers):
    return nn.Sequential(*layers)


def mlp(first, second):
    return stack(nn.Linear(5, 8), first(), nn.Linear(8, 7), second(), nn.Linear(7, 1))


def conv_net():
    return stack(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3),
        nn.LeakyReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 4),
    )


def grouped_net():
    return stack(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=12),
        nn.ReLU(),
        nn.Conv2d(12, 2, 1),
    )


def normalised_net():
    return stack(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8, eps=NO_EPS),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.GroupNorm(3, 6, eps=0),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.InstanceNorm2d(4, eps=NO_EPS),
        nn.Conv2d(4, 2, 3),
        nn.LayerNorm((2, 4, 4), eps=0, elementwise_affine=False),
    )


class Power(nn.Module):
    """A rectifier to some power."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, x):
        return x.relu() ** self.power


class Linking(nn.Module):
    """Rectified units, and their squares, in one stream: no power fits both."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.o(self.a(x).relu() + self.b(x).relu().square())


def ones(net):
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    return net


def heads(inner, outer, width, size, bias=True):
    """Expected rotations of heads of an attention: names with the first place of each.

    `bias` is None where names are whole.
    """
    found = set()
    for first in range(0, width, size):
        (a, a0), (b, b0) = inner, outer
        places = f"[{a0 + first}:{a0 + first + size}]"
        weight = "" if bias is None else "weight"
        left = f"{a}{weight}{places}" + f", {a}bias{places}" * bool(bias)
        found.add(("rotation", size, f"{left} → {b}{weight}[{b0 + first}:{b0 + first + size}]"))
    return found


IN = "inside.in_proj_"
FIRST, SECOND = "0.weight, 0.bias → 2.weight", "2.weight, 2.bias → 4.weight"
CASES = {
    "rectified": (
        lambda: mlp(nn.ReLU, nn.LeakyReLU),
        (normal(40, 5),),
        {("rescaling", 8, FIRST), ("rescaling", 7, SECOND)},
    ),
    "all of one value": (
        lambda: ones(mlp(nn.ReLU, nn.ReLU)),
        (normal(40, 5),),
        {("rescaling", 8, FIRST), ("rescaling", 7, SECOND)},
    ),
    "linear": (
        lambda: mlp(nn.Identity, nn.Identity),
        (normal(40, 5),),
        {("rotation", 8, FIRST), ("rotation", 7, SECOND)},
    ),
    "bounded": (
        lambda: mlp(nn.Tanh, nn.GELU),
        (normal(40, 5),),
        set(),
    ),
    "one unit": (
        lambda: stack(nn.Linear(3, 1, bias=False), nn.Linear(1, 1), nn.Linear(1, 2)),
        (normal(9, 3),),
        {
            ("rescaling", 1, "0.weight → 1.weight"),
            ("rescaling", 1, "1.weight, 1.bias → 2.weight"),
        },
    ),
    "convolutions": (
        conv_net,
        (normal(5, 3, 14, 14),),
        {
            ("rescaling", 8, "0.weight, 0.bias → 3.weight"),
            ("rescaling", 6, "3.weight, 3.bias → 7.weight"),
        },
    ),
    "linear convolutions": (
        lambda: stack(nn.Conv1d(2, 5, 3), nn.Conv1d(5, 3, 2, bias=False)),
        (normal(6, 2, 9),),
        {("rotation", 5, "0.weight, 0.bias → 1.weight")},
    ),
    "grouped convolutions": (
        grouped_net,
        (normal(8, 3, 12, 12),),
        {
            ("rescaling", 8, "0.weight, 0.bias → 2.weight"),
            ("rescaling", 12, "2.weight, 2.bias → 4.weight"),
            ("rescaling", 12, "4.weight, 4.bias → 6.weight"),
        },
    ),
    "grouped convolutions, transposed": (
        lambda: stack(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 6, 2, 2, groups=2),
            nn.ReLU(),
            nn.Conv2d(6, 2, 1),
        ),
        (normal(8, 3, 9, 9),),
        {
            ("rescaling", 8, "0.weight, 0.bias → 2.weight"),
            ("rescaling", 6, "2.weight, 2.bias → 4.weight"),
        },
    ),
    "more filters than inputs, each of one": (
        lambda: stack(
            nn.Conv1d(3, 4, 1),
            nn.PReLU(4),
            nn.Conv1d(4, 8, 3, groups=4),
            nn.ReLU(),
            nn.Conv1d(8, 2, 1),
        ),
        (normal(8, 3, 9),),
        {
            ("rescaling", 4, "0.weight, 0.bias → 2.weight"),
            ("rescaling", 8, "2.weight, 2.bias → 4.weight"),
        },
    ),
    "linear grouped convolutions": (
        lambda: stack(nn.Conv1d(3, 4, 1, bias=False), nn.Conv1d(4, 6, 3, groups=2)),
        (normal(20, 3, 9),),
        {
            ("rotation", 2, "0.weight[0:2] → 1.weight[0:2]"),
            ("rotation", 2, "0.weight[2:4] → 1.weight[2:4]"),
        },
    ),
    "heads on an axis": (
        Heads,
        (normal(6, 5, 12),),
        heads(("q", 0), ("k", 0), 12, 3, None) | heads(("v", 0), ("o", 0), 12, 3, None),
    ),
    "squared rectifier": (
        lambda: stack(nn.Linear(5, 8), Power(2), nn.Linear(8, 7), Power(3), nn.Linear(7, 2)),
        (normal(40, 5),),
        {("rescaling", 8, f"{FIRST} (degree 2)"), ("rescaling", 7, f"{SECOND} (degree 3)")},
    ),
    "root of a rectifier": (
        lambda: stack(nn.Linear(5, 8), Power(0.5), nn.Linear(8, 2)),
        (normal(40, 5),),
        {("rescaling", 8, f"{FIRST} (degree 0.5)")},
    ),
    "two powers at once": (Linking, (normal(40, 5),), set()),
    "scales of all directions, root mean square": (
        lambda: stack(nn.Linear(5, 8), nn.RMSNorm(8, eps=NO_EPS), nn.Linear(8, 2)),
        (normal(40, 5),),
        {("scale", 1, "0.weight, 0.bias"), ("rescaling", 8, "1.weight → 2.weight")},
    ),
    "gated recurrence": (lambda: Recurrent(nn.GRU), (normal(4, 5, 5),), set()),
    "normalised": (
        normalised_net,
        (normal(6, 3, 12, 12),),
        {
            ("scale", 8, "0.weight"),
            ("rescaling", 8, "1.weight, 1.bias → 3.weight"),
            ("scale", 3, "3.weight, 3.bias"),
            ("rescaling", 6, "4.weight, 4.bias → 6.weight"),
            ("scale", 4, "6.weight"),
            ("scale", 1, "8.weight, 8.bias"),
        },
    ),
    "layer norm": (
        lambda: stack(nn.Linear(5, 8), nn.LayerNorm(8, eps=0), nn.ReLU(), nn.Linear(8, 2)),
        (normal(30, 5),),
        {("scale", 1, "0.weight, 0.bias"), ("rescaling", 8, "1.weight, 1.bias → 3.weight")},
    ),
    "weight norm": (
        lambda: stack(weight_norm(nn.Linear(5, 8)), nn.ReLU(), nn.Linear(8, 2)),
        (normal(30, 5),),
        {
            ("scale", 8, "0.parametrizations.weight.original1"),
            ("rescaling", 8, "0.parametrizations.weight.original0, 0.bias → 2.weight"),
        },
    ),
    "attention": (
        SelfAttention,
        (normal(4, 5, 6),),
        heads((IN, 0), (IN, 6), 6, 3) | heads((IN, 12), ("inside.out_proj.", 0), 6, 3),
    ),
    "interleaved heads": (
        Interleaved,
        (normal(4, 5, 6),),
        heads(("qkv.", 0), ("qkv.", 3), 3, 3)
        | heads(("qkv.", 9), ("qkv.", 12), 3, 3)
        | heads(("qkv.", 6), ("o.", 0), 3, 3)
        | heads(("qkv.", 15), ("o.", 3), 3, 3),
    ),
    "shared keys": (
        Attention,
        (normal(4, 7, 8),),
        {
            ("rotation", 6, "q.weight[0:12], q.bias[0:12] → k.weight[0:6]"),
            ("rotation", 6, "q.weight[12:24], q.bias[12:24] → k.weight[6:12]"),
            ("rotation", 6, "v.weight[0:6], v.bias[0:6] → o.weight[0:12]"),
            ("rotation", 6, "v.weight[6:12], v.bias[6:12] → o.weight[12:24]"),
        },
    ),
    "rotary positions": (
        lambda: Attention(rotary=True),
        (normal(4, 7, 8),),
        {
            ("rescaling", 6, "q.weight, q.bias → k.weight, k.bias"),
            ("rotation", 6, "v.weight[0:6], v.bias[0:6] → o.weight[0:12]"),
            ("rotation", 6, "v.weight[6:12], v.bias[6:12] → o.weight[12:24]"),
        },
    ),
    "transformer block": (
        lambda: nn.TransformerEncoderLayer(6, 2, 9, 0.0, batch_first=True, norm_first=True),
        (normal(4, 5, 6),),
        heads(("self_attn.in_proj_", 0), ("self_attn.in_proj_", 6), 6, 3)
        | heads(("self_attn.in_proj_", 12), ("self_attn.out_proj.", 0), 6, 3)
        | {
            ("rescaling", 6, "norm1.weight, norm1.bias → self_attn.in_proj_weight"),
            ("rescaling", 6, "norm2.weight, norm2.bias → linear1.weight"),
            ("rescaling", 9, "linear1.weight, linear1.bias → linear2.weight"),
        },
    ),
    "residual": (
        Residual,
        (normal(6, 3, 10, 10),),
        {
            ("scale", 5, "stem.weight"),
            ("scale", 5, "block.conv1.weight"),
            ("scale", 5, "block.conv2.weight"),
            ("rescaling", 5, "block.norm1.weight, block.norm1.bias → block.conv2.weight"),
            (
                "rescaling",
                5,
                "norm.weight, norm.bias, block.norm2.weight, block.norm2.bias → "
                "block.conv1.weight, head.weight",
            ),
        },
    ),
    "joined and shuffled": (
        Joined,
        (normal(30, 5),),
        {("rescaling", 8, "a.weight, a.bias → o.weight[0:8]")},
    ),
    "maxout": (
        lambda: stack(
            nn.Linear(5, 12),
            nn.Unflatten(1, (4, 3)),
            nn.MaxPool1d(3),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        (normal(30, 5),),
        {("rescaling", 4, "0.weight, 0.bias → 4.weight")},
    ),
    "bilinear gates": (
        lambda: Gated(nn.Identity()),
        (normal(30, 6),),
        {("rescaling", 9, "g.weight → u.weight"), ("rescaling", 9, "u.weight → d.weight")},
    ),
    "gates": (
        lambda: Gated(F.silu),
        (normal(30, 6),),
        {("rescaling", 9, "u.weight → d.weight")},
    ),
    "adapter": (Adapter, (normal(20, 9),), {("rotation", 4, "a → b")}),
    "tied": (
        Tied,
        (torch.arange(30).view(6, 5) % 11,),
        {
            ("rotation", 6, "embed.weight → up.weight, down.weight, down.bias"),
            ("rescaling", 9, "up.weight, up.bias → down.weight"),
        },
    ),
    "long short-term memory": (lambda: Recurrent(nn.LSTM), (normal(4, 5, 5),), set()),
    "rectified recurrence": (
        lambda: Recurrent(nn.RNN, nonlinearity="relu"),
        (normal(4, 5, 5),),
        {
            (
                "rescaling",
                6,
                "cell.weight_ih_l0, cell.bias_ih_l0, cell.weight_hh_l0, cell.bias_hh_l0 → "
                "cell.weight_hh_l0, o.weight",
            )
        },
    ),
}


def made(name):
    torch.manual_seed(0)
    model, inputs, _ = CASES[name]
    return model(), inputs


@pytest.mark.parametrize("name", CASES)
def test_found(name):
    model, inputs = made(name)
    assert kinds(find_symmetries(model, inputs)) == CASES[name][2]


@pytest.mark.parametrize("name", CASES)
def test_gradient_flow_keeps_the_charges_of_every_sample(name):
    """<∂s/∂θ, Qθ> = 0 for any s of any outputs, at the network's own parameters."""
    model, inputs = made(name)
    symmetries = find_symmetries(model, inputs)
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]
    params = {n: p.detach().double() for n, p in model.named_parameters()}

    def read_out(params):
        outputs = at_parameters(model, params, lambda: model(*doubles), torch.float64)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return (outputs * normal(*outputs.shape)).sum()

    slopes = grad(read_out)(params)
    for symmetry in symmetries:
        outer, inner = symmetry.grams(slopes, params)
        size = sum(float((slopes[n] * params[n]).abs().sum()) for n in symmetry.parameters)
        assert float((outer.mT - inner if outer.ndim > 1 else outer - inner).abs().max()) <= (
            1e-9 * size
        )


def test_a_function_of_parameters():
    params = {"u": normal(3, 4), "w": normal(4, 5), "v": normal(6)}
    x = normal(20, 5).double()

    def function(p):
        return torch.relu(x @ p["w"].T) @ p["u"].T / p["v"].norm()

    assert kinds(symmetries_of(function, params)) == {
        ("rescaling", 4, "w → u"),
        ("scale", 1, "u, v"),
    }


DIVIDED = {
    "(5,)": (5,),
    "(5, 1)": (5, 1),
    "(5, 4)": (5, 4),
    "(5, 4, 3)": (5, 4, 3),
}


@pytest.mark.parametrize("shape", DIVIDED.values(), ids=DIVIDED)
def test_a_direction_has_a_scale_in_any_shape(shape):
    x = normal(20, 5).double()
    found = symmetries_of(
        lambda p: torch.tensordot(x, p["a"] / p["a"].norm(), 1), {"a": normal(*shape)}
    )
    assert kinds(found) == {("scale", 1, "a")}


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2)])
def test_what_multiplies_all_outputs_has_a_rescaling_in_any_shape(shape):
    x = normal(20, 5).double()

    def function(p):
        return torch.tanh(x @ p["w"] * p["g"].norm())

    params = {"w": normal(5, 4), "g": normal(*shape) if shape else torch.tensor(2.0)}
    assert kinds(symmetries_of(function, params)) == {("rescaling", 1, "w → g")}


def test_parameters_that_are_numbers():
    x = normal(20, 5).double()
    two, three, one = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(1.0)
    found = symmetries_of(lambda p: p["g"] * p["k"] * x, {"g": two, "k": three})
    assert kinds(found) == {("rescaling", 1, "g → k")}
    (found,) = symmetries_of(
        lambda p: p["g"].square() * p["k"] * x + p["b"], {"g": two, "k": three, "b": one}
    )
    assert (found.kind, found.name) == ("rescaling", "g → k (degree 2)")
    moved = found.moved({"g": two, "k": three, "b": one}, torch.ones(1))
    assert {name: value.ndim for name, value in moved.items()} == {"g": 0, "k": 0, "b": 0}
    assert float(moved["g"].square() * moved["k"]) == pytest.approx(12)
    assert not symmetries_of(lambda p: p["g"] * x + p["k"], {"g": two, "k": three})


def test_parts_of_a_vector_that_are_directions():
    x = normal(20, 3).double()

    def function(p):
        one, other = p["a"][:3], p["a"][3:]
        return x @ one / one.norm() + (x @ other / other.norm()).square()

    assert kinds(symmetries_of(function, {"a": normal(6)})) == {("scale", 2, "a")}


def test_outputs_that_do_not_change_are_told():
    class Net(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.inner, self.function = nn.Linear(5, 3), function

        def forward(self, x):
            return self.function(self.inner(x))

    for function in (lambda y: 0 * y, lambda y: y.detach(), torch.ones_like):
        with pytest.raises(ValueError, match="outputs depend on none of the parameters"):
            find_symmetries(Net(function), normal(20, 5))


def test_activations_that_the_backward_pass_computes_again():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x):
            hidden = checkpoint(lambda h: self.a(h).relu(), x, use_reentrant=False)
            return self.b(hidden)

    (found,) = find_symmetries(Net(), torch.randn(4, 5))
    assert found.name == "a.weight, a.bias → b.weight"


def test_inputs_by_name_and_outputs_in_a_dict():
    model = Mixed()
    found = find_symmetries(model, {"x": normal(9, 4), "times": 3})
    assert kinds(found) == {("rotation", 7, "w → u"), ("rescaling", 1, "u → gain")}


def test_inputs_are_made_where_the_first_parameter_tells_how():
    torch.manual_seed(0)
    assert kinds(find_symmetries(mlp(nn.ReLU, nn.ReLU))) == CASES["rectified"][2]
    assert len(find_symmetries(Tied())) == 2
    with pytest.raises(ValueError, match="no inputs were given"):
        find_symmetries(nn.MultiheadAttention(6, 2))


def test_the_model_is_left_as_it_was():
    model, inputs = made("residual")
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.randn(3)
    torch.manual_seed(3)
    find_symmetries(model, inputs)
    assert torch.equal(torch.randn(3), expected)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def broken(model, *inputs, **options):
    found = find_symmetries(model, inputs, **options)
    return [(b.symmetry.kind, b.symmetry.name, *map(str, b.causes)) for b in found.broken]


def test_what_breaks_a_symmetry_is_named():
    torch.manual_seed(0)
    assert sorted(broken(mlp(nn.Tanh, nn.GELU), normal(30, 5))) == [
        ("rescaling", FIRST, "tanh in '1'"),
        ("rescaling", SECOND, "gelu in '3'"),
    ]
    assert broken(Gated(F.silu), normal(30, 6)) == [("rescaling", "g.weight → u.weight", "silu")]
    normed = stack(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    assert broken(normed, normal(30, 5)) == [
        ("scale", "0.weight, 0.bias", "ε = 1e-05 of layer_norm in '1'")
    ]


def test_several_causes_are_named_and_no_more():
    torch.manual_seed(0)
    net = stack(nn.Linear(5, 8), nn.Tanh(), nn.Softplus(), nn.Linear(8, 4), nn.LayerNorm(4))
    causes = {name: rest for _, name, *rest in broken(net, normal(30, 5))}
    assert causes["0.weight, 0.bias → 3.weight"] == ["tanh in '1'", "softplus in '2'"]
    assert causes["3.weight, 3.bias"] == ["ε = 1e-05 of layer_norm in '4'"]


def test_running_means_break_what_zero_ones_do_not():
    torch.manual_seed(0)
    net = stack(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).eval()
    inner = ("rescaling", 8, "0.weight, 0.bias → 1.weight")
    assert inner in kinds(find_symmetries(net, normal(30, 5)))
    net[1].running_mean.normal_()
    assert broken(net, normal(30, 5)) == [
        ("rescaling", "0.weight, 0.bias → 1.weight", "the running mean of batch_norm in '1'")
    ]


def test_a_constant_that_a_norm_of_ones_own_adds():
    class Norm(nn.Module):
        def forward(self, x):
            return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-3)

    torch.manual_seed(0)
    found = find_symmetries(stack(nn.Linear(5, 8), Norm(), nn.Linear(8, 2)), normal(30, 5))
    assert kinds(found) == set()
    causes = {b.symmetry.name: [str(cause) for cause in b.causes] for b in found.broken}
    assert causes["0.weight, 0.bias"] == ["the constant 0.001 added in '1'"]


def test_a_larger_tolerance_takes_what_only_eps_breaks():
    torch.manual_seed(0)
    net = stack(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    assert kinds(find_symmetries(net, normal(30, 5), tolerance=1e-2)) >= {
        ("scale", 1, "0.weight, 0.bias")
    }


def test_parameters_that_do_not_move():
    torch.manual_seed(0)
    net = mlp(nn.ReLU, nn.ReLU)
    net[0].weight.requires_grad_(False)
    found = find_symmetries(net, normal(30, 5))
    assert kinds(found) == {("rescaling", 7, SECOND)}
    assert "needs '0.weight', which is frozen" in str(found)
    found = find_symmetries(net.requires_grad_(), normal(30, 5), only=["0.*", "2.*"])
    assert kinds(found) == {("rescaling", 8, FIRST)}
    assert "needs '4.weight', which `only` leaves out" in str(found)


def test_a_network_without_symmetry_says_what_came_closest():
    torch.manual_seed(0)
    text = str(find_symmetries(mlp(nn.Tanh, nn.Tanh), normal(30, 5)))
    assert text.startswith("No continuous symmetry was found.\nWhat came closest:")
    assert f"rescaling of 8 units, {FIRST}: broken by tanh in '1' (along it" in text
    text = str(find_symmetries(Recurrent(nn.LSTM), normal(3, 4, 5)))
    assert text == "No continuous symmetry was found.\nNothing came close."


def test_the_table_has_a_row_a_symmetry():
    torch.manual_seed(0)
    table = find_symmetries(mlp(nn.ReLU, nn.Tanh), normal(30, 5)).table()
    assert list(table["kind"]) == ["rescaling", "rescaling"]
    assert list(table["inner"]) == ["0.weight, 0.bias", "2.weight, 2.bias"]
    assert list(table["broken_by"]) == ["", "tanh in '3'"]
    assert table["deviation"][0] == 0 < table["deviation"][1]


def test_units_that_are_never_switched_off_are_told_from_linear_ones():
    torch.manual_seed(0)
    net = mlp(nn.ReLU, nn.ReLU)
    for name in ("0.bias", "2.bias"):
        nn.init.constant_(net.get_parameter(name), 3.0)
    assert kinds(find_symmetries(net, normal(40, 5))) == CASES["rectified"][2]


def test_layers_of_one_width_that_have_nothing_to_do_with_each_other():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(6))

        def forward(self, x):
            return torch.cat([layer(x).sigmoid() for layer in self.layers], 1)

    torch.manual_seed(0)
    found = find_symmetries(Apart(), normal(30, 6))
    assert kinds(found) == set()
    assert found.broken == ()


@pytest.mark.parametrize(
    ("model", "inputs", "error", "message"),
    [
        ("net", None, TypeError, "model is a str"),
        (nn.ReLU(), normal(3, 3), ValueError, "requires_grad=True"),
        (nn.Linear(3, 2).requires_grad_(False), None, ValueError, "requires_grad=True"),
        (nn.LazyLinear(2), normal(3, 3), ValueError, "lazy module"),
        (stack(nn.Linear(3, 2), nn.Dropout()), normal(3, 3), ValueError, "1 .Dropout. is in train"),
        (nn.Linear(3, 2, dtype=torch.complex64), None, ValueError, "is complex"),
        (nn.Linear(3, 2), 4, TypeError, "inputs is a int"),
        (nn.Linear(3, 2), normal(3, 4), ValueError, r"model\(inputs\) fails, with RuntimeError"),
        (nn.Linear(3, 2), normal(3, 3).fill_(float("nan")), ValueError, "not finite|NaN"),
        (nn.Linear(3, 2), normal(0, 3), ValueError, "at least one sample"),
    ],
)
def test_what_has_no_answer_gets_a_sentence(model, inputs, error, message):
    with pytest.raises(error, match=message):
        find_symmetries(model, inputs)


def test_randomness_is_refused():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(2)

    with pytest.raises(ValueError, match="random function: two evaluations"):
        find_symmetries(Noisy(3, 2), normal(4, 3))


def test_functions_that_do_not_tell():
    params = {"w": normal(3, 3)}
    with pytest.raises(ValueError, match=r"computed in torch.float32 inside"):
        symmetries_of(lambda p: p["w"].float().tanh().double(), params)
    with pytest.raises(ValueError, match="depend on none"):
        symmetries_of(lambda p: torch.ones(3, dtype=torch.float64), params)
    with pytest.raises(ValueError, match="params is empty"):
        symmetries_of(lambda p: torch.ones(3), {})
    with pytest.raises(ValueError, match="must be a tensor of real numbers"):
        symmetries_of(lambda p: (p["w"], p["w"]), params)


def test_parameters_in_half_precision_are_searched_in_double():
    torch.manual_seed(0)
    found = find_symmetries(mlp(nn.ReLU, nn.ReLU).bfloat16(), normal(30, 5).bfloat16())
    assert kinds(found) == CASES["rectified"][2]


def test_relations_are_as_short_as_they_come():
    a, b, c, d = normal(4, 50).double()
    columns = torch.stack([a, b, a + b, c, a + b - c, d, a - d], 1)
    found = {tuple(each.tolist()) for each in relations(columns, columns.norm(dim=0), 1e-12)}
    negated = {tuple(-x for x in row) for row in found}
    assert (1, 1, -1, 0, 0, 0, 0) in found | negated
    assert (0, 0, 1, -1, -1, 0, 0) in found | negated
    assert (1, 0, 0, 0, 0, -1, -1) in found | negated
    assert len(found) == 3


def test_a_fixed_variance_s_eps_breaks_nothing():
    net = stack(nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    net[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    (each,) = find_symmetries(net.eval(), normal(40, 5)).broken
    assert [cause.what for cause in each.causes] == ["the running mean of batch_norm"]


def test_each_norm_s_own_eps_is_named():
    torch.manual_seed(0)
    layers = [(nn.Linear(6, 6, bias=False), nn.LayerNorm(6), nn.ReLU()) for _ in range(8)]
    net = stack(*(layer for three in layers for layer in three), nn.Linear(6, 2))
    broken = find_symmetries(net, normal(40, 6)).broken
    assert broken
    for each in broken:
        place = int(each.symmetry.name.split(".")[0])
        assert [cause.module for cause in each.causes] == [str(place + 1)]


# --- where outputs are large whatever the parameters are, and at the parameters themselves


class Changed(nn.Module):
    """Two layers, with what some change makes of their outputs."""

    def __init__(self, between: nn.Module, change=lambda outputs, x: outputs) -> None:
        super().__init__()
        self.make, self.between, self.read = nn.Linear(6, 8), between, nn.Linear(8, 4)
        self.change = change

    def forward(self, x):
        return self.change(self.read(self.between(self.make(x))), x)


def masked(size):
    return lambda outputs, x: outputs.masked_fill(x[:, :4] > 1, size)


CHANGES = {
    "smallest number": masked(torch.finfo(torch.float32).min),
    "minus 1e10": masked(-1e10),
    "added": lambda outputs, x: outputs + torch.where(x[:, :4] > 1, -1e9, 0.0),
    "offset": lambda outputs, x: 1.7e9 + outputs,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_large_constant_among_the_outputs_hides_no_change_and_no_symmetry(change):
    torch.manual_seed(0)
    x = normal(64, 6)
    for smooth in (nn.Tanh(), nn.GELU()):
        assert not find_symmetries(Changed(smooth, change), x)
    (found,) = find_symmetries(Changed(nn.ReLU(), change), x)
    assert (found.kind, found.units) == ("rescaling", 8)


@pytest.mark.parametrize("between", [nn.ReLU6(), nn.Hardtanh(-8, 8)])
def test_a_symmetry_holds_at_the_parameters_themselves(between):
    """Weights of one sign saturate units that weights of many signs do not."""
    torch.manual_seed(0)
    net = stack(nn.Linear(60, 8), between, nn.Linear(8, 2))
    x = torch.rand(64, 60, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net[0].weight.copy_(0.4 * torch.rand(8, 60))
        net[0].bias.zero_()
    assert float((net[0](x) > 6).double().mean()) > 0.2
    assert not find_symmetries(net, x)


class Words(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 6, **options)
        self.make, self.read = nn.Linear(6, 5, bias=False), nn.Linear(5, 3)

    def forward(self, tokens):
        return self.read(torch.relu(self.make(self.words(tokens)))).mean(1)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"padding_idx": -1}, {"sparse": True}])
def test_an_embedding_s_options_take_no_symmetry_from_it(options):
    tokens = torch.arange(40 * 7).reshape(40, 7) * 5 % 9
    assert kinds(find_symmetries(Words(**options), tokens)) == {
        ("rotation", 6, "words.weight → make.weight"),
        ("rescaling", 5, "make.weight → read.weight"),
    }


def test_a_padding_row_that_is_not_zero_is_one_that_no_symmetry_moves():
    net = Words(padding_idx=0)
    with torch.no_grad():
        net.words.weight[0] = 1.0
    tokens = torch.arange(40 * 7).reshape(40, 7) * 5 % 9
    assert kinds(find_symmetries(net, tokens)) == {("rescaling", 5, "make.weight → read.weight")}


def test_a_tolerance_is_a_number():
    for wrong in (-1.0, "1e-3", None, float("nan")):
        with pytest.raises(ValueError, match=f"tolerance is {wrong!r}"):
            find_symmetries(Words(), torch.zeros(1, 1, dtype=torch.long), tolerance=wrong)


# --- layers of unequal width that are joined, and one that is cut


class Joined(nn.Module):
    """What the second layer makes of the first, and the first, joined."""

    def __init__(self, chained):
        super().__init__()
        self.a, self.b = nn.Linear(6, 7), nn.Linear(7 if chained else 6, 5)
        self.c, self.chained = nn.Linear(12, 3), chained

    def forward(self, x):
        first = torch.relu(self.a(x))
        second = torch.relu(self.b(first if self.chained else x))
        return self.c(torch.cat([first, second], 1))


class Skipped(nn.Module):
    """A U-Net's last stage: what was scaled up in front of what was not scaled down."""

    def __init__(self):
        super().__init__()
        self.a, self.u = nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 5, 2, 2)
        self.c = nn.Conv2d(9, 3, 1)

    def forward(self, x):
        first = torch.relu(self.a(x))
        return self.c(torch.cat([torch.relu(self.u(F.max_pool2d(first, 2))), first], 1))


class Cut(nn.Module):
    """Units of one layer that are read by one layer each."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 7), nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.b(h[:, :3]) + self.c(h[:, 3:])


UNEVEN = {
    "joined": (
        lambda: Joined(False),
        (40, 6),
        {(7, "a.weight, a.bias → c.weight[0:7]"), (5, "b.weight, b.bias → c.weight[7:12]")},
    ),
    "chained": (
        lambda: Joined(True),
        (40, 6),
        {
            (7, "a.weight, a.bias → b.weight, c.weight[0:7]"),
            (5, "b.weight, b.bias → c.weight[7:12]"),
        },
    ),
    "skipped": (
        Skipped,
        (16, 2, 4, 4),
        {
            (4, "a.weight, a.bias → u.weight, c.weight[5:9]"),
            (5, "u.weight, u.bias → c.weight[0:5]"),
        },
    ),
    "cut": (
        Cut,
        (40, 6),
        {
            (3, "a.weight[0:3], a.bias[0:3] → b.weight"),
            (4, "a.weight[3:7], a.bias[3:7] → c.weight"),
        },
    ),
}


@pytest.mark.parametrize(("build", "shape", "expected"), UNEVEN.values(), ids=UNEVEN)
def test_units_are_found_where_layers_of_unequal_width_are_joined_or_cut(build, shape, expected):
    """Each once: what all of them do together is none of its own."""
    torch.manual_seed(0)
    found = find_symmetries(build(), normal(*shape))
    assert kinds(found) == {("rescaling", *each) for each in expected}
