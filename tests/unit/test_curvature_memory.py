"""What curvature holds at its peak, in copies of the parameters, counted as tensors are made."""

import gc
import weakref

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sharpflow.curvature import SharpnessTracker, hessian_operator, top_eigenpairs
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.streamed_loss import StreamedLoss
from sharpflow.curvature.verification import verify


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are made inside and not yet given back."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.alive = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
        for tensor in tensors(found):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive and storage._cdata not in given:
                self.alive[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self.gave_back, storage._cdata)
        self.peak = max(self.peak, self.now)
        return found

    def gave_back(self, key):
        self.now -= self.alive.pop(key)


def tensors(values):
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


def wide(samples=4):
    """A net whose parameters are many beside its activations, with its data."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 5)
    )
    return model, torch.randn(samples, 64), torch.arange(samples) % 5


def copies(model, held):
    return held / sum(p.numel() * p.element_size() for p in model.parameters())


def test_a_graph_holds_no_gradient_beside_the_copy_of_the_parameters():
    model, inputs, targets = wide()
    params = dict(model.named_parameters())

    def loss(p):
        return cross_entropy(torch.func.functional_call(model, p, (inputs,)), targets)

    with Held() as meter:
        operator = hessian_operator(loss, params)
        gc.collect()
    assert 1 < copies(model, meter.now) < 1.5
    size = operator.shape[0]
    assert float((operator @ torch.ones(size)).norm()) > 0


def test_a_tracker_of_a_large_model_holds_few_copies_of_it(monkeypatch):
    for module in ("eigen", "measure"):  # where memory counts
        monkeypatch.setattr(f"sharpflow.curvature.{module}.LARGE", 2**10)
    monkeypatch.setattr("sharpflow.curvature.basis._CHUNK", 2**10)
    monkeypatch.setattr("sharpflow.curvature.basis._STRIPE", 2**10)
    model, inputs, targets = wide()
    with Held() as meter:
        tracker = SharpnessTracker(model, cross_entropy, inputs, targets, tol=1e-4)
        assert tracker.measure(vectors=False).matvecs > 6, "the basis was restarted"
        assert copies(model, meter.peak) < 10.5
        meter.peak = 0
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
        assert tracker.measure(vectors=False).matvecs > 6
        assert copies(model, meter.peak) < 11.5  # beside all, the vector that it starts from


def test_comparing_a_pair_with_gradients_holds_few_copies():
    model, inputs, targets = wide()
    loss = ModelLoss(model, cross_entropy, inputs, targets)
    pair = top_eigenpairs(loss.hessian(), tol=1e-4)
    with Held() as meter:
        assert verify(loss, 0.0, float(pair.values[0]), pair.vectors[:, 0])
    assert copies(model, meter.peak) < 8


def test_a_product_over_batches_holds_the_graph_of_one_and_few_copies():
    model, inputs, targets = wide()
    loss = StreamedLoss(model, cross_entropy, [(inputs + i, targets) for i in range(6)])
    vector = torch.ones(sum(p.numel() for p in model.parameters()))
    with Held() as meter:
        operator = loss.hessian()
        for _ in range(2):
            operator @ vector
            gc.collect()
            assert copies(model, meter.now) < 1.1  # between products no graph
    assert copies(model, meter.peak) < 4.6
