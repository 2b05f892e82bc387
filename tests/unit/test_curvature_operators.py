"""Operators against dense float64 derivatives, closed forms and finite differences."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from sharpflow.curvature import (
    LinearOperator,
    flatten_parameters,
    gauss_newton_operator,
    hessian_operator,
)
from sharpflow.curvature.reference import dense_hessian, dense_jacobian


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network():
    x, y = draw(9, 4, seed=1), draw(9, 3, seed=2)
    params = {"a": draw(4, 5, seed=3), "b": draw(5, seed=4), "c": draw(5, 3, seed=5)}

    def outputs(p):
        return torch.tanh(x.to(p["a"].dtype) @ p["a"] + p["b"]) @ p["c"]

    def loss(p):
        return ((outputs(p) - y.to(p["a"].dtype)) ** 2).mean()

    return outputs, loss, params


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_hessian_equals_the_dense_one(network, dtype, tolerance):
    _, loss, params = network
    reference = dense_hessian(loss, params)
    operator = hessian_operator(loss, {name: p.to(dtype) for name, p in params.items()})
    assert operator.dtype == dtype
    assert operator.shape == (40, 40)
    torch.testing.assert_close(
        operator.to_dense().double(), reference, rtol=tolerance, atol=tolerance
    )
    assert operator.products == 40
    block = draw(40, 3, dtype=dtype)
    torch.testing.assert_close(operator @ block[:, 1], (operator @ block)[:, 1])


def test_hessian_equals_finite_differences_of_the_gradient(network):
    _, loss, params = network
    operator = hessian_operator(loss, params)
    direction = {name: draw(*p.shape, seed=9) for name, p in params.items()}

    def gradient(step):
        moved = {k: (p + step * direction[k]).requires_grad_() for k, p in params.items()}
        grads = torch.autograd.grad(loss(moved), list(moved.values()))
        return torch.cat([g.reshape(-1) for g in grads])

    h = 1e-5
    difference = (gradient(h) - gradient(-h)) / (2 * h)
    product = operator.matvec(flatten_parameters(direction))
    torch.testing.assert_close(product, difference, rtol=1e-7, atol=1e-8)


def test_linear_regression_has_hessian_two_over_n_gram():
    x, y = draw(12, 5), draw(12, seed=1)
    operator = hessian_operator(lambda p: ((x @ p["w"] - y) ** 2).mean(), {"w": draw(5)})
    torch.testing.assert_close(operator.to_dense(), 2 / 12 * x.T @ x)


def test_two_layer_scalar_chain_has_the_closed_form_hessian():
    # L = (u w x - y)²: H = 2 [[w²x², 2uwx² - yx], [., u²x²]]
    u, w, x, y = 0.7, -1.3, 1.9, 0.4
    params = {"u": torch.tensor([u]).double(), "w": torch.tensor([w]).double()}
    operator = hessian_operator(lambda p: ((p["u"] * p["w"] * x - y) ** 2).sum(), params)
    cross = 2 * (2 * u * w * x * x - y * x)
    closed = torch.tensor([[2 * (w * x) ** 2, cross], [cross, 2 * (u * x) ** 2]]).double()
    torch.testing.assert_close(operator.to_dense(), closed)


def test_gauss_newton_and_its_gram_side(network):
    outputs, _, params = network
    jacobian = dense_jacobian(outputs, params)
    curvature = torch.rand(9, 3, dtype=torch.float64) + 0.1
    operator = gauss_newton_operator(outputs, params, curvature)
    dense = jacobian.T @ (curvature.reshape(-1, 1) * jacobian)
    torch.testing.assert_close(operator.to_dense(), dense)
    root = curvature.reshape(-1).sqrt()
    gram = root[:, None] * (jacobian @ jacobian.T) * root
    torch.testing.assert_close(operator.gram.to_dense(), gram)
    _, vectors = torch.linalg.eigh(gram)
    mapped = operator.vjp(operator.root(vectors[:, -1]))
    mapped = mapped / mapped.norm()
    torch.testing.assert_close(operator @ mapped, mapped * torch.linalg.eigvalsh(gram)[-1])


def test_gauss_newton_with_blocks_of_output_curvature(network):
    outputs, _, params = network
    jacobian = dense_jacobian(outputs, params)
    probabilities = torch.softmax(outputs(params), 1)
    blocks = torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None]
    operator = gauss_newton_operator(outputs, params, blocks)
    dense = jacobian.T @ torch.block_diag(*blocks) @ jacobian
    torch.testing.assert_close(operator.to_dense(), dense)
    spectrum = torch.linalg.eigvalsh(dense).flip(0)[:18]
    gram_spectrum = torch.linalg.eigvalsh(operator.gram.to_dense()).flip(0)[:18]
    torch.testing.assert_close(gram_spectrum, spectrum, rtol=1e-8, atol=1e-10)


def test_gauss_newton_equals_the_hessian_of_a_model_linear_in_its_parameters():
    x, labels = draw(10, 4), torch.arange(10) % 3
    params = {"w": draw(4, 3)}
    p = torch.softmax(x @ params["w"], 1)
    blocks = (torch.diag_embed(p) - p[:, :, None] * p[:, None]) / 10
    newton = gauss_newton_operator(lambda q: x @ q["w"], params, blocks).to_dense()
    hessian = hessian_operator(lambda q: cross_entropy(x @ q["w"], labels), params).to_dense()
    torch.testing.assert_close(newton, hessian)


def test_negative_output_curvature_only_lacks_a_gram_side(network):
    outputs, _, params = network
    operator = gauss_newton_operator(outputs, params, -1.0)
    jacobian = dense_jacobian(outputs, params)
    torch.testing.assert_close(operator.to_dense(), -jacobian.T @ jacobian)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        operator.gram.matvec(torch.ones(27, dtype=torch.float64))


def test_operator_stays_at_its_state_when_the_parameters_move(network):
    outputs, loss, params = network
    moving = {name: p.clone() for name, p in params.items()}
    hessian, newton = hessian_operator(loss, moving), gauss_newton_operator(outputs, moving)
    before = hessian.to_dense(), newton.to_dense()
    for parameter in moving.values():
        parameter.add_(1.0)
    torch.testing.assert_close(hessian.to_dense(), before[0])
    torch.testing.assert_close(newton.to_dense(), before[1])


def test_loss_is_called_once(network):
    _, loss, params = network
    calls = []

    def counted(p):
        calls.append(1)
        return loss(p)

    hessian_operator(counted, params).to_dense()
    assert len(calls) == 1


def test_shared_tensor_is_one_parameter():
    weight = draw(3, 3)

    def loss(p):
        return ((p["first"] @ torch.tanh(p["second"])) ** 2).sum()

    operator = hessian_operator(loss, {"first": weight, "second": weight})
    assert operator.shape == (9, 9)
    reference = dense_hessian(lambda p: loss({"first": p["w"], "second": p["w"]}), {"w": weight})
    torch.testing.assert_close(operator.to_dense(), reference)


def test_non_contiguous_parameters_and_vectors(network):
    _, loss, params = network
    strided = {name: p.T.contiguous().T if p.ndim == 2 else p for name, p in params.items()}
    assert not strided["a"].is_contiguous()
    vector = draw(80)[::2]
    torch.testing.assert_close(
        hessian_operator(loss, strided) @ vector, hessian_operator(loss, params) @ vector
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda p: p["a"].sum() * 3,
        lambda p: (p["a"] @ torch.ones(2, dtype=torch.float64)).sum(),
    ],
    ids=["linear", "unused"],
)
def test_zero_hessians(loss):
    params = {"a": draw(2), "unused": draw(3)}
    assert torch.equal(hessian_operator(loss, params).to_dense(), torch.zeros(5, 5).double())


def test_unused_parameters_contribute_zeros():
    params = {"a": draw(2), "unused": draw(3), "b": draw(1)}
    operator = hessian_operator(lambda p: (p["a"].prod() * p["b"]).sum(), params)
    dense = operator.to_dense()
    assert torch.equal(dense[2:5], torch.zeros(3, 6).double())
    a, b = params["a"], params["b"]
    torch.testing.assert_close(dense[0, 1], b[0])
    torch.testing.assert_close(dense[0, 5], a[1])
    newton = gauss_newton_operator(lambda p: p["a"] * p["b"], params)
    assert torch.equal(newton.to_dense()[2:5], torch.zeros(3, 6).double())


def test_one_parameter():
    operator = hessian_operator(lambda p: p["t"] ** 4, {"t": torch.tensor(2.0)})
    assert operator.to_dense().item() == pytest.approx(48.0)


def test_attention_has_second_derivatives():
    q = draw(1, 4, 3)
    params = {"k": draw(1, 4, 3, seed=1)}

    def loss(p):
        return torch.nn.functional.scaled_dot_product_attention(q, p["k"], q).square().sum()

    operator = hessian_operator(loss, params)
    vector, h = draw(12, seed=3), 1e-5

    def gradient(k):
        k = k.requires_grad_()
        return torch.autograd.grad(loss({"k": k}), k)[0].reshape(-1)

    step = h * vector.view(1, 4, 3)
    difference = (gradient(params["k"] + step) - gradient(params["k"] - step)) / (2 * h)
    torch.testing.assert_close(operator @ vector, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "params is empty"),
        ({"w": torch.ones(2, dtype=torch.float16)}, "float16"),
        ({"w": torch.ones(2, dtype=torch.bfloat16)}, "bfloat16"),
        ({"w": torch.ones(2), "v": torch.ones(2).double()}, "mixes"),
        ({"w": torch.tensor([1.0, float("nan")])}, r"params\['w'\] holds NaN"),
        ({"w": torch.ones(0)}, "no number"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        hessian_operator(lambda p: sum(t.sum() ** 2 for t in p.values()), params)


def test_nan_in_the_data_and_losses_that_are_no_scalar_are_refused():
    params, data = {"w": torch.ones(2)}, torch.tensor([1.0, float("nan")])
    with pytest.raises(ValueError, match="the loss holds NaN"):
        hessian_operator(lambda p: (p["w"] * data).sum() ** 2, params)
    with pytest.raises(ValueError, match="output holds NaN"):
        gauss_newton_operator(lambda p: p["w"] * data, params)
    with pytest.raises(ValueError, match="one number"):
        hessian_operator(lambda p: p["w"] ** 2, params)
    with pytest.raises(ValueError, match="gradient of the loss holds NaN"):
        hessian_operator(lambda p: (p["w"] - 1).sum().abs().sqrt(), params)


def test_wrong_vectors_are_refused():
    operator = LinearOperator.from_dense(torch.eye(3))
    for vector, message in [
        (torch.ones(2), r"\(2,\)"),
        (torch.ones(3).double(), "float64"),
        (torch.ones(3, 1, 1), r"\(3, 1, 1\)"),
        (torch.full((3,), float("nan")), "product holds NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            operator.matvec(vector)
    with pytest.raises(ValueError, match="square"):
        LinearOperator.from_dense(torch.ones(2, 3))
    with pytest.raises(ValueError, match="output_curvature has shape"):
        gauss_newton_operator(lambda p: p["w"], {"w": torch.ones(2)}, torch.ones(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees_with_cpu(network):
    _, _, params = network
    x = draw(9, 4, seed=1)

    def loss(p):
        return torch.tanh(x.to(p["a"].device) @ p["a"] + p["b"]).square().sum()

    host = hessian_operator(loss, params).to_dense()
    device = hessian_operator(loss, {k: p.cuda() for k, p in params.items()}).to_dense()
    torch.testing.assert_close(device.cpu(), host)
