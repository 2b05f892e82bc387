"""What would give a wrong curvature in silence: the right value, or a refusal in a sentence."""

import contextlib
import copy
import random
import warnings
from functools import partial

import numpy as np
import pytest
import small_classifier
import torch
from small_classifier import cubed, draw, samples
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import parametrize

from sharpflow.curvature import (
    ModelCurvature,
    SharpnessTracker,
    gauss_newton_operator,
    hessian_operator,
    sharpness,
    trace,
)
from sharpflow.curvature.reference import dense_hessian
from sharpflow.curvature.torch_losses import separable
from sharpflow.flows import model_objective
from sharpflow.symmetry import noise_trace, sample_loss

N = 12


INPUTS, LABELS = samples(N)


net = partial(small_classifier.net, activation=nn.Tanh)


def exact(model, loss, inputs=INPUTS, targets=LABELS) -> float:
    """Top eigenvalue of the dense Hessian of `loss(outputs, targets, parameters)`."""
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def value(p):
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        return loss(functional_call(model, {**buffers, **p}, (inputs,)), targets, p)

    return float(torch.linalg.eigvalsh(dense_hessian(value, params))[-1])


def close(found: float, expected: float) -> bool:
    return found == pytest.approx(expected, rel=1e-5)


class TestTheLossReadsTheParameters:
    def penalised(self, parameters):
        def loss(outputs, targets):
            return cross_entropy(outputs, targets) + sum(p.pow(2).sum() for p in parameters()) / 4

        return loss

    def test_through_a_second_call_of_the_model(self):
        model = net()
        expected = exact(
            model,
            lambda f, y, p: (
                cross_entropy(f, y) + functional_call(model, p, (-INPUTS,)).pow(2).mean()
            ),
        )

        def loss(outputs, targets):
            return cross_entropy(outputs, targets) + model(-INPUTS).pow(2).mean()

        assert close(sharpness(model, loss, INPUTS, LABELS, tol=1e-8), expected)

    @pytest.mark.parametrize("micro_batch", [None, 5])
    def test_past_the_model_is_refused(self, micro_batch):
        model = net()
        held = list(model.parameters())
        loss = self.penalised(lambda: held)
        with pytest.raises(ValueError, match=r"reads '[02].(weight|bias)' itself"):
            sharpness(model, loss, INPUTS, LABELS, micro_batch=micro_batch)

    def test_a_closure_that_does_not_use_what_it_is_given(self):
        model = net()
        params = dict(model.named_parameters())
        with pytest.raises(ValueError, match="itself and not the tensor"):
            hessian_operator(lambda p: cross_entropy(model(INPUTS), LABELS), params)
        with pytest.raises(ValueError, match="itself and not the tensor"):
            gauss_newton_operator(lambda p: model(INPUTS), params)
        copies = {name: p.detach().clone() for name, p in params.items()}
        with pytest.raises(ValueError, match="depends on none"):
            hessian_operator(lambda p: cross_entropy(model(INPUTS), LABELS), copies)

    def test_a_loss_without_a_graph(self):
        model = net()
        with pytest.raises(ValueError, match="has no graph"):
            sharpness(model, lambda f, y: cross_entropy(f.detach(), y), INPUTS, LABELS)
        with pytest.raises(ValueError, match="has no graph"):
            hessian_operator(lambda p: torch.tensor(1.0), {"a": torch.ones(2)})


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("micro_batch", [None, 5])
def test_autograd_may_be_off_around_the_call(around, micro_batch):
    model = net()
    expected = exact(model, lambda f, y, _: cross_entropy(f, y))
    with around():
        inputs, labels = INPUTS.clone(), LABELS.clone()  # of that mode
        found = sharpness(model, cross_entropy, inputs, labels, tol=1e-8, micro_batch=micro_batch)
        assert close(found, expected)
        assert close(
            sharpness(model, lambda f, y: cross_entropy(f, y), INPUTS, LABELS, tol=1e-8), expected
        )


def test_the_noise_of_a_penalised_loss():
    """A penalty shifts every sample's gradient alike: it moves the mean and not the covariance."""
    model = net()
    params = {name: p.detach() for name, p in model.named_parameters()}

    def penalised(outputs, targets):
        return cross_entropy(outputs, targets) + sum(p.pow(2).sum() for p in model.parameters()) / 4

    q = torch.eye(sum(p.numel() for p in params.values()), dtype=torch.float64)
    plain, more = (
        noise_trace(sample_loss(model, loss), params, q, INPUTS, LABELS)
        for loss in (cross_entropy, penalised)
    )
    gradient = torch.func.grad(
        lambda p: cross_entropy(functional_call(model, p, (INPUTS,)), LABELS)
    )(params)
    expected = sum((gradient[name] + params[name] / 2).pow(2).sum() for name in params)
    torch.testing.assert_close(more.covariance, plain.covariance)
    torch.testing.assert_close(more.gradient, expected)
    held = list(model.parameters())
    direct = sample_loss(model, lambda f, y: cross_entropy(f, y) + held[0].pow(2).sum())
    with pytest.raises(ValueError, match="itself and not the tensor"):
        noise_trace(direct, dict(model.named_parameters()), q, INPUTS, LABELS)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * 3 * x**2


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: net(Kernel(Once)), INPUTS),
        (lambda: nn.Sequential(nn.EmbeddingBag(7, 6), nn.Linear(6, 3)).double(), LABELS[:, None]),
    ],
    ids=["once_differentiable", "embedding_bag"],
)
def test_what_has_no_second_derivative_is_refused_in_a_sentence(make, inputs):
    with pytest.raises(ValueError, match=r"second derivative"):
        sharpness(make(), cross_entropy, inputs, LABELS)


class TestBatches:
    labels = LABELS.sort().values

    @pytest.mark.parametrize(
        ("loss", "labels"),
        [
            (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1]).double()), "sorted"),
            (nn.CrossEntropyLoss(ignore_index=0), "some ignored"),
            (lambda f, y: cross_entropy((f - f.mean(0)) / f.std(0), y), "mixed"),
            (lambda f, y: cross_entropy(f, y) ** 2, "mixed"),
            (lambda f, y: torch.logsumexp(F.cross_entropy(f, y, reduction="none"), 0), "mixed"),
        ],
        ids=["class_weights", "ignored", "statistics", "squared", "logsumexp"],
    )
    def test_that_are_another_loss_are_refused(self, loss, labels):
        targets = {"sorted": self.labels, "mixed": LABELS, "some ignored": self.labels.clone()}[
            labels
        ]
        if labels == "some ignored":
            targets[3] = 1
        with pytest.raises(ValueError, match="mean or a sum over samples"):
            sharpness(net(), loss, INPUTS, targets, micro_batch=4)

    def test_a_network_that_mixes_samples_is_refused(self):
        class Mixing(nn.Module):
            def forward(self, x):
                return x - x.mean(0)

        with pytest.raises(ValueError, match="does not depend on the other samples"):
            sharpness(net(Mixing()), cross_entropy, INPUTS, LABELS, micro_batch=4)

    def test_nor_is_it_hidden_by_a_last_layer_of_zeros(self):
        class Mixing(nn.Module):
            def forward(self, x):
                return x - x.mean(0)

        model = net(Mixing())
        nn.init.zeros_(model[-1].weight)
        with pytest.raises(ValueError, match="does not depend on the other samples"):
            sharpness(model, cross_entropy, INPUTS, LABELS, micro_batch=4)


def doubled(module):
    plain = type(module).forward
    module.forward = lambda x: 2 * plain(module, x)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def global_hook(module, _, output):
    return 2 * output if isinstance(module, nn.Linear) else None


class TestTheClosedForm:
    """Dense stacks under the mean squared error, whose modules are not what their class says."""

    targets = draw(N, 3, seed=1)

    def check(self, model):
        expected = exact(model, lambda f, y, _: mse_loss(f, y), INPUTS, self.targets)
        tracker = SharpnessTracker(model, mse_loss, INPUTS, self.targets, tol=1e-8)
        assert not tracker.dense
        assert close(float(tracker.measure().values[0]), expected)

    def test_a_replaced_forward(self):
        model = net()
        doubled(model[0])
        self.check(model)

    def test_a_parametrisation(self):
        model = net()
        parametrize.register_parametrization(model[2], "weight", Doubled())
        self.check(model)

    def test_a_backward_hook(self):
        model = net()
        model[0].register_full_backward_hook(lambda *_: None)
        self.check(model)

    def test_a_global_hook(self):
        handle = nn.modules.module.register_module_forward_hook(global_hook)
        try:
            self.check(net())
        finally:
            handle.remove()

    def test_a_patched_class(self, monkeypatch):
        plain = nn.Linear.forward
        monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * plain(self, x))
        self.check(net())

    def test_what_changes_after_the_tracker_was_made(self):
        model = net()
        tracker = SharpnessTracker(model, mse_loss, INPUTS, self.targets, tol=1e-8)
        assert tracker.dense
        tracker.measure()
        doubled(model[0])
        expected = exact(model, lambda f, y, _: mse_loss(f, y), INPUTS, self.targets)
        assert close(float(tracker.measure().values[0]), expected)

    def check_after(self, model, change, loss=mse_loss, inputs=INPUTS, dense=False):
        tracker = SharpnessTracker(model, loss, inputs, self.targets, tol=1e-8)
        assert tracker.dense
        tracker.measure()
        change()
        expected = exact(model, lambda f, y, _: loss(f, y), inputs, self.targets)
        assert close(float(tracker.measure().values[0]), expected)
        assert tracker.dense == dense
        assert tracker.verified

    def test_a_module_that_is_added(self):
        model = net()
        self.check_after(model, lambda: model.append(nn.Tanh()))

    def test_a_module_that_is_replaced(self):
        model = net()
        self.check_after(model, lambda: model.__setitem__(1, nn.SiLU()), dense=True)
        self.check_after(model, lambda: model.__setitem__(0, nn.Linear(5, 6).double()), dense=True)

    def test_an_activation_that_is_set_otherwise(self):
        model = net(activation=nn.ELU)
        self.check_after(model, lambda: setattr(model[1], "alpha", 0.3))

    def test_weights_that_are_tied(self):
        model = nn.Sequential(
            nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)
        )
        self.check_after(model.double(), lambda: setattr(model[2], "weight", model[0].weight))

    def test_a_loss_that_is_set_otherwise(self):
        loss = nn.MSELoss()
        self.check_after(net(), lambda: setattr(loss, "reduction", "sum"), loss)

    @pytest.mark.parametrize("through_numpy", [False, True])
    def test_inputs_that_are_changed_in_place(self, through_numpy):
        inputs = draw(N, 20)
        model = nn.Sequential(nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3)).double()

        def change():
            if through_numpy:  # which leaves the tensor's version alone
                inputs.numpy()[:] *= 2
            else:
                inputs.mul_(2)

        self.check_after(model, change, inputs=inputs, dense=True)

    def test_a_parameter_more_and_one_shared(self):
        """As many as a plain stack has."""
        model = nn.Sequential(
            nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)
        )
        model[2].bias = model[0].bias
        model[4].register_parameter("extra", nn.Parameter(torch.randn(2)))
        self.check(model.double())

    def test_another_precision_is_refused(self):
        model = net()
        tracker = SharpnessTracker(model, mse_loss, INPUTS, self.targets)
        tracker.measure()
        model.float()
        with pytest.raises(
            ValueError, match="are float32 on cpu now, and were float64 on cpu when"
        ):
            tracker.measure()


def test_a_loss_that_is_set_otherwise_is_found_to_be_a_sum():
    model, loss = net(), nn.CrossEntropyLoss()
    tracker = SharpnessTracker(model, loss, INPUTS, LABELS, micro_batch=5, tol=1e-8)
    tracker.measure()
    loss.reduction = "sum"
    expected = N * exact(model, lambda f, y, _: cross_entropy(f, y))
    assert close(float(tracker.measure().values[0]), expected)
    batches = list(zip(INPUTS.split(5), LABELS.split(5), strict=True))
    tracker = SharpnessTracker(model, mean := nn.CrossEntropyLoss(), batches)
    tracker.measure()
    mean.reduction = "sum"
    with pytest.raises(ValueError, match="sum over its samples"):
        tracker.measure()


class TestHooksOnTheLoss:
    """A loss of `torch.nn` whose class does not tell what it is."""

    targets = draw(N, 3, seed=1)

    def hooked(self, kind, factor):
        loss = kind()
        loss.register_forward_hook(lambda *given: factor * given[2])
        return loss

    def test_no_closed_form_is_taken(self):
        model, loss = net(), self.hooked(nn.MSELoss, 1.04)
        expected = exact(model, lambda f, y, _: 1.04 * mse_loss(f, y), INPUTS, self.targets)
        assert close(sharpness(model, loss, INPUTS, self.targets, tol=1e-8), expected)
        replaced = nn.MSELoss()
        replaced.forward = lambda f, y: 1.04 * mse_loss(f, y)
        assert close(sharpness(model, replaced, INPUTS, self.targets, tol=1e-8), expected)

    def test_objectives_of_flows(self):
        model, loss = net(), self.hooked(nn.MSELoss, 3)
        objective = model_objective(model, loss, INPUTS, self.targets)
        found = float(objective.at(objective.start).loss)
        assert found == pytest.approx(float(loss(model(INPUTS), self.targets)))

    def test_no_likelihood_is_known(self):
        curvature = ModelCurvature(net(), self.hooked(nn.CrossEntropyLoss, 3), INPUTS, LABELS)
        with pytest.raises(ValueError, match=r"CrossEntropyLoss is not known.*no hooks"):
            curvature.monte_carlo_fisher()

    def test_blocks_are_not_added_up(self):
        loss = nn.MSELoss()
        loss.register_forward_hook(lambda *given: given[2] ** 2)
        assert separable(nn.MSELoss(), self.targets) == "mean"
        assert separable(loss, self.targets) is None


class Merged(nn.Module):
    """A product of two matrices, which is kept at the first call in evaluation mode."""

    def __init__(self, buffer):
        super().__init__()
        self.a, self.b = nn.Parameter(draw(3, 2, seed=4)), nn.Parameter(draw(2, 5, seed=5))
        if buffer:
            self.register_buffer("merged", None)
        else:
            self.merged = None

    def forward(self, x):
        if self.training:
            return x @ (self.a @ self.b).T
        if self.merged is None:
            self.merged = self.a @ self.b
        return x @ self.merged.T


class TestWeightsThatAreKept:
    targets = draw(N, 3, seed=1)

    def test_cached_parametrisations(self):
        torch.manual_seed(0)
        layer = nn.utils.parametrizations.orthogonal(nn.Linear(5, 5))
        model = nn.Sequential(layer, nn.GELU(), nn.Linear(5, 3)).double()
        data = model, mse_loss, INPUTS, self.targets
        expected = sharpness(*data, tol=1e-8)
        newton = float(trace(ModelCurvature(*data).gauss_newton()).value)
        with parametrize.cached():
            assert close(sharpness(*data, tol=1e-8), expected)
            mse_loss(model(INPUTS), self.targets).backward()
            assert layer.parametrizations.weight.original.grad is not None
            assert close(sharpness(*data, tol=1e-8), expected)  # the caller filled the cache
            found = trace(ModelCurvature(*data).gauss_newton()).value
        assert close(float(found), newton)

    def test_a_merged_weight_is_refused_and_left_as_it_was(self):
        model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), Merged(buffer=False)).double().eval()
        with pytest.raises(ValueError, match="made of the parameters in an earlier call and kept"):
            sharpness(model, mse_loss, INPUTS, self.targets)
        assert model[2].merged is None

    def test_a_merged_weight_in_a_buffer_is_merged_anew(self):
        model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), Merged(buffer=True)).double()
        expected = exact(model, lambda f, y, _: mse_loss(f, y), INPUTS, self.targets)
        found = sharpness(model.eval(), mse_loss, INPUTS, self.targets, tol=1e-8)
        assert close(found, expected)
        assert model[2].merged is None

    def test_a_loss_may_read_what_forward_left(self):
        class Noted(nn.Linear):
            noted = None

            def forward(self, x):
                self.noted = super().forward(x)
                return self.noted

        model = nn.Sequential(Noted(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()

        def loss(outputs, targets):
            return mse_loss(outputs, targets) + model[0].noted.pow(4).mean()

        expected = exact(model, lambda f, y, _: loss(f, y), INPUTS, self.targets)
        model[0].noted = None
        assert close(sharpness(model, loss, INPUTS, self.targets, tol=1e-8), expected)
        assert model[0].noted is None


class PhysicsInformed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x):
        return vmap(grad(lambda row: self.inner(row)[0]))(x)[:, :3]


class FromComplex(nn.Module):
    """Weights that are read as complex, behind an odd number of others."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(draw(3, seed=4))
        self.weight = nn.Parameter(draw(5, 3, 2, seed=5))

    def forward(self, x):
        return (x.to(torch.complex128) @ torch.view_as_complex(self.weight)).abs() * self.scale


@pytest.mark.parametrize("kind", [PhysicsInformed, FromComplex])
def test_what_autograd_has_second_derivatives_of_is_measured(kind):
    torch.manual_seed(0)
    model, targets = kind().double(), draw(N, 3, seed=1)
    params = {name: p.detach() for name, p in model.named_parameters()}
    names, sizes = list(params), [p.numel() for p in params.values()]

    def slope(flat):
        parts = zip(names, flat.split(sizes), strict=True)
        leaves = {n: p.view(params[n].shape).clone().requires_grad_() for n, p in parts}
        value = mse_loss(functional_call(model, leaves, (INPUTS,)), targets)
        return torch.cat(
            [
                g.reshape(-1)
                for g in torch.autograd.grad(value, [*leaves.values()], materialize_grads=True)
            ]
        )

    flat = torch.cat([p.reshape(-1) for p in params.values()])
    eye = 1e-5 * torch.eye(len(flat), dtype=flat.dtype)
    columns = torch.stack([(slope(flat + e) - slope(flat - e)) / 2e-5 for e in eye])
    expected = float(torch.linalg.eigvalsh((columns + columns.T) / 2)[-1])
    assert close(sharpness(model, mse_loss, INPUTS, targets, tol=1e-8), expected)
    newton = ModelCurvature(model, mse_loss, INPUTS, targets).gauss_newton()
    small = {n: p.clone().requires_grad_() for n, p in params.items()}
    outputs = functional_call(model, small, (INPUTS,)).reshape(-1)
    rows = [
        torch.autograd.grad(f, [*small.values()], retain_graph=True, materialize_grads=True)
        for f in outputs
    ]
    squares = sum(float(part.square().sum()) for row in rows for part in row)
    assert close(float(trace(newton).value), 2 / targets.numel() * squares)


def test_complex_parameters_are_told_how_to_be_real():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5, 3, dtype=torch.complex128))
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return (x.to(torch.complex128) @ self.weight).abs() * self.scale

    with pytest.raises(ValueError, match=r"real parameters.*view_as_complex") as caught:
        sharpness(Complex(), mse_loss, INPUTS, draw(N, 3, seed=1))
    assert "dtype=" not in str(caught.value)


def straight_through(x):
    return x + (x.round() - x).detach()


@pytest.mark.parametrize(
    "loss",
    [
        lambda f, y: mse_loss(f, f.detach() + y),
        lambda f, y: mse_loss(straight_through(f), y),
    ],
    ids=["detach", "straight-through"],
)
def test_gradients_that_are_none_of_the_loss_are_named(loss):
    with pytest.raises(ValueError, match=r"detach\(\) of what depends on parameters"):
        sharpness(net(), loss, INPUTS, 3 * draw(N, 3, seed=1))


CONSTANT = cubed(lambda x: 3 * x.detach() ** 2)
"""Its derivative is a constant to autograd."""
HALF = cubed(lambda x: 3 * x.detach() * x)
"""Its second derivative is half of the right one."""


class Kernel(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize("function", [CONSTANT, HALF], ids=["constant", "half"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernel_with_a_wrong_second_derivative_is_refused(function, dtype):
    model = net(Kernel(function)).to(dtype)
    with pytest.raises(ValueError, match=r"second\s+derivative"):
        sharpness(model, cross_entropy, 3 * INPUTS.to(dtype), LABELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.LeakyReLU, nn.Hardtanh, nn.Softplus]
)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_right_kernels_pass(activation, dtype, scale):
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(5, 30), activation(), nn.Linear(30, 30), activation(), nn.Linear(30, 3)
        ).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        inputs = draw(200, 5, seed=seed).to(dtype)
        tracker = SharpnessTracker(model, cross_entropy, inputs, inputs.argmax(1) % 3)
        tracker.measure()
        assert tracker.verified["finite_difference"] <= 0.25
        assert tracker.verified["symmetry"] < 1e-3


class TestRandomness:
    @pytest.mark.parametrize(
        "draws",
        [
            lambda: torch.rand(()) < 0.02,
            lambda: torch.tensor(random.random() < 0.02),
            lambda: torch.tensor(np.random.random() < 0.02),  # noqa: NPY002 (what users do)
        ],
        ids=["torch", "python", "numpy"],
    )
    def test_that_two_draws_do_not_show(self, draws):
        class Depth(nn.Module):
            def forward(self, x):
                return x * 0 if draws() else x

        states = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        with pytest.raises(ValueError, match="draws random numbers"):
            sharpness(net(Depth()), cross_entropy, INPUTS, LABELS)
        assert random.getstate() == states[0]
        assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_weights_under_a_largest_norm_are_left_alone():
    torch.manual_seed(0)
    embedding = nn.Embedding(7, 6, max_norm=0.5)
    model = nn.Sequential(embedding, nn.Flatten(), nn.Linear(12, 3)).double()
    before = embedding.weight.detach().clone()
    words = torch.arange(2 * N).reshape(N, 2) % 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ValueError, RuntimeError):
            sharpness(model, cross_entropy, words, LABELS)
    assert torch.equal(embedding.weight, before)


def test_a_compiled_module_is_the_one_that_was_compiled():
    model = net()
    expected = exact(model, lambda f, y, _: cross_entropy(f, y))
    assert close(sharpness(torch.compile(model), cross_entropy, INPUTS, LABELS, tol=1e-8), expected)


class Noting(nn.Module):
    """The identity, which notes the precision and length of what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, x):
        self.seen.add((x.dtype, len(x)))
        return x


def kinked(seed):
    """A network of many kinks, which notes what it is given, and 48 images with labels."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        Noting(),
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    return model, (torch.randn(48, 3, 8, 8), torch.randint(0, 4, (48,)))


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("weights", [None, torch.linspace(0.5, 1.5, 4)])
def test_many_kinks_are_no_reason_to_refuse(weights, batches):
    """Gradients far apart differ by a tenth and more; those in float64, between kinks, agree."""
    model, data = kinked(4)

    def loss(outputs, labels):  # weights in float32 do not go with a float64 copy
        return cross_entropy(outputs, labels, weights)

    if batches:
        tracker = SharpnessTracker(
            model,
            lambda net, batch: loss(net(batch[0]), batch[1]),
            list(zip(*(each.split(6) for each in data), strict=True)),
            weight=None if weights is None else lambda batch: float(weights[batch[1]].sum()),
        )
    else:
        tracker = SharpnessTracker(model, loss, *data)
    found = tracker.measure()
    in_double = {length for dtype, length in model[0].seen if dtype == torch.float64}
    reference = copy.deepcopy(model).double()

    def exact(outputs, labels):
        return cross_entropy(outputs, labels, None if weights is None else weights.double())

    double = SharpnessTracker(reference, exact, data[0].double(), data[1])
    assert float(found.values) == pytest.approx(float(double.measure().values), rel=1e-3)
    assert 0.05 < tracker.verified["finite_difference"] < 0.25
    if weights is None:
        assert in_double == {6}  # a batch, or every eighth sample
        assert tracker.verified["few_samples"] < 1e-3


def test_kinks_under_a_loss_with_weights_are_no_reason_to_refuse():
    """Gradients far apart say nothing; a loss of `torch.nn` has its weights in float64 too."""
    model, data = kinked(3)
    weights = torch.linspace(0.5, 1.5, 4)
    with pytest.raises(ValueError, match=r"kinks .* float64 copy that would tell fails \(expected"):
        sharpness(model, lambda f, y: cross_entropy(f, y, weights), *data)
    tracker = SharpnessTracker(model, nn.CrossEntropyLoss(weights), *data)
    tracker.measure()
    assert tracker.verified["finite_difference"] < 1e-3


class Slope(torch.autograd.Function):
    """2 x g, whose derivative in x is wrong by a factor of 1.1."""

    @staticmethod
    def forward(ctx, x, g):
        ctx.save_for_backward(x, g)
        return 2 * x * g

    @staticmethod
    def backward(ctx, h):
        x, g = ctx.saved_tensors
        return 2.2 * g * h, 2 * x * h


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return Slope.apply(x, g)


def test_a_second_derivative_that_is_wrong_by_a_tenth_is_told():
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 3, generator=stream)
    with pytest.warns(RuntimeWarning, match="differs by 9.*second derivative that is wrong"):
        sharpness(
            torch.nn.Linear(3, 2),
            lambda y, t: Square.apply(y - t).sum(1).mean(),
            inputs,
            torch.zeros(20, 2),
        )


def test_kinks_are_no_wrong_second_derivative():
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 1, 8, 8, generator=stream)
    targets = torch.arange(40) % 3
    for seed in range(5):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3),
            torch.nn.GroupNorm(2, 8),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(72, 3),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sharpness(model, torch.nn.functional.cross_entropy, inputs, targets)
