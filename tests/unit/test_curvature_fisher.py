"""Every operator of a model against dense ones from per-sample gradients and Jacobians."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from processes import one_of_two
from small_classifier import draw, net, samples
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature import (
    LinearOperator,
    flatten_parameters,
    gauss_newton_operator,
    sharpness,
    spectral_density,
    top_eigenpairs,
    trace,
)
from sharpflow.curvature.linear_operator import OperatorProduct
from sharpflow.curvature.model_curvature import ModelCurvature

N = 11
INPUTS, LABELS = samples(N)
VALUES = draw(N, 3, seed=1)
BITS = (draw(N, 3, seed=2) > 0).double()
CASES = {
    "cross-entropy": (F.cross_entropy, LABELS),
    "squared error": (nn.MSELoss(), VALUES),
    "bits": (nn.BCEWithLogitsLoss(), BITS),
    "own": (lambda f, y: (f - y).abs().pow(3).sum(1).mean(), VALUES),
}
KINDS = ("hessian", "gauss_newton", "empirical_fisher", "noise_covariance", "neural_tangent_kernel")
case = pytest.mark.parametrize(("loss", "targets"), CASES.values(), ids=CASES)


class Dense:
    """Float64 references of a net, from gradients of its samples and Jacobians of its outputs."""

    def __init__(self, model, loss, targets, inputs=INPUTS, only=""):
        named = dict(model.named_parameters())
        self.params = {n: p.detach() for n, p in named.items() if n.startswith(only)}
        self.model, self.loss, self.inputs, self.targets = model, loss, inputs, targets

        def outputs(p):
            return functional_call(model, p, (inputs,))

        def one(p, x, y):
            return loss(functional_call(model, p, (x[None],)), y[None])

        self.outputs = outputs(self.params).detach()
        self.jacobian = self.flat(jacrev(outputs)(self.params), self.outputs.numel())
        each = vmap(grad(one), (None, 0, 0))(self.params, inputs, targets)
        self.gradients = self.flat(each, len(inputs))

    def flat(self, parts, rows):
        return torch.cat([part.detach().reshape(rows, -1) for part in parts.values()], 1)

    def hessian(self):
        def value(p):
            return self.loss(functional_call(self.model, p, (self.inputs,)), self.targets)

        blocks = hessian(value)(self.params)
        sizes = {name: p.numel() for name, p in self.params.items()}
        return torch.cat(
            [torch.cat([blocks[a][b].reshape(sizes[a], sizes[b]) for b in sizes], 1) for a in sizes]
        )

    def gauss_newton(self):
        s = hessian(lambda f: self.loss(f, self.targets))(self.outputs)
        count = self.outputs.numel()
        return self.jacobian.T @ s.reshape(count, count) @ self.jacobian

    def empirical_fisher(self):
        return self.gradients.T @ self.gradients / len(self.gradients)

    def noise_covariance(self):
        return torch.cov(self.gradients.T, correction=0)

    def neural_tangent_kernel(self):
        return self.jacobian @ self.jacobian.T


def pairs(targets, size=4, inputs=INPUTS):
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def dicts(targets):
    return [{"x": x, "note": "kept", "y": (y, None)} for x, y in pairs(targets)]


def forms(kind, model, loss, targets, **keys):
    """The forms of the data: one batch, micro-batches, pairs or dicts of unequal length.

    From a loss of dicts no targets are drawn.
    """
    yield ModelCurvature(model, loss, INPUTS, targets, **keys)
    yield ModelCurvature(model, loss, INPUTS, targets, micro_batch=3, **keys)
    if kind != "monte_carlo_fisher":
        yield ModelCurvature(
            model,
            lambda f, batch: loss(f, batch["y"][0]),
            dicts(targets),
            forward=lambda m, batch: m(batch["x"]),
            **keys,
        )
    if loss is not CASES["own"][0]:
        loader = DataLoader(TensorDataset(INPUTS, targets), batch_size=5)
        yield ModelCurvature(model, loss, loader, **keys)


@case
@pytest.mark.parametrize("kind", KINDS)
def test_each_is_the_dense_one_whole_and_in_unequal_batches(kind, loss, targets):
    model = net()
    expected = getattr(Dense(model, loss, targets), kind)()
    for curvature in forms(kind, model, loss, targets):
        operator = getattr(curvature, kind)()
        assert operator.shape == expected.shape
        torch.testing.assert_close(operator.to_dense(), expected, rtol=1e-9, atol=1e-11)
        block = draw(len(expected), 2, seed=5)
        torch.testing.assert_close(operator @ block, expected @ block, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(operator @ block[:, 1], expected @ block[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_only_some_parameters(kind):
    model = net()
    expected = getattr(Dense(model, F.cross_entropy, LABELS, only="2."), kind)()
    for curvature in forms(kind, model, F.cross_entropy, LABELS, only="2.*"):
        torch.testing.assert_close(getattr(curvature, kind)().to_dense(), expected)


@pytest.mark.parametrize("kind", [*KINDS, "monte_carlo_fisher"])
def test_they_are_taken_at_the_present_parameters_and_stay_there(kind):
    model = net()
    for curvature in forms(kind, model, F.cross_entropy, LABELS):
        operator = getattr(curvature, kind)()
        before = operator.to_dense()
        with torch.no_grad():
            model[0].weight += 0.3
        torch.testing.assert_close(operator.to_dense(), before)
        now = getattr(curvature, kind)().to_dense()
        assert (now - before).norm() > 0.05 * before.norm()
        if kind != "monte_carlo_fisher":
            torch.testing.assert_close(now, getattr(Dense(model, F.cross_entropy, LABELS), kind)())


def test_a_frozen_parameter_is_left_out():
    model = net()
    curvature = ModelCurvature(model, F.cross_entropy, INPUTS, LABELS)
    model[0].requires_grad_(False)
    expected = Dense(model, F.cross_entropy, LABELS, only="2.").empirical_fisher()
    torch.testing.assert_close(curvature.empirical_fisher().to_dense(), expected)


def test_sums_over_samples():
    """Gradients of samples are what each adds; the matrices stay means over samples."""
    model, loss = net(), nn.CrossEntropyLoss(reduction="sum")
    dense = Dense(model, loss, LABELS)
    mean = Dense(model, F.cross_entropy, LABELS)
    for keys in ({}, {"micro_batch": 4}):
        curvature = ModelCurvature(model, loss, INPUTS, LABELS, **keys)
        fisher, newton = curvature.empirical_fisher(), curvature.gauss_newton()
        torch.testing.assert_close(fisher.to_dense(), mean.empirical_fisher())
        torch.testing.assert_close(newton.to_dense(), dense.gauss_newton())
        drawn = curvature.monte_carlo_fisher(generator=torch.Generator().manual_seed(3))
        means = ModelCurvature(model, F.cross_entropy, INPUTS, LABELS, **keys)
        same = means.monte_carlo_fisher(generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(drawn.to_dense(), same.to_dense())


def test_the_noise_of_a_batch_is_the_covariance_over_its_size():
    """All batches of two samples, drawn with replacement, against ½ of the covariance."""
    model = net()
    dense = Dense(model, F.cross_entropy, LABELS)
    g = dense.gradients
    batches = ((g[:, None] + g[None]) / 2).reshape(N * N, -1)
    sigma = ModelCurvature(model, F.cross_entropy, INPUTS, LABELS).noise_covariance()
    torch.testing.assert_close((sigma * 0.5).to_dense(), torch.cov(batches.T, correction=0))


def test_the_noise_does_not_drown_in_the_mean():
    """A large common gradient leaves the covariance alone, to rounding of single precision."""
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(0.1)
    targets = 1e3 + VALUES
    exact = Dense(model, F.mse_loss, targets).noise_covariance()
    model.float()
    for keys in ({}, {"micro_batch": 4}):
        found = ModelCurvature(model, F.mse_loss, INPUTS.float(), targets.float(), **keys)
        error = found.noise_covariance().to_dense().double() - exact
        assert error.norm() < 1e-4 * exact.norm()


def test_the_kernel_and_the_gauss_newton_matrix_share_eigenvalues():
    curvature = ModelCurvature(net(), F.mse_loss, INPUTS, VALUES)
    kernel = top_eigenpairs(curvature.neural_tangent_kernel(), 3, 1e-8).values
    newton = top_eigenpairs(curvature.gauss_newton(), 3, 1e-8).values
    torch.testing.assert_close(newton, 2 / VALUES.numel() * kernel)


def positions(f, y, **keys):
    return F.cross_entropy(f, y, **keys)


SEQUENCES = draw(4, 3, 5, seed=6)
WORDS = torch.arange(12).reshape(4, 3) % 3


class Sequence(nn.Module):
    """Outputs (n, classes, positions)."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return self.inner(x).movedim(-1, 1)


@pytest.mark.parametrize("name", ["cross-entropy", "squared error", "bits", "words", "ignored"])
def test_the_mean_over_draws_is_the_gauss_newton_matrix(name):
    """Within four standard errors in nearly all entries, which are a tenth of the matrix."""
    if name in CASES:
        model, inputs, (loss, targets) = net(), INPUTS, CASES[name]
    else:
        model, inputs, loss, targets = Sequence(), SEQUENCES, nn.CrossEntropyLoss(), WORDS.clone()
        if name == "ignored":
            targets[:, -1] = -100
    curvature = ModelCurvature(model, loss, inputs, targets)
    newton = curvature.gauss_newton()
    vectors = draw(newton.shape[0], 6, seed=7)
    expected = newton @ vectors
    stream = torch.Generator().manual_seed(1)
    each = torch.stack([curvature.monte_carlo_fisher(40, stream) @ vectors for _ in range(40)])
    mean, error = each.mean(0), each.std(0) / 40**0.5
    beyond = (mean - expected).abs() > 4 * error + 1e-9 * expected.abs().max()
    assert beyond.double().mean() < 0.01
    assert error.norm() < 0.1 * expected.norm()


def test_drawn_targets_make_one_matrix_that_the_generator_decides():
    model = net()
    for curvature in forms("monte_carlo_fisher", model, F.cross_entropy, LABELS):
        operator = curvature.monte_carlo_fisher(2)
        vector = draw(operator.shape[0], seed=8)
        first = operator @ vector
        torch.testing.assert_close(operator @ vector, first)
        torch.testing.assert_close(curvature.monte_carlo_fisher(2) @ vector, first)
        other = curvature.monte_carlo_fisher(2, torch.Generator().manual_seed(7)) @ vector
        assert (other - first).norm() > 1e-3 * first.norm()
        assert torch.linalg.eigvalsh(operator.to_dense())[0] > -1e-12


def test_drawn_squares_are_those_of_the_stated_variance():
    """σ² = c/2: residuals √(c/2) ξ, of which the gradient is (2/c) Jᵀ residual."""
    model = net()
    dense = Dense(model, F.mse_loss, VALUES)
    noise = torch.randn(1, N, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    residuals = noise[0] * 1.5**0.5
    jacobians = dense.jacobian.reshape(N, 3, -1)
    g = 2 / 3 * torch.einsum("nc,ncp->np", residuals, jacobians)
    drawn = ModelCurvature(model, F.mse_loss, INPUTS, VALUES).monte_carlo_fisher(
        generator=torch.Generator().manual_seed(4)
    )
    torch.testing.assert_close(drawn.to_dense(), g.T @ g / N)


def test_batches_with_weights_of_their_own():
    """The samples of a batch share its weight."""
    model = net()
    dense = Dense(model, F.cross_entropy, LABELS)
    share = torch.cat([torch.full((4,), 1 / 4), torch.full((4,), 2 / 4), torch.full((3,), 3 / 3)])
    share = share.double() / 6
    weights = iter([1, 2, 3] * 9)
    curvature = ModelCurvature(
        model, F.cross_entropy, pairs(LABELS), weight=lambda _: next(weights)
    )
    g = dense.gradients
    fisher = g.T @ (share[:, None] * g)
    torch.testing.assert_close(curvature.empirical_fisher().to_dense(), fisher)
    mean = share @ g
    covariance = fisher - mean[:, None] * mean
    torch.testing.assert_close(curvature.noise_covariance().to_dense(), covariance)


def test_a_penalty_is_part_of_each_sample_and_not_of_the_outputs():
    model = net()

    def penalised(f, y):
        return F.cross_entropy(f, y) + sum(p.pow(2).sum() for p in model.parameters()) / 4

    dense = Dense(model, F.cross_entropy, LABELS)
    g = dense.gradients + flatten_parameters(dense.params) / 2
    for keys in ({}, {"micro_batch": 4}):
        curvature = ModelCurvature(model, penalised, INPUTS, LABELS, **keys)
        torch.testing.assert_close(curvature.empirical_fisher().to_dense(), g.T @ g / N)
        noise = curvature.noise_covariance().to_dense()
        torch.testing.assert_close(noise, dense.noise_covariance())
        with pytest.raises(ValueError, match="the loss reads the model's parameters itself"):
            curvature.gauss_newton()


def test_a_penalty_in_the_output_curvature_of_a_function_is_refused():
    model = net()
    params = dict(model.named_parameters())
    with pytest.raises(ValueError, match="the loss reads the model's parameters itself"):
        gauss_newton_operator(
            lambda p: functional_call(model, p, (INPUTS,)),
            params,
            lambda f: F.cross_entropy(f, LABELS) + params["0.weight"].pow(2).sum(),
        )


def test_a_loss_that_only_takes_one_sample_at_a_time():
    """Python branches on values, for which vmap has no rule."""

    def branching(f, y):
        return sum(row.pow(2).sum() if row[0] > 0 else row.exp().sum() for row in f - y) / len(f)

    model = net()
    signs = [float((f - y)[0]) > 0 for f, y in zip(model(INPUTS), VALUES, strict=True)]
    assert 0 < sum(signs) < N
    positive = torch.tensor(signs).double()

    def masked(f, y):
        mask = ((f - y)[:, :1].detach() > 0).double()
        return (mask * (f - y).pow(2) + (1 - mask) * (f - y).exp()).sum(1).mean()

    expected = Dense(model, masked, VALUES)
    assert positive.mean() > 0
    for keys in ({}, {"micro_batch": 4}):
        found = ModelCurvature(model, branching, INPUTS, VALUES, **keys)
        torch.testing.assert_close(found.empirical_fisher().to_dense(), expected.empirical_fisher())


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh())

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_modules(kind):
    model = net(Checkpointed()).eval()
    plain = net(Checkpointed()).eval()
    plain[2].forward = plain[2].inner.forward
    expected = getattr(Dense(plain, F.cross_entropy, LABELS), kind)()
    vectors = draw(len(expected), 2, seed=5)
    for curvature in forms(kind, model, F.cross_entropy, LABELS):
        torch.testing.assert_close(getattr(curvature, kind)() @ vectors, expected @ vectors)


def test_batch_norm_in_training_mode_has_outputs_but_no_samples():
    model = net(nn.BatchNorm1d(6))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    curvature = ModelCurvature(model, F.cross_entropy, INPUTS, LABELS)
    params = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(p):
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        return functional_call(model, {**buffers, **p}, (INPUTS,)).reshape(-1)

    parts = torch.autograd.functional.jacobian(
        lambda *p: outputs(dict(zip(params, p, strict=True))), tuple(params.values())
    )
    jacobian = torch.cat([part.reshape(3 * N, -1) for part in parts], 1)
    kernel = curvature.neural_tangent_kernel().to_dense()
    torch.testing.assert_close(kernel, jacobian @ jacobian.T)
    s = hessian(lambda f: F.cross_entropy(f, LABELS))(outputs(params).reshape(N, 3).detach())
    newton = jacobian.T @ s.reshape(3 * N, 3 * N) @ jacobian
    torch.testing.assert_close(curvature.gauss_newton().to_dense(), newton)
    for kind in ("empirical_fisher", "noise_covariance", "monte_carlo_fisher"):
        with pytest.raises(ValueError, match="depends on other rows"):
            getattr(curvature, kind)()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


class Mixing(nn.Module):
    """Adds the activation of one row to another."""

    def __init__(self, source, place):
        super().__init__()
        self.source, self.place = source, place

    def forward(self, x):
        if len(x) <= max(self.source, self.place):
            return x
        row = torch.zeros_like(x)
        row[self.place] = x[self.source]
        return x + row


@pytest.mark.parametrize(("source", "place"), [(0, 10), (10, 0), (4, 5), (7, 3)])
def test_one_row_that_enters_another_is_found(source, place):
    curvature = ModelCurvature(net(Mixing(source, place)), F.cross_entropy, INPUTS, LABELS)
    with pytest.raises(ValueError, match="depends on other rows"):
        curvature.empirical_fisher()


def refused(loss, targets=LABELS, kind="empirical_fisher", model=None, inputs=INPUTS, **keys):
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(ModelCurvature(model or net(), loss, inputs, targets, **keys), kind)()
    message = str(caught.value)
    assert "\n" not in message
    return message


def hidden(f, y):
    """The value of the cross-entropy, and another gradient, which depends on the batch."""
    statistic = f.mean(0).square().sum()
    return F.cross_entropy(f, y) + statistic - statistic.detach()


IGNORED = torch.where(torch.arange(N) == 3, -100, LABELS)
WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1]).double())


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (WEIGHTED, LABELS),
        (F.cross_entropy, IGNORED),
        (lambda f, y: F.cross_entropy((f - f.mean(0)) / f.std(0), y), LABELS),
        (lambda f, y: F.cross_entropy(f, y) ** 2, LABELS),
        (lambda f, y: torch.logsumexp(F.cross_entropy(f, y, reduction="none"), 0), LABELS),
        (hidden, LABELS),
    ],
    ids=["class weights", "ignored", "statistics", "squared", "logsumexp", "gradient alone"],
)
@pytest.mark.parametrize("kind", ["empirical_fisher", "noise_covariance"])
def test_a_loss_that_is_not_made_of_its_samples_is_refused(loss, targets, kind):
    assert "mean over samples of the loss of one" in refused(loss, targets, kind)
    batches = [pairs(targets)[2], *pairs(targets)[:2]]  # the ignored target in the second
    assert "mean over samples of the loss of one" in refused(
        lambda f, batch: loss(f, batch[1]), None, kind, None, batches, forward=lambda m, b: m(b[0])
    )


def test_of_batches_a_sum_is_not_the_mean_that_is_streamed():
    loss = nn.CrossEntropyLoss(reduction="sum")
    assert "mean over samples" in refused(loss, None, inputs=pairs(LABELS))


def test_a_squared_error_that_broadcasts_is_refused():
    model = nn.Sequential(nn.Linear(5, 1)).double()
    assert "the targets have the shape" in refused(F.mse_loss, VALUES[:, 0], model=model)


@pytest.mark.parametrize(
    ("loss", "targets", "words"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, "smoothed labels"),
        (nn.CrossEntropyLoss(weight=torch.ones(3).double()), LABELS, "a loss with weights"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3).double()), BITS, "a loss with weights"),
        (F.cross_entropy, VALUES.softmax(1), "class indices only"),
        (F.huber_loss, VALUES, "predictive distribution of huber_loss is not known"),
        (nn.SmoothL1Loss(), VALUES, "predictive distribution of SmoothL1Loss is not known"),
        (CASES["own"][0], VALUES, "is not known"),
    ],
)
def test_targets_are_drawn_from_known_distributions_only(loss, targets, words):
    assert words in refused(loss, targets, "monte_carlo_fisher")


def test_forms_of_the_data_that_do_not_fit_are_refused():
    by_model = partial(lambda m, batch: F.cross_entropy(m(batch[0]), batch[1]))
    curvature = ModelCurvature(net(), by_model, pairs(LABELS))
    expected = Dense(net(), F.cross_entropy, LABELS).hessian()
    torch.testing.assert_close(curvature.hessian().to_dense(), expected)
    for kind in (*KINDS[1:], "monte_carlo_fisher"):
        with pytest.raises(ValueError, match=r"give forward\(model, batch\)"):
            getattr(curvature, kind)()
    assert "micro_batch is for" in refused(by_model, None, inputs=pairs(LABELS), micro_batch=2)
    assert "are for batches" in refused(F.cross_entropy, forward=lambda m, x: m(x))
    assert "are for batches" in refused(F.cross_entropy, weight=len)
    assert "pairs (inputs, targets)" in refused(F.cross_entropy, None, inputs=dicts(LABELS))
    assert "does the loader shuffle" in refused(
        F.cross_entropy,
        None,
        inputs=DataLoader(TensorDataset(INPUTS, LABELS), batch_size=4, shuffle=True),
    )


class Augmented(torch.utils.data.Dataset):
    """Adds noise of the global generator."""

    def __len__(self):
        return N

    def __getitem__(self, place):
        return INPUTS[place] + torch.randn(5).double(), LABELS[place]


def test_a_loader_that_augments_is_refused_and_spends_no_random_number():
    stream = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(INPUTS, LABELS), batch_size=4, generator=stream)
    states = torch.get_rng_state(), stream.get_state()
    operator = ModelCurvature(net(), F.cross_entropy, loader).empirical_fisher()
    assert operator.to_dense().isfinite().all()
    assert "or augment?" in refused(
        F.cross_entropy, None, inputs=DataLoader(Augmented(), batch_size=4)
    )
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(stream.get_state(), states[1])


def test_outputs_that_are_no_tensor_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return self.inner(x), x

    def loss(outputs, y):
        return F.cross_entropy(outputs[0], y)

    assert "the outputs are a tuple" in refused(loss, kind="gauss_newton", model=Two())
    assert "the outputs are a tuple" in refused(loss, kind="neural_tangent_kernel", model=Two())
    assert "a tensor with a row a sample" in refused(loss, model=Two())
    curvature = ModelCurvature(
        Two(),
        lambda f, batch: F.cross_entropy(f, batch[1]),
        pairs(LABELS),
        forward=lambda m, batch: m(batch[0])[0],
    )
    expected = Dense(net(), F.cross_entropy, LABELS).gauss_newton()
    torch.testing.assert_close(curvature.gauss_newton().to_dense(), expected)


@pytest.mark.parametrize("kind", [*KINDS, "monte_carlo_fisher"])
def test_random_losses_are_refused_when_the_operator_is_made(kind):
    model = net(nn.Dropout(0.5)).eval()
    curvature = ModelCurvature(model, F.cross_entropy, INPUTS, LABELS)
    getattr(curvature, kind)()
    model.train()
    with pytest.raises(ValueError, match="random function"):
        getattr(curvature, kind)()


class Detached(torch.autograd.Function):
    """x², whose derivative is a constant to autograd, of the slope too."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * slope.detach()


class Once(Detached):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 2 * x * slope


class Kernel(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize("function", [Detached, Once])
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("keys", [{}, {"micro_batch": 4}])
def test_kernels_without_a_product_with_the_jacobian_are_refused(function, kind, keys):
    message = refused(F.cross_entropy, kind=kind, model=net(Kernel(function)), **keys)
    assert "second derivative" in message


def test_numbers_that_are_not_finite_are_named_by_batch():
    batches = pairs(VALUES, inputs=INPUTS.clone())
    curvature = ModelCurvature(net(), F.mse_loss, batches)
    operator = curvature.gauss_newton()
    batches[1][0].mul_(float("inf"))
    with pytest.raises(ValueError, match="batch 2: "):
        operator @ torch.ones(operator.shape[0], dtype=torch.float64)
    for kind in KINDS[1:]:
        if kind != "neural_tangent_kernel":
            with pytest.raises(ValueError, match="batch 2: "):
                getattr(curvature, kind)() @ torch.ones(57, dtype=torch.float64)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", [*KINDS, "monte_carlo_fisher"])
def test_nothing_changes_and_autograd_may_be_off(kind, around):
    model = net(nn.BatchNorm1d(6)).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    for curvature in forms(kind, model, nn.CrossEntropyLoss(), LABELS):
        plain = getattr(curvature, kind)()
        vectors = draw(plain.shape[0], 2, seed=5)
        with around():
            operator = getattr(curvature, kind)()
            found = operator @ vectors
        torch.testing.assert_close(found, plain @ vectors)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert repr(np.random.get_state()) == states[2]  # noqa: NPY002
    assert not any(m.training or m._forward_hooks or m._backward_hooks for m in model.modules())


def test_solvers_and_sums_work_on_all_of_them():
    curvature = ModelCurvature(net(), F.cross_entropy, pairs(LABELS))
    dense = Dense(net(), F.cross_entropy, LABELS)
    fisher, noise = curvature.empirical_fisher(), curvature.noise_covariance()
    mean = dense.gradients.mean(0)
    total = trace(fisher - noise)
    assert total.value == pytest.approx(float(mean @ mean))
    mixed = curvature.hessian() + 0.5 * fisher.scaled(torch.full((57,), 2.0, dtype=torch.float64))
    expected = torch.linalg.eigvalsh(dense.hessian() + 2 * dense.empirical_fisher())[-1]
    assert float(top_eigenpairs(mixed, tol=1e-8).values) == pytest.approx(float(expected))
    assert spectral_density(noise, 3, 20) is not None
    top = sharpness(net(), F.cross_entropy, INPUTS, LABELS, tol=1e-8)
    assert float(top_eigenpairs(curvature.hessian(), tol=1e-8).values) == pytest.approx(top)


class TestProducts:
    a, b, c = (LinearOperator.from_dense(m + m.T) for m in draw(3, 4, 4))
    dense = tuple(operator.to_dense() for operator in (a, b, c))

    def test_are_those_of_the_matrices(self):
        a, b, c = self.dense
        vectors = draw(4, 2, seed=3)
        product = self.a @ self.b
        assert isinstance(product, OperatorProduct)
        assert (product.shape, product.dtype) == ((4, 4), torch.float64)
        assert product.device == self.a.device
        torch.testing.assert_close(product @ vectors, a @ b @ vectors)
        torch.testing.assert_close(product @ vectors[:, 0], a @ b @ vectors[:, 0])
        assert product.products == 3
        torch.testing.assert_close(self.a @ self.b @ self.c @ vectors, a @ b @ c @ vectors)
        torch.testing.assert_close(self.a @ (self.b @ self.c) @ vectors, a @ b @ c @ vectors)

    @pytest.mark.parametrize("solver", [top_eigenpairs, trace, spectral_density])
    def test_are_not_symmetric(self, solver):
        with pytest.raises(TypeError, match="not symmetric in general"):
            solver(self.a @ self.b)

    def test_of_different_spaces_are_refused(self):
        with pytest.raises(ValueError, match="cannot be multiplied"):
            self.a @ LinearOperator.from_dense(torch.eye(3).double())
        with pytest.raises(ValueError, match="cannot be multiplied"):
            self.a @ LinearOperator.from_dense(torch.eye(4))
        with pytest.raises(ValueError, match="vectors has shape"):
            (self.a @ self.b) @ torch.ones(3).double()


def process(rank: int, folder: str) -> None:
    """One of two processes: its batches are every other one."""
    with one_of_two(rank, folder):
        said = {}
        mine = pairs(LABELS)[rank::2]
        curvature = ModelCurvature(net(), F.cross_entropy, mine, distributed=True)
        for kind in (*KINDS, "monte_carlo_fisher"):
            try:
                said[kind] = getattr(curvature, kind)().to_dense()
            except ValueError as error:
                said[kind] = str(error)
        if rank == 1:
            mine[0][1][0] = -100
        for kind in ("empirical_fisher", "monte_carlo_fisher"):
            try:
                getattr(curvature, kind)()
            except ValueError as error:
                said[f"fault of {kind}"] = str(error)
        torch.save(said, f"{folder}/{rank}.pt")


def test_two_processes_give_what_one_does(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    dense = Dense(net(), F.cross_entropy, LABELS)
    for kind in KINDS[:4]:
        torch.testing.assert_close(first[kind], getattr(dense, kind)())
        assert torch.equal(first[kind], second[kind])
    assert "no process has them" in first["neural_tangent_kernel"]
    assert torch.equal(first["monte_carlo_fisher"], second["monte_carlo_fisher"])
    for kind in ("empirical_fisher", "monte_carlo_fisher"):
        assert "another process could not" in first[f"fault of {kind}"]
        assert "mean over samples" in second[f"fault of {kind}"]
