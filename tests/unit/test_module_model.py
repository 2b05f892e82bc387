"""A user's own module: its runs, buffers, random numbers, replay, and what is refused."""

from itertools import count
from textwrap import dedent

import pytest
import torch

from sharpflow.config.types import Training
from sharpflow.data.compression import compress
from sharpflow.errors import IntegrityError, PartError
from sharpflow.measurements.evaluate import evaluate
from sharpflow.parts.loading import load_file
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.training import Problem, train
from sharpflow.training.streams import generator

SAMPLES, SIZE, WIDTH = 12, 20, 7
MLP = """
    from torch import nn

    def build(width, input_shape, outputs):
        layers = nn.Linear(*input_shape, width, bias=False), nn.Tanh(),
        hidden = nn.Linear(width, width, bias=False), nn.Tanh()
        return nn.Sequential(*layers, *hidden, nn.Linear(width, outputs, bias=False))
"""
UNBATCHED = """
    import torch
    from torch import nn

    class Net(nn.Linear):
        def forward(self, x):
            if float(self.weight.detach().sum()) > 1e6:
                raise ValueError
            return super().forward(x)

    def build(input_shape, outputs):
        return Net(*input_shape, outputs)
"""
DROPOUT = """
    import torch
    from torch import nn

    def build(width, input_shape, outputs):
        hidden = nn.Linear(*input_shape, width), nn.BatchNorm1d(width), nn.Tanh()
        net = nn.Sequential(*hidden, nn.Dropout(0.5), nn.Linear(width, outputs))
        net.register_buffer("mask", torch.tensor([True, False]))
        return net
"""
PLAIN = {
    "batch normalisation": """
        from torch import nn

        def build(width, input_shape, outputs):
            hidden = nn.Linear(*input_shape, width), nn.BatchNorm1d(width), nn.Tanh()
            return nn.Sequential(*hidden, nn.Linear(width, outputs))
        """,
    "a buffer that is replaced": """
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, size, outputs):
                super().__init__()
                self.register_buffer("mean", torch.zeros(outputs))
                self.linear = nn.Linear(size, outputs)

            def forward(self, x):
                outputs = self.linear(x)
                self.mean = 0.9 * self.mean + 0.1 * outputs.mean(0).detach()
                return outputs - self.mean

        def build(width, input_shape, outputs):
            return Net(*input_shape, outputs)
        """,
    "tied, fixed, unused and single numbers": """
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, size, width, outputs):
                super().__init__()
                self.first, self.head = nn.Linear(size, width), nn.Linear(width, outputs)
                self.second, self.third = nn.Linear(width, width), nn.Linear(width, width)
                self.third.weight = self.second.weight
                self.first.bias.requires_grad_(False)
                self.gain = nn.Parameter(torch.ones(()))
                self.unused = nn.Parameter(torch.ones(3))

            def forward(self, x):
                hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
                return self.gain * self.head(torch.tanh(self.third(hidden)))

        def build(width, input_shape, outputs):
            return Net(*input_shape, width, outputs)
        """,
}


def samples():
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, SIZE, dtype=torch.float64, generator=source)
    signs = torch.ones(SAMPLES, 1, dtype=torch.float64)
    signs[SAMPLES // 2 :] = -1.0
    return {"inputs": inputs, "targets": signs}


def compressed():
    coordinates, basis = compress(samples()["inputs"])
    return samples() | {"coordinates": coordinates, "basis": basis}


def sequences():
    source = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, (SAMPLES, 4), generator=source)
    return {
        "inputs": tokens,
        "labels": tokens.roll(-1, 1),
        "classes": torch.tensor(5),
        "vocabulary": torch.tensor(5),
    }


def problem(model, dataset=None, seeds=(0, 1, 2), loss="mse", experiment="test", **training):
    plain = Training(steps=20).model_dump(mode="json")
    spec = {
        "stream": experiment,
        "seeds": list(seeds),
        "width": WIDTH,
        "learning_rate": 0.05,
        "loss": {"kind": loss, "label_smoothing": 0.0},
        "dtype": "float64",
        "device": "cpu",
        "model": model,
        "optimiser": {"kind": "sgd"},
        "schedule": {"kind": "constant"},
        "training": plain | training,
    }
    return Problem(spec, samples() if dataset is None else dataset)


@pytest.fixture
def module(tmp_path):
    """Factory of the options of a network in a file of the user's."""

    folders = count()

    def write(source, build="build", **options):
        file = tmp_path / str(next(folders)) / "net.py"
        file.parent.mkdir()
        file.write_text(dedent(source))
        return {"kind": "module", "file": str(file), "build": build, "options": options}

    return write


def final(problem):
    return train(problem).states[problem.steps]


def assert_same(found, expected, tolerance=0.0):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


# --- what it computes


@pytest.mark.parametrize("dataset", [samples, compressed])
def test_a_dense_module_is_the_mlp_from_the_same_weights(module, dataset):
    options = {"hidden_layers": 2, "activation": "tanh", "bias": False}
    mlp = {"kind": "mlp", "initialisation": {"kind": "default"}, **options}
    whole, own = problem(mlp).initial_state(), problem(module(MLP))
    weights = zip(own.model.layers, (whole[f"weight{i}"] for i in range(3)), strict=True)
    state = {name: weight.mT.contiguous() for (name,), weight in weights}
    reference = problem(mlp, dataset())
    expected = reference.initial_state()
    for step in range(30):
        taken, wanted = own.step(state, step), reference.step(expected, step)
        torch.testing.assert_close(taken.losses, wanted.losses, rtol=1e-10, atol=0.0)
        state, expected = taken.state, wanted.state


@pytest.mark.parametrize("batch", [None, 4])
def test_runs_that_cannot_be_taken_together_are_taken_one_by_one(module, batch, capsys):
    together = """
        from torch import nn

        def build(input_shape, outputs):
            return nn.Linear(*input_shape, outputs)
    """
    expected = final(problem(module(together), batch=batch))
    assert capsys.readouterr().out == ""
    found = final(problem(module(UNBATCHED), batch=batch))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "runs are trained one after another, not by vmap: " in said
    assert_same(found, expected, 1e-10)


@pytest.mark.parametrize("case", PLAIN)
def test_training_is_that_of_a_plain_loop(module, case):
    options = module(PLAIN[case])
    ours = problem(options, batch=4)
    found = final(ours)
    make = load_file(options["file"]).build
    for run, seed in enumerate(ours.seeds):
        torch.manual_seed(generator("test", seed, "initialise").initial_seed())
        plain = make(WIDTH, (SIZE,), 1).double()
        trained = [p for p in plain.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(trained, lr=0.05)
        for step in range(ours.steps):
            inputs, targets = (tensor[run] for tensor in ours.batch(step))
            optimiser.zero_grad()
            (plain(inputs) - targets).square().mean().backward()
            optimiser.step()
        named = {n if p.requires_grad else f"buffers/{n}": p for n, p in plain.named_parameters()}
        named |= {f"buffers/{n}": b for n, b in plain.named_buffers()}
        own = {name: tensor[run] for name, tensor in found.items()}
        assert_same(own, {n: t.detach() for n, t in named.items()}, 1e-10)


def test_sequences_are_rows_a_position(module):
    source = """
        from torch import nn

        def build(width, vocabulary, outputs):
            return nn.Sequential(nn.Embedding(vocabulary, width), nn.Linear(width, outputs))
    """
    ours = problem(module(source), sequences(), loss="cross_entropy")
    state = ours.initial_state()
    weight, head, bias = (state[name][0] for name in ("0.weight", "1.weight", "1.bias"))
    logits = weight[sequences()["inputs"]] @ head.T + bias
    expected = torch.nn.functional.cross_entropy(logits.mT, sequences()["labels"])
    torch.testing.assert_close(ours.full_loss(state, 0)[0], expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fused_attention_is_measured_by_its_second_derivatives(module, dropout):
    source = """
        from torch import nn

        def build(dropout):
            layer = nn.TransformerEncoderLayer(4, 2, 8, dropout, batch_first=True)
            return nn.Sequential(nn.Unflatten(1, (5, 4)), layer, nn.Flatten(), nn.Linear(20, 1))
    """
    ours = problem(module(source, dropout=dropout), batch=4, steps=1)
    states = train(ours).states
    hessian = {"every": 1, "k": 1, "tol": 1e-6}
    asked = {"batch_sharpness": {"every": 1, "draws": 50}, "hessian": hessian}
    table = evaluate(ours, [0, 1], states.get, asked).table
    values = table.groupby("quantity")["value"].max()
    level = values["batch_sharpness_mean_of_ratios"]
    assert 0.0 < level < 3.0 * values["hessian_sharpness"]


# --- random numbers, interruption and replay


def test_dropout_of_a_run_depends_on_its_seed_and_step_alone(module, capsys):
    options = module(DROPOUT)
    shard, alone = problem(options), problem(options, seeds=[1])
    whole = final(shard)
    assert "one after another, not by vmap: the network draws random numbers" in (
        capsys.readouterr().out
    )
    assert_same(final(alone), {name: tensor[1:2] for name, tensor in whole.items()}, 1e-12)
    state = shard.initial_state()
    first = [shard.gradient(state, step)(shard.parameters(state)).losses for step in (0, 1)]
    assert not torch.isclose(*first).any()


def test_dropout_leaves_the_global_generator_alone(module):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    final(problem(module(DROPOUT)))
    assert torch.equal(torch.rand(1), expected)


def test_the_recorded_loss_is_that_of_the_network_that_is_measured(module):
    ours = problem(module(DROPOUT), seeds=[0])
    trajectory = train(ours)
    table = trajectory.table
    losses = table[table["quantity"] == "loss"].set_index("step")["value"]
    for step in (0, 7, 20):
        measured = ours.full_loss(trajectory.states[step], step)
        assert losses[step] == pytest.approx(float(measured))


class Interrupted(Checkpoint):
    """A checkpoint whose job is killed after some offers."""

    left = 7

    def offer(self, contents):
        super().offer(contents)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_resumed_training_gives_the_same_bytes(module, tmp_path):
    options, path = module(DROPOUT), tmp_path / "checkpoint"
    whole = train(problem(options, batch=4))
    with pytest.raises(KeyboardInterrupt):
        train(problem(options, batch=4), Interrupted(path, "key", interval=0.0))
    saved = Checkpoint(path, "key")
    assert saved.load()[1]["records"] == 7
    again = train(problem(options, batch=4), saved)
    assert again.states.keys() == whole.states.keys()
    for step, state in whole.states.items():
        assert_same(again.states[step], state)
    assert again.columns.equals(whole.columns)


def test_a_replay_between_sparse_states_lands_on_them(module):
    options, measured = module(DROPOUT), {"hessian": {"k": 1, "tol": 1e-6}}
    measured["hessian"]["every"] = 5
    dense, sparse = (train(problem(options, states_megabytes=m)) for m in (8.0, 1e-3))
    assert sorted(sparse.states) == [0, 20]

    def evaluated(states, **changes):
        return evaluate(problem(options, **changes), sorted(states), states.get, measured)

    replayed, direct = evaluated(sparse.states), evaluated(dense.states)
    assert replayed.replay_deviation == 0.0
    found, expected = (
        e.table[e.table["quantity"] == "hessian_sharpness"] for e in (replayed, direct)
    )
    assert found["step"].tolist() == expected["step"].tolist()
    assert found["value"].tolist() == pytest.approx(expected["value"].tolist(), rel=1e-5)
    with pytest.raises(IntegrityError, match="missed the stored state of step 20"):
        evaluated(sparse.states, experiment="other")


# --- what is refused


REFUSED = {
    "is not a module": ("return 3", r"returned int, and must return a torch\.nn\.Module"),
    "has no parameters": ("return nn.Flatten()", "no parameter that requires a gradient"),
    "gives too many outputs": (
        "return nn.Linear(20, 2)",
        r"2 inputs of shape \(20,\) .* returned \(2, 2\); .* ask for 1 number a sample",
    ),
    "gives one number": ("return Net(lambda x, w: (w * x).sum())", r"the network returned \(\);"),
    "gives NaN": ("return Net(lambda x, w: x @ w * math.nan)", "NaN or infinite"),
    "gives a tuple": ("return Net(lambda x, w: (x, w))", "returned tuple; .* one float tensor"),
    "gives integers": ("return Net(lambda x, w: x.sum(1).long())", r"returned torch\.int64"),
    "has no shape yet": ("return nn.LazyLinear(1)", "no shape before the first pass"),
    "has integer parameters": (
        "return Net(None, nn.Parameter(torch.ones(2, dtype=torch.int), requires_grad=False))",
        r"'w' is torch\.int32; parameters must be floating-point",
    ),
    "has a slash in a name": (
        "return nn.ModuleDict({'a/b': nn.Linear(20, 1)})",
        r"'a/b\.weight' must be free of '/'",
    ),
    "starts from other numbers": (
        "return Net(None, nn.Parameter(torch.tensor(random.random())))",
        "differ in 'w'; initial values must be drawn from PyTorch's global generator",
    ),
    "draws other numbers": (
        "return Net(lambda x, w: x @ w * random.random())",
        "two passes with the same weights, buffers and seed gave different outputs",
    ),
    "cannot be built": ("return nn.Linear(20, width)", r"net\.py, line 16: NameError: .*'width'"),
    "cannot be called": (
        "return nn.Linear(3, 1)",
        "net.py:build, given inputs of shape \\(2, 20\\): RuntimeError: .*shapes",
    ),
    "fails in its own code": (
        "return Net(lambda x, w: x.nothing)",
        r"net\.py, line 16: AttributeError: .*'nothing'",
    ),
}
FILE = """
import math
import random

import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, function, w=None):
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.ones(20)) if w is None else w

    def forward(self, x):
        return self.function(x, self.w)

def build(): {}
"""


@pytest.mark.parametrize("case", REFUSED)
def test_a_network_is_refused_in_one_paragraph_that(module, case):
    body, sentence = REFUSED[case]
    with pytest.raises(PartError, match=sentence) as caught:
        problem(module(FILE.format(body)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_an_error_while_training_names_file_and_line(module):
    source = FILE.format("return Net(lambda x, w: x @ w if len(x) < 5 else x.nothing)")
    ours = problem(module(source))
    with pytest.raises(PartError, match=r"net\.py, line 16: AttributeError: .*'nothing'"):
        train(ours)


@pytest.mark.parametrize(
    ("dropout", "sentence"),
    [
        (0.0, r"gave \(3, 2, 5\), and the targets ask for \(3, 8, 5\)"),
        (0.5, "returned 12 rows of outputs for 48 rows of targets"),
    ],
)
def test_one_row_a_sample_is_refused_for_a_target_a_position(module, dropout, sentence):
    source = """
        from torch import nn

        def build(vocabulary, outputs, dropout):
            layers = nn.Embedding(vocabulary, 3), nn.Flatten(), nn.Dropout(dropout)
            return nn.Sequential(*layers, nn.Linear(12, outputs))
    """
    ours = problem(module(source, dropout=dropout), sequences(), loss="cross_entropy")
    with pytest.raises(PartError, match=sentence):
        train(ours)


def test_runs_of_different_shapes_are_refused(module):
    source = """
        import torch
        from torch import nn

        def build(input_shape, outputs):
            width = 3 + int(torch.randint(100, ()))
            return nn.Sequential(nn.Linear(*input_shape, width), nn.Linear(width, outputs))
    """
    with pytest.raises(PartError, match=r"'0\.weight' is missing, or of another shape"):
        problem(module(source)).initial_state()


def test_a_file_that_cannot_be_imported_is_named_with_the_line(module):
    with pytest.raises(PartError, match=r"net\.py, line 3: ModuleNotFoundError: .*'nowhere'"):
        problem(module("import torch\n\nimport nowhere"))
    with pytest.raises(PartError, match=r"net\.py, line 2: "):
        problem(module("import torch\ndef build(:"))
    missing = {"kind": "module", "file": "/nowhere/net.py", "build": "build", "options": {}}
    with pytest.raises(PartError, match=r"/nowhere/net\.py is not a file"):
        problem(missing)


def test_the_functions_name_and_options_are_checked(module):
    with pytest.raises(PartError, match=r"no function 'biuld'\. Did you mean 'build'"):
        problem(module(MLP, "biuld"))
    with pytest.raises(PartError, match=r"options\.dept: .* no parameter .* mean 'depth'"):
        problem(module("def build(width, depth): ...", dept=2))
    with pytest.raises(PartError, match="needs 'depth', which is neither given nor one of width"):
        problem(module("def build(width, depth): ..."))
