"""Curvature of some parameters, in the metric of an optimiser, and sums of operators."""

import pytest
import torch
from small_classifier import draw, net, samples
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adagrad, Adam, AdamW, RAdam, RMSprop

from sharpflow.curvature import (
    LinearOperator,
    SharpnessTracker,
    bottom_eigenpairs,
    eigenpairs_above,
    gauss_newton_operator,
    preconditioning,
    sharpness,
    top_eigenpairs,
)
from sharpflow.curvature.reference import dense_hessian, dense_jacobian

N = 15


INPUTS, LABELS = samples(N)


def hessian(model, names=None):
    """Dense Hessian of the named parameters, the others held."""
    everything = {name: p.detach() for name, p in model.named_parameters()}
    chosen = {name: p for name, p in everything.items() if names is None or name in names}

    def loss(p):
        return cross_entropy(functional_call(model, everything | p, (INPUTS,)), LABELS)

    return dense_hessian(loss, chosen)


class TestOnly:
    @pytest.mark.parametrize(
        ("only", "names"),
        [
            ("2.*", {"2.weight", "2.bias"}),
            ("*.weight", {"0.weight", "2.weight"}),
            (["0.bias", "2.b*"], {"0.bias", "2.bias"}),
        ],
    )
    @pytest.mark.parametrize("batches", [False, True])
    def test_is_the_block_of_those_parameters(self, only, names, batches):
        model = net()
        expected = torch.linalg.eigvalsh(hessian(model, names)).flip(0)[:2]
        data = (cross_entropy, INPUTS, LABELS)
        if batches:
            parts = list(zip(INPUTS.split(4), LABELS.split(4), strict=True))
            data = (lambda m, b: cross_entropy(m(b[0]), b[1]), parts)
        tracker = SharpnessTracker(model, *data, k=2, tol=1e-9, only=only)
        result = tracker.measure()
        torch.testing.assert_close(result.values, expected)
        assert result.vectors.shape[0] == sum(
            p.numel() for n, p in model.named_parameters() if n in names
        )

    def test_dense_stacks_too(self):
        model, targets = net(), draw(N, 3, seed=1)
        assert SharpnessTracker(model, mse_loss, INPUTS, targets).dense is False
        plain = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        assert SharpnessTracker(plain, mse_loss, INPUTS, targets).dense
        assert not SharpnessTracker(plain, mse_loss, INPUTS, targets, only="0.*").dense

    def test_a_pattern_that_fits_nothing(self):
        with pytest.raises(ValueError, match=r"only = '2.wieght' fits no .* 2.weight"):
            sharpness(net(), cross_entropy, INPUTS, LABELS, only="2.wieght")


def trained(make, steps=3):
    """A network and its optimiser after some steps."""
    model = net()
    optimiser = make(model)
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(model(INPUTS), LABELS).backward()
        optimiser.step()
    return model, optimiser


ADAPTIVE = {
    "adam": lambda m: Adam(m.parameters(), lr=0.01, betas=(0.8, 0.99), eps=1e-3),
    "betas as tensors": lambda m: Adam(
        m.parameters(), lr=0.01, betas=(torch.tensor(0.8), torch.tensor(0.99)), foreach=False
    ),
    "amsgrad": lambda m: Adam(m.parameters(), lr=0.01, amsgrad=True),
    "adamw": lambda m: AdamW(m.parameters(), lr=0.01),
    "rmsprop": lambda m: RMSprop(m.parameters(), lr=0.01),
    "centred": lambda m: RMSprop(m.parameters(), lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda m: Adagrad(m.parameters(), lr=0.05, lr_decay=0.1),
    "groups": lambda m: Adam(
        [{"params": m[0].parameters(), "lr": 0.01}, {"params": m[2].parameters()}]
    ),
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_tracker_measures_in_the_metric(name):
    model, optimiser = trained(ADAPTIVE[name])
    found = preconditioning(optimiser, dict(model.named_parameters()))
    root = found.diagonal.rsqrt()
    expected = torch.linalg.eigvalsh(root[:, None] * hessian(model) * root)[-1]
    tracker = SharpnessTracker(model, cross_entropy, INPUTS, LABELS, tol=1e-9, optimiser=optimiser)
    torch.testing.assert_close(tracker.measure().values[0], expected)
    assert tracker.threshold == found.threshold
    assert type(tracker.threshold) is float
    assert tracker.verified["finite_difference"] < 1e-2


def quadratic(optimiser_of, prepare=None):
    """Growth of |θ| over the last 300 of 400 steps on λθ²/2, λ a multiple of the threshold."""

    def grown(multiple: float) -> float:
        theta = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimiser = optimiser_of([theta])
        theta.grad = torch.full_like(theta, 1e-9)
        optimiser.step()
        if prepare is not None:
            prepare(optimiser.state[theta])
        found = preconditioning(optimiser, {"theta": theta})
        curvature = multiple * found.threshold * float(found.diagonal)
        with torch.no_grad():
            theta.fill_(1e-15)  # far from changing the second moments
        sizes = []
        for _ in range(400):
            theta.grad = curvature * theta.detach()
            optimiser.step()
            sizes.append(abs(float(theta.detach())))
            if prepare is not None:
                prepare(optimiser.state[theta])
        return max(sizes[-20:]) / max(sizes[80:100])

    return grown


def held(**values: float):
    """Second moments that stand still."""

    def prepare(state):
        for key, value in values.items():
            state[key].fill_(value)

    return prepare


@pytest.mark.parametrize(
    ("optimiser_of", "prepare"),
    [
        (lambda p: SGD(p, lr=0.1), None),
        (lambda p: SGD(p, lr=0.1, momentum=0.7), None),
        (lambda p: SGD(p, lr=0.1, momentum=0.7, dampening=0.4), None),
        (lambda p: SGD(p, lr=0.1, momentum=0.7, nesterov=True), None),
        # learning rates so large that gradients are small beside the second moments
        (lambda p: Adam(p, lr=1e3, betas=(0.9, 1 - 1e-6)), held(exp_avg_sq=4.0, step=1e9)),
        (lambda p: RMSprop(p, lr=1e3, alpha=1 - 1e-6, momentum=0.6), held(square_avg=4.0)),
        (lambda p: Adagrad(p, lr=1e3), held(sum=4.0)),
    ],
    ids=["sgd", "momentum", "dampening", "nesterov", "adam", "rmsprop", "adagrad"],
)
def test_steps_are_stable_up_to_the_threshold_and_no_further(optimiser_of, prepare):
    grown = quadratic(optimiser_of, prepare)
    assert grown(0.999) < 0.7
    assert grown(1.001) > 1.4


class TestRefusals:
    def message(self, optimiser, model=None):
        with pytest.raises(ValueError, match=r"^[^\n]*\.$") as caught:
            preconditioning(optimiser, dict((model or net()).named_parameters()))
        return str(caught.value)

    def test_no_state_yet(self):
        model = net()
        assert "no state of '0.weight' yet" in self.message(Adam(model.parameters()), model)

    def test_another_optimiser(self):
        assert "threshold of RAdam is not known" in self.message(RAdam(net().parameters()))

    def test_another_model(self):
        assert "does not hold the parameter '0.weight'" in self.message(SGD(net().parameters()))

    def test_different_momenta(self):
        model = net()
        groups = [
            {"params": model[0].parameters(), "momentum": 0.5},
            {"params": model[2].parameters()},
        ]
        assert "different momenta" in self.message(SGD(groups, lr=0.1), model)


def symmetric(seed):
    matrix = draw(6, 6, seed=seed)
    return matrix + matrix.T


class TestComposition:
    a, b = symmetric(1), symmetric(2)

    def of(self, matrix):
        return LinearOperator.from_dense(matrix)

    @pytest.mark.parametrize("count", [None, 3])
    def test_sums_multiples_and_scalings(self, count):
        v = draw(6) if count is None else draw(6, count)
        d = draw(6, seed=5)
        a, b = self.of(self.a), self.of(self.b)
        torch.testing.assert_close((a + b) @ v, (self.a + self.b) @ v)
        torch.testing.assert_close((2 * a - b * 0.5) @ v, (2 * self.a - self.b / 2) @ v)
        torch.testing.assert_close(a.scaled(d) @ v, torch.diag(d) @ self.a @ torch.diag(d) @ v)

    def test_the_bottom_is_the_top_of_the_negative(self):
        expected = torch.linalg.eigvalsh(self.a)[:2]
        found = bottom_eigenpairs(self.of(self.a), k=2, tol=1e-9)
        torch.testing.assert_close(found.values, expected)
        torch.testing.assert_close(self.a @ found.vectors, found.vectors * expected)
        torch.testing.assert_close(-top_eigenpairs(-self.of(self.a), 2, 1e-9).values, expected)

    def test_what_does_not_fit(self):
        with pytest.raises(ValueError, match="cannot be added"):
            self.of(self.a) + self.of(torch.eye(5, dtype=torch.float64))
        with pytest.raises(ValueError, match=r"factors has shape \(5,\)"):
            self.of(self.a).scaled(torch.ones(5))


class TestAbove:
    values = torch.cat([torch.linspace(3, 12, 10), torch.linspace(0, 1, 290)]).double()

    def operator(self):
        return LinearOperator.from_dense(torch.diag(self.values))

    @pytest.mark.parametrize("bound", [2.0, 7.5, 11.5, 20.0, 3.001])
    def test_are_all_that_are_there(self, bound):
        expected = self.values[self.values > bound].sort(descending=True).values
        found = eigenpairs_above(self.operator(), bound, 1e-8)
        torch.testing.assert_close(found.values, expected)
        assert found.vectors.shape == (300, len(expected))
        assert found.converged

    def test_more_than_the_most_is_not_converged(self):
        found = eigenpairs_above(self.operator(), 2.0, 1e-8, most=4)
        torch.testing.assert_close(found.values, torch.tensor([12.0, 11, 10, 9]).double())
        assert not found.converged

    def test_a_start_saves_products(self):
        cold = eigenpairs_above(self.operator(), 2.0, 1e-6)
        warm = eigenpairs_above(self.operator(), 2.0, 1e-6, initial=cold.refined)
        assert warm.matvecs < cold.matvecs
        torch.testing.assert_close(warm.values, cold.values)

    def test_every_eigenvalue(self):
        matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0]).double())
        found = eigenpairs_above(LinearOperator.from_dense(matrix), 0.0, 1e-9)
        torch.testing.assert_close(found.values, torch.tensor([3.0, 2.0, 1.0]).double())
        assert found.converged


class TestGaussNewtonOfALoss:
    @pytest.mark.parametrize(
        "loss",
        [
            lambda f: cross_entropy(f, LABELS),
            lambda f: cross_entropy(f, LABELS, label_smoothing=0.1, reduction="sum"),
            lambda f: mse_loss(f, draw(N, 3, seed=1)),
            lambda f: torch.nn.functional.huber_loss(f, draw(N, 3, seed=1), delta=0.3),
            lambda f: f.logsumexp(1).mean(),
        ],
        ids=["cross_entropy", "smoothed", "mse", "huber", "any"],
    )
    def test_is_j_transposed_s_j(self, loss):
        model = net()
        params = {name: p.detach() for name, p in model.named_parameters()}

        def outputs(p):
            return functional_call(model, p, (INPUTS,))

        jacobian = dense_jacobian(lambda p: outputs(p).reshape(-1), params)
        at = outputs(params)
        s = torch.autograd.functional.hessian(loss, at).reshape(3 * N, 3 * N)
        operator = gauss_newton_operator(outputs, params, loss)
        torch.testing.assert_close(operator.to_dense(), jacobian.T @ s @ jacobian)

    def test_agrees_with_a_curvature_by_hand(self):
        model = net()
        params = {name: p.detach() for name, p in model.named_parameters()}

        def outputs(p):
            return functional_call(model, p, (INPUTS,))

        by_hand = gauss_newton_operator(outputs, params, 2 / (3 * N)).to_dense()
        targets = draw(N, 3, seed=1)
        found = gauss_newton_operator(outputs, params, lambda f: mse_loss(f, targets)).to_dense()
        torch.testing.assert_close(found, by_hand)

    def test_what_it_cannot_do(self):
        model = net()
        params = dict(model.named_parameters())

        def outputs(p):
            return functional_call(model, p, (INPUTS,))

        operator = gauss_newton_operator(outputs, params, lambda f: f.sum())
        assert operator.to_dense().abs().max() == 0
        with pytest.raises(ValueError, match="whose root is not known"):
            operator.gram @ draw(3 * N)
        with pytest.raises(ValueError, match="does not depend on the outputs"):
            gauss_newton_operator(outputs, params, lambda _: torch.tensor(1.0))
