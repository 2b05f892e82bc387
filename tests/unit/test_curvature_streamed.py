"""Curvature over batches that are never held together."""

import json
from dataclasses import dataclass
from types import MethodType

import pytest
import torch
from processes import one_of_two
from small_classifier import draw, net, samples
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature import SharpnessTracker, sharpness
from sharpflow.curvature.streamed_loss import StreamedLoss

N = 23


INPUTS, LABELS = samples(N)


def loader(**keys) -> DataLoader:
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=5, **keys)


def loss_of_pair(model, batch):
    x, y = batch
    return cross_entropy(model(x), y)


def pairs(size=5):
    return list(zip(INPUTS.split(size), LABELS.split(size), strict=True))


@pytest.mark.parametrize(
    ("batches", "loss"),
    [
        (pairs(N), loss_of_pair),
        ([[x, y] for x, y in pairs(7)], loss_of_pair),
    ],
    ids=["one", "lists"],
)
def test_batches_are_the_whole_with_uneven_ends(batches, loss):
    model = net()
    whole = SharpnessTracker(model, cross_entropy, INPUTS, LABELS, k=2, tol=1e-9).measure()
    tracker = SharpnessTracker(model, loss, batches, k=2, tol=1e-9)
    found = tracker.measure()
    torch.testing.assert_close(found.values, whole.values)
    torch.testing.assert_close(found.vectors.abs(), whole.vectors.abs(), rtol=1e-4, atol=1e-5)
    assert tracker.verified["finite_difference"] < 1e-3
    assert sharpness(model, loss, batches, tol=1e-9) == pytest.approx(float(whole.values[0]))


def test_a_bare_tensor_is_a_batch():
    model = net()
    batches = list(INPUTS.split(5))
    found = sharpness(model, lambda m, x: m(x).pow(2).mean(), batches, tol=1e-9)
    expected = sharpness(model, lambda f, _: f.pow(2).mean(), INPUTS, LABELS, tol=1e-9)
    assert found == pytest.approx(expected)


class TimeFirst(nn.Module):
    """A recurrent network whose inputs are (time, samples, width)."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.RNN(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][-1])


def test_a_batch_whose_tensors_disagree_needs_a_weight():
    torch.manual_seed(0)
    model, loss = TimeFirst().double(), nn.CrossEntropyLoss()
    series = draw(6, 11, 5)
    expected = sharpness(model, loss, [(series, LABELS[:11])], tol=1e-9)
    uneven = list(zip(series.split([10, 1], 1), LABELS[:11].split([10, 1]), strict=True))
    with pytest.raises(ValueError, match=r"have 6, 10 rows.*weight="):
        sharpness(model, loss, uneven)
    last = [uneven[0], (uneven[1][0][:1], uneven[1][1])]  # lengths of 1 are no constants here
    with pytest.raises(ValueError, match="weight="):
        sharpness(model, loss, last)
    found = sharpness(model, loss, uneven, weight=lambda batch: len(batch[1]), tol=1e-9)
    assert found == pytest.approx(expected)
    alike = list(zip(series[:, :10].split(5, 1), LABELS[:10].split(5), strict=True))
    whole = sharpness(model, loss, [(series[:, :10], LABELS[:10])], tol=1e-9)
    assert sharpness(model, loss, alike, tol=1e-9) == pytest.approx(whole)


def test_numbers_and_tensors_of_length_one_have_no_samples():
    model = net()
    expected = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-9)
    one, scale = torch.ones(1).double(), torch.tensor(1.0).double()
    batches = [{"t": scale, "one": one, "x": x, "y": y} for x, y in pairs(11)]  # 11, 11 and 1

    def loss(model, batch):
        return cross_entropy(batch["one"] * batch["t"] * model(batch["x"]), batch["y"])

    assert sharpness(model, loss, batches, tol=1e-9) == pytest.approx(expected)


@dataclass(frozen=True)
class Fields:
    x: torch.Tensor
    y: torch.Tensor


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y


class Nested:
    def __init__(self, x, y):
        self.own, self.again = {"data": Fields(x, y)}, self


class Closed:
    """A batch that cannot be looked into."""

    def __init__(self, x, y):
        self.content = MethodType(lambda _: (x, y), 0)


def from_text(text):
    x, y = json.loads(text)
    return torch.tensor(x).double(), torch.tensor(y)


def arrays(x, y):
    return x.numpy(), y.numpy()


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (Fields, lambda b: (b.x, b.y)),
        (Slots, lambda b: (b.x, b.y)),
        (Nested, lambda b: (b.own["data"].x, b.own["data"].y)),
        (Closed, lambda b: b.content()),
        (arrays, lambda b: map(torch.as_tensor, b)),
        (lambda x, y: json.dumps([x.tolist(), y.tolist()]), from_text),
        (lambda x, y: (x.to_sparse(), y.tolist()), lambda b: (b[0].to_dense(), torch.tensor(b[1]))),
    ],
)
def test_batches_of_any_kind_that_are_shuffled_are_refused(kind, read):
    class Batches:
        def __init__(self, shuffle):
            self.shuffle = shuffle

        def __iter__(self):
            places = torch.randperm(10) if self.shuffle else torch.arange(10)
            return (kind(INPUTS[rows], LABELS[rows]) for rows in places.split(5))

    def loss(model, batch):
        x, y = read(batch)
        return cross_entropy(model(x), y)

    model = net()
    with pytest.raises(ValueError, match="others each time they are read"):
        sharpness(model, loss, Batches(True), weight=lambda _: 1.0)
    same = [(INPUTS[rows], LABELS[rows]) for rows in torch.arange(10).split(5)]
    expected = sharpness(model, cross_entropy, same, tol=1e-9)
    found = sharpness(model, loss, Batches(False), weight=lambda _: 1.0, tol=1e-9)
    assert found == pytest.approx(expected)


def test_the_graph_of_one_batch_is_held():
    """Rows seen at once by the first layer, over construction and measurement."""
    sizes = []
    model = net()
    model[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    sharpness(model, loss_of_pair, loader())
    assert max(sizes) == 5


def test_it_follows_a_training():
    model, batches = net(), pairs()
    tracker = SharpnessTracker(model, loss_of_pair, batches, tol=1e-7)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        cross_entropy(model(INPUTS), LABELS).backward()
        optimiser.step()
        expected = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-7)
        assert float(tracker.measure().values[0]) == pytest.approx(expected, rel=1e-5)


def bad(batches, loss=loss_of_pair, model=None, **keys):
    with pytest.raises((ValueError, TypeError)) as caught:
        sharpness(model or net(), loss, batches, **keys)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_cannot_be_read_twice_alike_is_refused():
    assert "does the loader shuffle" in bad(loader(shuffle=True))
    assert "can be read once only" in bad(iter(pairs()))
    assert "batches is empty" in bad([])
    assert "these are a Tensor" in bad(INPUTS)
    assert "these are a dict" in bad({"x": INPUTS})


def test_weights_are_positive_and_known():
    counts = iter([5, 5, 0, 5, 3])
    assert "batch 3 has the weight 0" in bad(pairs(), weight=lambda _: next(counts))
    assert "give weight" in bad([3, 4], loss=lambda m, n: m(INPUTS[:n]).mean())


def test_the_batch_that_is_not_finite_is_named():
    batches = pairs()
    batches[2] = (batches[2][0] * float("nan"), batches[2][1])
    assert bad(batches).startswith("batch 3: ")


def test_batch_norm_in_training_mode_is_refused():
    assert "is a batch norm" in bad(pairs(), model=net(nn.BatchNorm1d(6)))
    model = net(nn.BatchNorm1d(6)).eval()
    assert sharpness(model, loss_of_pair, pairs()) > 0


def test_a_loader_that_changes_later_is_noticed():
    batches = pairs()
    tracker = SharpnessTracker(net(), loss_of_pair, batches)
    tracker.measure()
    batches.pop()
    with pytest.raises(ValueError, match="another number of batches"):
        tracker.measure()


def test_options_of_the_other_form_are_refused():
    assert "micro_batch is for inputs with targets" in bad(pairs(), micro_batch=3)
    with pytest.raises(ValueError, match="weight and distributed are for batches"):
        sharpness(net(), cross_entropy, INPUTS, LABELS, weight=len)
    assert "torch.distributed is not initialised" in bad(pairs(), distributed=True)


def process(rank: int, folder: str, case: str) -> None:
    """One of two processes: its batches are every other one."""
    with one_of_two(rank, folder):
        model, mine = net(), pairs()[rank::2]
        if case == "other models" and rank == 1:
            with torch.no_grad():
                model[0].bias[0] += 1e-3
        if case == "bad batches" and rank == 1:
            mine = []
        try:
            tracker = SharpnessTracker(model, loss_of_pair, mine, k=2, tol=1e-9, distributed=True)
            if case == "later fault" and rank == 1:
                mine[1][0].fill_(float("nan"))
            result = tracker.measure()
            said = {"values": result.values, "vectors": result.vectors}
        except ValueError as error:
            said = {"error": str(error)}
        torch.save(said, f"{folder}/{rank}.pt")


def two_processes(tmp_path, case: str) -> list[dict]:
    torch.multiprocessing.spawn(process, (str(tmp_path), case), nprocs=2)
    return [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_give_what_one_does(tmp_path):
    first, second = two_processes(tmp_path, "plain")
    one = SharpnessTracker(net(), loss_of_pair, pairs(), k=2, tol=1e-9).measure()
    assert torch.equal(first["values"], second["values"])
    assert torch.equal(first["vectors"], second["vectors"])
    torch.testing.assert_close(first["values"], one.values)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other models", ("different parameters", "different parameters")),
        ("bad batches", ("another process could not", "batches is empty")),
        ("later fault", ("holds NaN or infinity", "batch 2: ")),
    ],
)
def test_a_fault_of_one_process_ends_both(tmp_path, case, words):
    for said, wanted in zip(two_processes(tmp_path, case), words, strict=True):
        assert wanted in said["error"]


def test_a_batch_that_is_not_finite_later_is_named_too():
    model = nn.Sequential(nn.Linear(3, 2)).double()
    batches = [[torch.ones(2, 3).double(), torch.tensor([0, 1])] for _ in range(3)]
    operator = StreamedLoss(model, cross_entropy, batches).hessian()
    vector = torch.ones(8).double()
    assert torch.equal(operator @ vector, operator @ vector), "looked through or not"
    batches[2][0][0, 0] = float("nan")
    with pytest.raises(ValueError, match="batch 3: the loss holds NaN"):
        operator @ vector
