"""Hessian products by differences of gradients, against dense Hessians in float64."""

import copy
import warnings
from itertools import product

import pytest
import torch
from processes import one_of_two
from small_classifier import cubed, draw, net, samples
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, mse_loss

from sharpflow.curvature import SharpnessTracker, hessian_operator, sharpness, top_eigenpairs
from sharpflow.curvature.differences import find_distance
from sharpflow.curvature.graphs import second_derivatives
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.streamed_loss import StreamedLoss

N = 12
INPUTS, LABELS = samples(N)
WORDS = torch.arange(2 * N).reshape(N, 2) * 5 % 7


def attention():
    layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, nn.functional.gelu, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 3))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten(), nn.Linear(27, 3)
    )


SMOOTH = {
    "gelu": (lambda: nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 3)), (5,)),
    "tanh": (lambda: nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)), (5,)),
    "batch norm": (convolutions, (1, 4, 4)),
    "attention": (attention, (3, 4)),
}


def dense(model, loss_fn, inputs, targets=LABELS) -> torch.Tensor:
    """The Hessian in float64 as automatic differentiation writes it out."""
    return ModelLoss(model, loss_fn, inputs, targets, dtype=torch.float64).hessian().to_dense()


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-3), (torch.float64, 1e-8)])
def test_the_accuracy_that_is_stated(name, scale, dtype, accuracy):
    make, shape = SMOOTH[name]
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    inputs = draw(N, *shape).float()
    exact = dense(model, cross_entropy, inputs)
    norm = float(torch.linalg.eigvalsh(exact).abs().max())
    loss = ModelLoss(model, cross_entropy, inputs, LABELS, dtype=dtype, products="differences")
    operator = loss.hessian()
    vectors = torch.cat([torch.linalg.eigh(exact).eigenvectors[:, -1:], draw(len(exact), 4)], 1)
    vectors = vectors / vectors.norm(dim=0)
    errors = ((operator @ vectors.to(dtype)).double() - exact @ vectors).norm(dim=0) / norm
    assert float(errors.max()) < accuracy
    assert float(errors.max()) < 3 * loss.noise < 4 * accuracy  # seen at one vector, on any CPU
    found = top_eigenpairs(operator, tol=4 * loss.noise)
    assert found.converged
    expected = float(torch.linalg.eigvalsh(exact)[-1])
    assert float(found.values[0]) == pytest.approx(expected, rel=accuracy)


def test_a_quadratic_is_exact_at_any_length_of_the_vector():
    x, y = draw(N, 5), draw(N, seed=1)
    H = hessian_operator(
        lambda p: ((x @ p["w"] - y) ** 2).mean(), {"w": draw(5)}, products="differences"
    )
    exact = 2 / N * x.T @ x
    for length in (1e-200, 1e-6, 1.0, 1e6):
        v = length * draw(5, seed=2)
        torch.testing.assert_close(H @ v / length, exact @ v / length, rtol=1e-9, atol=1e-9)
    assert torch.equal(H @ torch.zeros(5).double(), torch.zeros(5).double())
    torch.testing.assert_close(H.to_dense(), exact, rtol=1e-9, atol=1e-9)
    assert H.noise < 1e-9


def test_parameters_under_two_names_in_another_precision_and_of_no_influence():
    w = torch.tensor([0.7, -0.4])

    def loss(p):
        return (p["a"] * p["b"]).sum() ** 2 + 0 * p["c"].sum()

    params = {"a": w, "b": w, "c": torch.ones(1)}
    H = hessian_operator(loss, params, dtype=torch.float64, products="differences")
    exact = hessian_operator(loss, {n: p.double() for n, p in params.items()})  # untied: 5 numbers
    assert H.shape == (3, 3)
    s = w.double().pow(2).sum()
    closed = torch.zeros(3, 3).double()
    closed[:2, :2] = 8 * torch.outer(w.double(), w.double()) + 4 * s * torch.eye(2)
    torch.testing.assert_close(H.to_dense(), closed, rtol=1e-8, atol=1e-8)
    assert exact.shape == (5, 5)


def test_a_loss_without_curvature():
    H = hessian_operator(lambda p: p["w"].sum(), {"w": draw(4)}, products="differences")
    assert float(H.to_dense().abs().max()) < 1e-9
    zero = hessian_operator(lambda p: (0 * p["w"]).sum(), {"w": draw(4)}, products="differences")
    assert not zero.to_dense().any()


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


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


class Bag(nn.Module):
    """The mean of two embeddings a sample, by the kernel or written out."""

    def __init__(self, kernel: bool, **options):
        super().__init__()
        self.bag = nn.EmbeddingBag(7, 6, mode="mean", **options)
        self.out = nn.Linear(6, 3)
        self.kernel = kernel

    def forward(self, words):
        mean = self.bag(words) if self.kernel else self.bag.weight[words].mean(1)
        return self.out(torch.tanh(mean))


class Distances(nn.Module):
    def __init__(self, kernel: bool):
        super().__init__()
        self.centres = nn.Parameter(draw(3, 5, seed=3))
        self.kernel = kernel

    def forward(self, x):
        if self.kernel:
            return -torch.cdist(x, self.centres)
        return -(x[:, None] - self.centres).pow(2).sum(2).sqrt()


class Attention(nn.Module):
    def __init__(self, kernel: bool):
        super().__init__()
        self.into, self.out = nn.Linear(5, 24), nn.Linear(8, 3)
        self.kernel = kernel

    def forward(self, x):
        q, k, v = self.into(x)[None, None].split(8, -1)
        if self.kernel:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return self.out(F.scaled_dot_product_attention(q, k, v)[0, 0])
        weights = torch.softmax(q @ k.mT / 8**0.5, -1)
        return self.out((weights @ v)[0, 0])


def ctc(outputs, targets):
    """CTC of two labels in four steps, by the kernel."""
    logs = outputs.reshape(N, 4, 3).log_softmax(2).transpose(0, 1)
    return F.ctc_loss(logs, targets, torch.full((N,), 4), torch.full((N,), 2), reduction="sum")


def ctc_by_its_definition(outputs, targets):
    """The probability of a labelling is the sum over all paths that collapse to it."""
    logs = outputs.reshape(N, 4, 3).log_softmax(2)
    total = outputs.new_zeros(())
    for path in product(range(3), repeat=4):
        short = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
        paths.setdefault(tuple(short), []).append(path)
    for row, target in zip(logs, targets, strict=True):
        of_paths = [
            sum(row[t, c] for t, c in enumerate(path)) for path in paths[tuple(target.tolist())]
        ]
        total = total - torch.logsumexp(torch.stack(of_paths), 0)
    paths.clear()
    return total


paths: dict[tuple[int, ...], list[tuple[int, ...]]] = {}


def _nets(kernel: bool) -> dict:
    """Nets and losses by kernels without a second derivative, or written out."""
    pairs = torch.tensor([[1, 2], [2, 1]]).repeat(N // 2, 1)
    cube = Apply(Once.apply if kernel else lambda x: x**3)
    return {
        "once_differentiable": (lambda: net(cube), cross_entropy, INPUTS, LABELS),
        "embedding_bag": (lambda: Bag(kernel), cross_entropy, WORDS, LABELS),
        "sparse_bag": (lambda: Bag(kernel, sparse=kernel), cross_entropy, WORDS, LABELS),
        "cdist": (lambda: Distances(kernel), cross_entropy, INPUTS, LABELS),
        "ctc": (
            lambda: nn.Sequential(nn.Linear(5, 12)),
            ctc if kernel else ctc_by_its_definition,
            INPUTS,
            pairs,
        ),
        "attention": (lambda: Attention(kernel), cross_entropy, INPUTS, LABELS),
    }


KERNELS, WRITTEN_OUT = _nets(True), _nets(False)


def made(make) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


@pytest.mark.parametrize("name", KERNELS)
def test_what_has_no_second_derivative_is_measured(name):
    make, loss_fn, inputs, targets = WRITTEN_OUT[name]
    exact = sharpness(made(make), loss_fn, inputs, targets, tol=1e-8)
    make, loss_fn, inputs, targets = KERNELS[name]
    tracker = SharpnessTracker(
        made(make), loss_fn, inputs, targets, k=1, tol=1e-6, products="differences"
    )
    result = tracker.measure()
    assert result.converged
    assert float(result.values[0]) == pytest.approx(exact, rel=1e-7)
    assert tracker.verified["another_distance"] < 1e-6
    assert tracker.verified["loss_values"] < 1e-3
    assert tracker.verified["symmetry"] < 1e-6
    half = sharpness(
        made(make).float(),
        loss_fn,
        inputs.float() if inputs.is_floating_point() else inputs,
        targets,
        tol=1e-2,
        products="differences",
    )
    assert half == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("name", KERNELS)
def test_and_refused_by_autograd_in_a_sentence_that_names_the_option(name):
    make, loss_fn, inputs, targets = KERNELS[name]
    with pytest.raises(ValueError, match=r'no second derivative .* products="differences"'):
        sharpness(made(make), loss_fn, inputs, targets)


def _bag(mode, **options):
    return lambda w: F.embedding_bag(WORDS, w, mode=mode, **options).pow(3).sum()


def test_a_function_that_is_differentiable_once_is_recognised_from_the_graph():
    with pytest.raises(ValueError, match=r"no second derivative .*once_differentiable"):
        hessian_operator(lambda p: Once.apply(p["x"]).pow(2).sum(), {"x": draw(3)})
    found = hessian_operator(
        lambda p: Once.apply(p["x"]).pow(2).sum(), {"x": draw(3)}, products="differences"
    )
    torch.testing.assert_close(found.to_dense(), torch.diag(30 * draw(3) ** 4))


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        return slope * 3 * x**2

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError


class Unwritten(torch.autograd.Function):
    """A cube; the backward of its backward was not written."""

    forward = Once.forward

    @staticmethod
    def backward(ctx, slope):
        return Slope.apply(*ctx.saved_tensors, slope)


def test_an_unwritten_backward_is_named_although_its_error_says_nothing():
    with pytest.raises(ValueError, match=r"raises NotImplementedError in its backward: .*only"):
        sharpness(net(Apply(Unwritten.apply)), cross_entropy, INPUTS, LABELS)
    found = sharpness(
        net(Apply(Unwritten.apply)), cross_entropy, INPUTS, LABELS, products="differences"
    )
    exact = sharpness(net(Apply(lambda x: x**3)), cross_entropy, INPUTS, LABELS)
    assert found == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("error", "said"),
    [(NotImplementedError, "NotImplementedError$"), (RuntimeError("\nat last"), ": at last$")],
)
def test_an_error_of_forward_is_told_whatever_it_says(error, said):
    def fails(_):
        raise error

    with pytest.raises(ValueError, match=said):
        sharpness(net(Apply(fails)), cross_entropy, INPUTS, LABELS)


def _weighted_bag(w):
    weights = w[:2, :1].expand(2, N).T
    return F.embedding_bag(WORDS, w.detach(), per_sample_weights=weights, mode="sum").pow(3).sum()


def _flash(x):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]).sum()


def _twice(function, x):
    with second_derivatives():
        (slope,) = torch.autograd.grad(function(x), x, create_graph=True)
        slope = slope.to_dense() if slope.is_sparse else slope
        return torch.autograd.grad(slope.sum(), x)


@pytest.mark.parametrize(
    "function",
    [
        _bag("mean"),
        _bag("sum"),
        _bag("max"),
        _bag("sum", sparse=True),
        _bag("sum", scale_grad_by_freq=True),
        _weighted_bag,
        lambda x: torch.cdist(x, 2 * x + 1).sum(),
        lambda x: torch.cdist(x, 2 * x + 1, p=1).sum(),
        lambda x: F.pdist(x).sum(),
        lambda x: ctc(x.new_zeros(N, 12) + x.sum() * draw(N, 12), torch.ones(N, 2).long()),
        _flash,
    ],
)
def test_what_this_pytorch_says_of_a_missing_second_derivative_is_recognised(function):
    x = draw(7, 4, seed=4).requires_grad_()
    with pytest.raises(ValueError, match="no second derivative"):
        _twice(function, x)


def test_what_cudnn_says_is_recognised():
    """Words of PyTorch 2.13; only a GPU shows whether they are those of another version."""
    twice = "the derivative for '_cudnn_rnn_backward' is not implemented. Double backwards is not"
    with pytest.raises(ValueError, match=r"no second derivative"), second_derivatives():
        raise RuntimeError(twice)
    evaluated = "cudnn RNN backward can only be called in training mode"
    with pytest.raises(ValueError, match=r"model.train\(\)"), second_derivatives():
        raise RuntimeError(evaluated)


def test_other_errors_of_pytorch_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="not implemented for"), second_derivatives():
        torch.linalg.cholesky(torch.eye(2).half())
    with pytest.raises(RuntimeError, match="shapes"), second_derivatives():
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["hook", "fused"]
)
def test_a_wrong_second_derivative_of_a_kernel_does_not_matter(norm):
    """The fused double backward of `weight_norm` gives a Hessian that is not symmetric."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = made(lambda: nn.Sequential(norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, 3)))
    found = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-6, products="differences")
    params = dict(model.named_parameters())

    def written_out(p):
        (g,) = [t for n, t in p.items() if n.endswith(("weight_g", "original0"))]
        (v,) = [t for n, t in p.items() if n.endswith(("weight_v", "original1"))]
        weight = g * v / v.pow(2).sum(1, keepdim=True).sqrt()
        hidden = torch.tanh(F.linear(INPUTS, weight, p["0.bias"]))
        return cross_entropy(F.linear(hidden, p["2.weight"], p["2.bias"]), LABELS)

    expected = float(top_eigenpairs(hessian_operator(written_out, params), tol=1e-9).values[0])
    assert found == pytest.approx(expected, rel=1e-7)


def wrong(factor):
    """x³, with a derivative of a wrong size."""
    return cubed(lambda x: factor * 3 * x**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wrong_gradient_is_refused(dtype):
    """Differences of it agree with each other, but not with values of the loss."""
    model = net(Apply(wrong(2.0).apply)).to(dtype)
    with pytest.raises(ValueError, match="something that it calls has a wrong gradient"):
        sharpness(model, cross_entropy, 3 * INPUTS.to(dtype), LABELS, products="differences")


def test_values_of_the_loss_tell_where_symmetry_cannot():
    """One weight before the wrong kernel: the Hessian is 1 × 1."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), Apply(wrong(2.0).apply)).double()
    with pytest.raises(ValueError, match="does not agree with values of the loss"):
        sharpness(model, mse_loss, draw(N, 1), draw(N, 1, seed=1), products="differences")


class TestTheFloor:
    """Float32: nothing is chased below the error of a difference."""

    def model(self):
        return net().float()

    def measure(self, **keys):
        return SharpnessTracker(
            self.model(), cross_entropy, INPUTS.float(), LABELS, products="differences", **keys
        )

    def test_a_tolerance_below_it_is_not_reached_and_costs_nothing(self):
        tracker = self.measure(tol=1e-7)
        found = tracker.measure()
        assert 1e-6 < tracker.noise < 1e-3
        assert not found.converged
        assert not found.pair_converged.any()
        assert found.matvecs < 30

    def test_one_above_it_is(self):
        assert self.measure(tol=1e-2).measure().converged

    def test_small_eigenvalues_below_it_are_not_chased(self):
        found = self.measure(tol=1e-3, k=8).measure()
        assert found.matvecs <= 50 + 10 * 8

    def test_the_warning_says_why(self):
        with pytest.warns(RuntimeWarning, match=r"Differences of gradients have an error of"):
            sharpness(
                self.model(),
                cross_entropy,
                INPUTS.float(),
                LABELS,
                tol=1e-7,
                products="differences",
            )

    def test_products_of_autograd_have_none(self):
        tracker = SharpnessTracker(net(), cross_entropy, INPUTS, LABELS)
        tracker.measure()
        assert tracker.noise == 0.0

    def test_float64_copies_of_a_float32_model_are_far_above_it(self):
        model = self.model()
        exact = torch.linalg.eigvalsh(dense(model, cross_entropy, INPUTS.float()))[-1].item()
        found = sharpness(
            model,
            cross_entropy,
            INPUTS.float(),
            LABELS,
            tol=1e-7,
            dtype=torch.float64,
            products="differences",
        )
        assert found == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh])
def test_between_kinks_the_hessian_is_that_of_autograd(activation):
    model = net(activation=activation)
    exact = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-8)
    found = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-6, products="differences")
    assert found == pytest.approx(exact, rel=1e-7)


def test_in_the_metric_of_an_optimiser():
    model = net()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(3):
        cross_entropy(model(INPUTS), LABELS).backward()
        optimiser.step()
    keys = {"tol": 1e-6, "optimiser": optimiser}
    exact = sharpness(model, cross_entropy, INPUTS, LABELS, **keys)
    found = sharpness(model, cross_entropy, INPUTS, LABELS, **keys, products="differences")
    assert found == pytest.approx(exact, rel=1e-6)


def pairs(size=5):
    return list(zip(INPUTS.split(size), LABELS.split(size), strict=True))


def loss_of_pair(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


class TestBatches:
    def test_and_parts_of_the_parameters(self):
        for only in (None, "0.*"):
            keys = {"tol": 1e-6, "only": only, "products": "differences"}
            exact = sharpness(net(), cross_entropy, INPUTS, LABELS, tol=1e-9, only=only)
            streamed = sharpness(net(), loss_of_pair, pairs(), **keys)
            micro = sharpness(net(), cross_entropy, INPUTS, LABELS, micro_batch=5, **keys)
            assert streamed == pytest.approx(exact, rel=1e-7)
            assert micro == pytest.approx(exact, rel=1e-7)

    def test_a_block_of_vectors_reads_the_data_once(self):
        read = []

        class Data(list):
            def __iter__(self):
                read.append(1)
                return super().__iter__()

        H = StreamedLoss(net(), loss_of_pair, Data(pairs()), products="differences").hessian()
        read.clear()
        block = H @ draw(H.shape[0], 3)
        assert len(read) == 1
        torch.testing.assert_close(H @ draw(H.shape[0], 3)[:, 1], block[:, 1])

    def test_the_one_that_is_not_finite_is_named(self):
        batches = pairs()
        tracker = SharpnessTracker(net(), loss_of_pair, batches, products="differences")
        batches[1][0].data = batches[1][0].clone().fill_(float("nan"))
        with pytest.raises(ValueError, match=r"^batch 2: "):
            tracker.measure()

    def test_over_processes(self, tmp_path):
        torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
        exact = sharpness(net(), cross_entropy, INPUTS, LABELS, tol=1e-9)
        for rank in (0, 1):
            found = torch.load(tmp_path / f"{rank}.pt")
            assert float(found) == pytest.approx(exact, rel=1e-7)


def process(rank: int, folder: str) -> None:
    """One of two processes: its batches are every other one."""
    with one_of_two(rank, folder):
        keys = {"distributed": True, "products": "differences", "tol": 1e-6}
        tracker = SharpnessTracker(net(), loss_of_pair, pairs()[rank::2], **keys)
        torch.save(tracker.measure().values[0], f"{folder}/{rank}.pt")


def test_a_training_is_followed_and_the_distance_found_anew():
    model = net()
    tracker = SharpnessTracker(
        model, cross_entropy, INPUTS, LABELS, k=1, tol=1e-6, products="differences"
    )
    tracker.measure()
    first = tracker._general.distance
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(4):
        optimiser.zero_grad()
        cross_entropy(model(INPUTS), LABELS).backward()
        optimiser.step()
        if step == 3:
            assert tracker._general.distance is first
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(2)
        exact = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-9)
        assert float(tracker.measure().values[0]) == pytest.approx(exact, rel=1e-6)
    assert tracker._general.distance is not first


def test_nothing_changes():
    model = net(nn.BatchNorm1d(6))
    cross_entropy(model(INPUTS), LABELS).backward()
    state = copy.deepcopy(model.state_dict())
    slopes = [p.grad.clone() for p in model.parameters()]
    drawn = torch.random.get_rng_state()
    with torch.inference_mode():
        found = sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-6, products="differences")
    assert found == pytest.approx(
        sharpness(model, cross_entropy, INPUTS, LABELS, tol=1e-8), rel=1e-6
    )
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    for slope, parameter in zip(slopes, model.parameters(), strict=True):
        assert parameter.requires_grad
        assert torch.equal(parameter.grad, slope)


def test_bad_input():
    with pytest.raises(ValueError, match="products is 'forward'; it must be 'autograd' or"):
        sharpness(net(), cross_entropy, INPUTS, LABELS, products="forward")
    model = net()
    params = dict(model.named_parameters())
    with pytest.raises(ValueError, match="itself and not the tensor"):
        hessian_operator(
            lambda p: cross_entropy(model(INPUTS), LABELS), params, products="differences"
        )
    with pytest.raises(ValueError, match="has no graph"):
        hessian_operator(lambda p: torch.tensor(1.0), {"a": torch.ones(2)}, products="differences")
    with pytest.raises(ValueError, match="NaN or infinity"):
        hessian_operator(
            lambda p: p["a"].log().sum(), {"a": -torch.ones(1)}, products="differences"
        )


def test_a_gradient_that_is_finite_here_alone_is_refused():
    def slope(direction, step):
        return direction.double() if step == 0 else direction.double() * float("nan")

    with pytest.raises(ValueError, match="infinite at all distances"):
        find_distance(slope, 3, 1.0, torch.float64, torch.device("cpu"))


def test_many_kinks_are_refused_in_float32_and_measured_between_in_float64():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2),
        nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10),
    )  # fmt: skip
    inputs, labels = torch.randn(128, 3, 16, 16), torch.randint(0, 10, (128,))
    data = (model, cross_entropy, inputs, labels)
    exact = sharpness(*data, tol=1e-4)
    with pytest.raises(ValueError, match=r"kinks .*dtype=torch.float64"):
        sharpness(*data, tol=1e-2, products="differences")
    found = sharpness(*data, tol=1e-4, dtype=torch.float64, products="differences")
    assert found == pytest.approx(exact, rel=1e-3)


def test_a_gradient_that_jumps_at_any_distance_is_refused():
    def slope(direction, step):
        stream = torch.Generator().manual_seed(int(abs(step) * 1e12) * 2 + (step > 0))
        return torch.randn(3, dtype=torch.float64, generator=stream)

    with pytest.raises(ValueError, match="settle at no distance"):
        find_distance(slope, 3, 1.0, torch.float64, torch.device("cpu"))
