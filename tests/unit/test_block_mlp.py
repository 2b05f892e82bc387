"""Batch normalisation and residual connections against PyTorch's modules; whitened data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shards import found, network, one_run, shard, trained
from specs import part
from torch.nn import functional as F

from sharpflow.curvature.reference import dense_hessian, dense_jacobian
from sharpflow.data.base import generate
from sharpflow.models.block_mlp import BlockNetwork
from sharpflow.models.mlp import DenseNetwork


def draw(model, dataset, seed=0):
    return model.initialise(dataset, torch.Generator().manual_seed(seed))


def test_without_either_it_is_the_dense_network(make_dataset):
    dataset = make_dataset()
    plain, block = DenseNetwork(6, 3, "elu"), BlockNetwork(6, 3, "elu", False, False)
    parameters = draw(block, dataset)
    expected = draw(plain, dataset)
    assert parameters.keys() == expected.keys()
    batched = {name: t[None] for name, t in expected.items()}
    inputs = plain.data_inputs(dataset)
    torch.testing.assert_close(block(batched, inputs), plain(batched, inputs))


@pytest.mark.parametrize("residual", [False, True])
def test_normalisation_and_shortcuts_are_pytorchs(make_dataset, residual):
    dataset = make_dataset()
    model = BlockNetwork(6, 3, "tanh", True, residual)
    generator = torch.Generator().manual_seed(5)
    runs = []
    for seed in range(2):
        run = draw(model, dataset, seed)
        for name in run:
            if name.startswith(("gain", "offset")):
                run[name] = torch.randn(6, dtype=torch.float64, generator=generator)
        runs.append(run)
    stacked = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    outputs = model(stacked, model.data_inputs(dataset))
    for index, run in enumerate(runs):
        hidden = dataset["coordinates"]
        for layer in range(3):
            normalised = F.batch_norm(
                hidden @ run[f"weight{layer}"],
                None,
                None,
                run[f"gain{layer}"],
                run[f"offset{layer}"],
                training=True,
            )
            after = torch.tanh(normalised)
            hidden = hidden + after if residual and layer else after
        torch.testing.assert_close(outputs[index], hidden @ run["weight3"])


def test_curvature_is_that_of_autograd(make_dataset):
    """No closed form: both sharpnesses come from matrix-free operators."""
    model = {
        "kind": "block_mlp",
        "hidden_layers": 2,
        "batch_normalisation": True,
        "residual": True,
    }
    problem = shard(make_dataset(), model, {"steps": 4})
    chosen = {"every": 1, "k": 2, "tol": 1e-8}
    trajectory, table = trained(problem, gauss_newton=chosen, hessian=chosen | {"tol": 1e-6})
    for step in (0, 4):
        run = one_run(trajectory.states[step], 1)
        jacobian = dense_jacobian(network(problem), run)
        exact = torch.linalg.eigvalsh(2 / 12 * jacobian @ jacobian.T).flip(0)[:2]
        sharpness = found(table, "gauss_newton_sharpness", 1, step)
        torch.testing.assert_close(sharpness, exact, rtol=1e-6, atol=0)
        hessian = dense_hessian(lambda p: problem.loss(network(problem)(p), problem.targets), run)
        exact = torch.linalg.eigvalsh(hessian).flip(0)[:2]
        sharpness = found(table, "hessian_sharpness", 1, step)
        torch.testing.assert_close(sharpness, exact, rtol=1e-5, atol=0)


# --- the data and the network of the proof


@given(
    st.integers(1, 12), st.integers(0, 5), st.floats(0.1, 10), st.floats(0.01, 1), st.integers(0, 9)
)
def test_whitened_inputs_have_the_asked_spectrum(inputs, more, leading, other, seed):
    samples = 2 * inputs + 2 * more
    spec = {"samples": samples, "inputs": inputs, "leading_std": leading, "other_std": other}
    tensors, _ = generate(part("data", "whitened", seed=seed, **spec))
    x = tensors["inputs"]
    expected = torch.full((inputs,), other**2, dtype=torch.float64)
    expected[0] = leading**2
    second_moment = x.T @ x / samples
    torch.testing.assert_close(
        second_moment, torch.diag(expected), rtol=1e-10, atol=1e-12 * leading**2
    )
    assert float(tensors["targets"].sum()) == 0.0
    assert set(tensors["targets"].flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(tensors["coordinates"] @ tensors["basis"].T, x)


def test_the_two_layer_linear_network_has_its_gram_matrix_in_closed_form():
    """M = ‖A‖² X Xᵀ + X WᵀW Xᵀ; the second term is the output layer's part."""
    dataset, _ = generate(part("data", "whitened", samples=12, inputs=4))
    model = {"kind": "mlp", "hidden_layers": 1, "activation": "linear"}
    problem = shard(dataset, model, {"steps": 20}, learning_rate=0.2)
    trajectory, table = trained(problem, gauss_newton={"tol": 1e-8, "output_layer": True})
    x = dataset["inputs"]
    for step in (0, 20):
        run = one_run(trajectory.states[step], 0)
        hidden = x @ run["weight0"]
        upper = hidden @ hidden.T
        whole = run["weight1"].square().sum() * (x @ x.T) + upper
        for quantity, matrix in {
            "gauss_newton_sharpness": whole,
            "output_layer_sharpness": upper,
        }.items():
            exact = torch.linalg.eigvalsh(2 / 12 * matrix)[-1:]
            torch.testing.assert_close(found(table, quantity, 0, step), exact, rtol=1e-6, atol=0)
        residual = hidden @ run["weight1"] - problem.targets
        product = float((residual * (residual + problem.targets)).sum())
        assert float(found(table, "residual_dot_outputs", 0, step)) == pytest.approx(product)
