"""Closed forms of dense networks against dense float64 derivatives and finite differences."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.curvature import (
    LinearOperator,
    gauss_newton_operator,
    hessian_operator,
    top_eigenpairs,
)
from sharpflow.curvature.dense_curvature import DenseCurvature, gauss_newton_matrix
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.reference import dense_hessian, dense_jacobian
from sharpflow.data.compression import compress
from sharpflow.models.activations import ACTIVATIONS


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def make(widths, activation, samples, biased, seed=0):
    """A DenseCurvature, the dict of its parameters and the same network for autograd."""
    pairs = list(itertools.pairwise(widths))
    weights = [draw(a, b, seed=seed + i) / math.sqrt(a) for i, (a, b) in enumerate(pairs)]
    biases = [draw(b, seed=seed + 50 + i) for i, (_, b) in enumerate(pairs)] if biased else None
    inputs = draw(samples, widths[0], seed=seed + 99)
    params = {}
    for index, weight in enumerate(weights):
        params[f"w{index}"] = weight
        if biased:
            params[f"b{index}"] = biases[index]

    def outputs(p):
        h = inputs
        for index in range(len(weights)):
            h = h @ p[f"w{index}"]
            if biased:
                h = h + p[f"b{index}"]
            if index < len(weights) - 1:
                h = ACTIVATIONS[activation].function(h)
        return h.squeeze(1) if widths[-1] == 1 else h

    return DenseCurvature(weights, activation, inputs, biases), params, outputs


NETS = pytest.mark.parametrize(
    ("widths", "biased"),
    [((5, 4, 6, 1), False), ((5, 4, 6, 1), True), ((3, 4, 4, 3, 2), True), ((4, 3), False)],
    ids=["scalar", "scalar-biased", "vector-biased", "one-layer"],
)


@NETS
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_gram_matrix_and_hessian_equal_the_dense_ones(widths, biased, activation):
    net, params, outputs = make(widths, activation, 7, biased)
    torch.testing.assert_close(net.outputs, outputs(params))
    jacobian = dense_jacobian(outputs, params)
    torch.testing.assert_close(net.gram_matrix(), jacobian @ jacobian.T)
    # l(F) = cosh(F / 5): slope and curvature both vary over the outputs.
    hessian = dense_hessian(lambda p: torch.cosh(outputs(p) / 5).sum(), params)
    f = net.outputs
    operator = net.hessian_operator(torch.sinh(f / 5) / 5, torch.cosh(f / 5) / 25)
    assert operator.shape == hessian.shape == (net.size, net.size)
    torch.testing.assert_close(operator.to_dense(), hessian)
    vector = draw(net.size, seed=3)
    torch.testing.assert_close(operator @ vector, hessian @ vector)
    assert operator.products == net.size + 1


@NETS
def test_gram_of_a_subset_of_layers(widths, biased):
    net, params, outputs = make(widths, "tanh", 7, biased)
    jacobian = dense_jacobian(outputs, params)
    sizes = [w.numel() + (w.shape[1] if biased else 0) for w in net.weights]
    parts = [block @ block.T for block in jacobian.split(sizes, dim=1)]
    for layer in range(len(sizes)):
        torch.testing.assert_close(net.gram_matrix([layer]), parts[layer])
    torch.testing.assert_close(net.gram_matrix([-1]), parts[-1])
    torch.testing.assert_close(net.gram_matrix([0, -1]), parts[0] + (len(sizes) > 1) * parts[-1])
    assert torch.equal(net.gram_matrix([]), torch.zeros_like(parts[0]))
    with pytest.raises(ValueError, match="layers is"):
        net.gram_matrix([len(sizes)])


def test_output_layer_part_is_the_gram_of_the_last_features():
    net, _, _ = make((5, 4, 6, 1), "elu", 7, False)
    torch.testing.assert_close(net.gram_matrix([-1]), net.features[-1] @ net.features[-1].T)


@pytest.mark.parametrize("widths", [(6, 5, 4, 1), (6, 5, 3)])
def test_gram_made_in_blocks_over_many_samples(widths):
    net, params, outputs = make(widths, "softplus", 301, True)
    jacobian = dense_jacobian(outputs, params)
    gram = net.gram_matrix()
    torch.testing.assert_close(gram, jacobian @ jacobian.T)
    assert torch.equal(gram, gram.T)
    x = net.features[0]
    reused = DenseCurvature(net.weights, "softplus", x, net.biases, input_gram=x @ x.T)
    torch.testing.assert_close(reused.gram_matrix(), gram)
    prepared = DenseCurvature(net.weights, "softplus", prepare_inputs(x, gram=True), net.biases)
    torch.testing.assert_close(prepared.gram_matrix(), gram)


def test_signals_are_derivatives_of_the_outputs():
    net, params, outputs = make((5, 4, 6, 2), "tanh", 3, True)
    jacobian = dense_jacobian(outputs, params).view(3, 2, -1)
    offset = net.weights[0].numel()
    torch.testing.assert_close(net.output_jacobian_signals[0], jacobian[:, :, offset : offset + 4])


def test_two_layer_linear_net_closed_form():
    # f = x·W a: M = ‖a‖² X X^T + X W W^T X^T
    net, params, _ = make((5, 3, 1), "linear", 8, False)
    x, w, a = net.features[0], params["w0"], params["w1"]
    xx = x @ x.T
    torch.testing.assert_close(net.gram_matrix(), (a**2).sum() * xx + x @ w @ w.T @ x.T)


def test_hessian_equals_finite_differences_of_the_loss():
    net, params, outputs = make((4, 3, 3, 1), "swish", 6, True)
    targets = draw(6, seed=8)
    operator = net.hessian_operator(2 * (net.outputs - targets) / 6, 2 / 6)
    direction = {name: draw(*p.shape, seed=5) for name, p in params.items()}

    def loss(step):
        moved = {name: p + step * direction[name] for name, p in params.items()}
        return ((outputs(moved) - targets) ** 2).mean()

    h = 1e-4
    second = (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2
    flat = torch.cat([d.reshape(-1) for d in direction.values()])
    torch.testing.assert_close(flat @ (operator @ flat), second, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    samples=st.integers(1, 6),
    biased=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 1000),
)
def test_products_agree_with_autograd_for_all_shapes(widths, samples, biased, activation, seed):
    net, params, outputs = make(widths, activation, samples, biased, seed)
    general = hessian_operator(lambda p: (outputs(p) ** 3).sum(), params)
    closed = net.hessian_operator(3 * net.outputs**2, 6 * net.outputs)
    block = draw(net.size, 2, seed=seed)
    torch.testing.assert_close(closed @ block, general @ block)
    newton = gauss_newton_operator(outputs, params)
    torch.testing.assert_close(net.gram_matrix(), newton.gram.to_dense())


def test_gauss_newton_spectrum_on_both_sides():
    net, params, outputs = make((5, 4, 6, 1), "tanh", 7, False)
    curvature = torch.rand(7, dtype=torch.float64) + 0.1
    small = torch.linalg.eigvalsh(gauss_newton_matrix(net.gram_matrix(), curvature))
    large = torch.linalg.eigvalsh(gauss_newton_operator(outputs, params, curvature).to_dense())
    torch.testing.assert_close(small, large[-7:])
    torch.testing.assert_close(
        gauss_newton_matrix(net.gram_matrix(), 2 / 7) * 3.5, net.gram_matrix()
    )
    for bad, message in [(-curvature, "negative"), (curvature[:3], "3 numbers")]:
        with pytest.raises(ValueError, match=message):
            gauss_newton_matrix(net.gram_matrix(), bad)


@pytest.mark.parametrize(("samples", "dimension"), [(300, 700), (5, 9)])
def test_compressed_inputs_change_nothing(samples, dimension):
    x = draw(samples, dimension)
    compressed, basis = compress(x)
    torch.testing.assert_close(compressed @ basis.T, x)
    assert not torch.triu(compressed, 1).any()
    weights = [draw(dimension, 6, seed=1) / math.sqrt(dimension), draw(6, 1, seed=2)]
    small = DenseCurvature([basis.T @ weights[0], weights[1]], "tanh", compressed)
    full = DenseCurvature(weights, "tanh", x)
    torch.testing.assert_close(small.outputs, full.outputs)
    torch.testing.assert_close(small.gram_matrix(), full.gram_matrix())
    slope = draw(samples, seed=4)
    vectors = draw(small.size, 2, seed=5)
    cut = samples * 6
    lifted = torch.cat(
        [(basis @ vectors[:cut].T.reshape(2, samples, 6)).reshape(2, -1).T, vectors[cut:]]
    )
    a, b = small.hessian_operator(slope, 0.3), full.hessian_operator(slope, 0.3)
    pushed = a @ vectors
    torch.testing.assert_close(a @ vectors[:, 1].contiguous(), pushed[:, 1])
    target = b @ lifted
    torch.testing.assert_close(target[dimension * 6 :], pushed[cut:])
    torch.testing.assert_close(
        basis.T @ target[: dimension * 6].T.reshape(2, dimension, 6),
        pushed[:cut].T.reshape(2, samples, 6),
    )
    top = [top_eigenpairs(op, 2, tol=1e-8).values for op in (a, b)]
    torch.testing.assert_close(top[0], top[1], rtol=1e-7, atol=0)


def test_gradient_descent_on_compressed_inputs_follows_the_same_path():
    x, y = draw(6, 20), torch.sign(draw(6, seed=7))
    compressed, basis = compress(x)
    start = [draw(20, 4, seed=1) / 5, draw(4, 1, seed=2)]
    pair = [[w.clone() for w in start], [basis.T @ start[0], start[1].clone()]]
    losses = []
    for weights, inputs in zip(pair, (x, compressed), strict=True):
        run = []
        for _ in range(30):
            leaves = [w.requires_grad_() for w in weights]
            loss = ((torch.tanh(inputs @ leaves[0]) @ leaves[1]).squeeze(1) - y).square().mean()
            grads = torch.autograd.grad(loss, leaves)
            weights = [(w - 0.1 * g).detach() for w, g in zip(leaves, grads, strict=True)]
            run.append(loss.item())
        losses.append(run)
    assert losses[0][-1] < losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_float32_products_and_large_gram_agree_with_float64():
    net, _, _ = make((40, 30, 1), "tanh", 300, True)
    single = DenseCurvature(
        [w.float() for w in net.weights],
        "tanh",
        net.features[0].float(),
        [b.float() for b in net.biases],
    )
    torch.testing.assert_close(
        single.gram_matrix().double(), net.gram_matrix(), rtol=1e-4, atol=1e-3
    )
    slope = draw(300, seed=1) / 300
    vector = draw(net.size, seed=2)
    torch.testing.assert_close(
        (single.hessian_operator(slope.float(), 2 / 300) @ vector.float()).double(),
        net.hessian_operator(slope, 2 / 300) @ vector,
        rtol=1e-3,
        atol=1e-4,
    )
    result = top_eigenpairs(LinearOperator.from_dense(single.gram_matrix()))
    exact = torch.linalg.eigvalsh(net.gram_matrix())[-1:]
    torch.testing.assert_close(result.values, exact, rtol=1e-4, atol=0)


def test_products_stay_at_their_state_when_the_weights_move():
    net, params, _ = make((5, 4, 1), "tanh", 7, True)
    operator = net.hessian_operator(draw(7), 0.3)
    before = operator.to_dense()
    for parameter in params.values():
        parameter.add_(1.0)
    torch.testing.assert_close(operator.to_dense(), before)


def test_bad_arguments_are_refused():
    weights, x = [draw(3, 2), draw(2, 1)], draw(4, 3)
    nan = x.clone()
    nan[0, 0] = float("nan")
    cases = [
        (([], "tanh", x), "weights is empty"),
        ((weights, "sine", x), "'sine'; allowed are linear"),
        ((weights, ["tanh", "tanh"], x), "names 2 layers"),
        ((weights, "tanh", draw(4, 5)), r"weights\[0\]"),
        (([weights[0], draw(3, 1)], "tanh", x), r"weights\[1\]"),
        ((weights, "tanh", nan), "inputs holds NaN"),
        (([w.half() for w in weights], "tanh", x.half()), "float16"),
        ((weights, "tanh", x, [draw(2)]), "biases"),
        ((weights, "tanh", x, None, draw(3, 3)), "input_gram has shape"),
        ((weights, "tanh", draw(4)), r"inputs has shape \(4,\)"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            DenseCurvature(*arguments)
    net = DenseCurvature(weights, "tanh", x)
    with pytest.raises(ValueError, match="loss_slope has shape"):
        net.hessian_operator(torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="loss_curvature has shape"):
        net.hessian_operator(torch.ones(4), torch.ones(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees_with_cpu():
    net, _, _ = make((5, 4, 6, 2), "tanh", 7, True)
    device = DenseCurvature(
        [w.cuda() for w in net.weights],
        "tanh",
        net.features[0].cuda(),
        [b.cuda() for b in net.biases],
    )
    torch.testing.assert_close(device.gram_matrix().cpu(), net.gram_matrix())
    slope = draw(7, 2)
    vector = draw(net.size, seed=1)
    torch.testing.assert_close(
        (device.hessian_operator(slope.cuda(), 1.0) @ vector.cuda()).cpu(),
        net.hessian_operator(slope, 1.0) @ vector,
    )
