"""Laws that hold of every run, whatever is measured: what a step does to a conserved charge.

They cannot fail on results, so no claim states them. What other tests already check is not repeated
here: the law of a step over every possible batch (`test_symmetry_noether`), growth of the norm
along runs of SGD and GD (`test_gaussian_measurements`), where SGD settles, with weight decay and
without, and that isotropic data cannot tell weighted from plain balance
(`test_symmetry_equilibrium`).
"""

import itertools
import math

import pytest
import specs
import torch
from gaussian_shards import population, shard

from sharpflow.measurements.evaluate import evaluate
from sharpflow.symmetry import (
    gaussian_gammas,
    hessian_trace,
    matrix_symmetry,
    noether_charge,
    noether_step,
    noise_trace,
    plain_balance,
    population_gradient,
    two_layer_noise_trace,
)
from sharpflow.symmetry.predictions import unweighted_gammas
from sharpflow.training import train

RATE, BATCH = 0.02, 4
RUNS, STEPS = 400, 40
State = dict[str, torch.Tensor]


def everywhere(state: State, runs: int = RUNS) -> State:
    """The state of the first run for all runs."""
    return {name: t[:1].expand(runs, *t.shape[1:]).contiguous() for name, t in state.items()}


def draws(problem, state: State, charge) -> torch.Tensor:
    """Change of a charge in one step from one state, over as many batches as runs times steps."""
    start = everywhere(state)
    before = charge({name: t[0] for name, t in start.items()})
    found = [
        torch.func.vmap(charge)(problem.step(start, step).state) - before for step in range(STEPS)
    ]
    return torch.cat(found)


def minimum(problem) -> State:
    """A minimum of the population loss, far from balance: U A and A⁻¹ W of the balanced one."""
    u, w = plain_balance(problem.population.teacher, width=6)
    turn = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = torch.eye(6, dtype=torch.float64) * 1.5 + 0.2 * turn
    return {"u": (u @ turn)[None], "w": (torch.linalg.inv(turn) @ w)[None]}


def generic(problem) -> State:
    state = problem.initial_state()
    return {"u": 2.0 * state["u"], "w": 0.5 * state["w"]}


@pytest.fixture(scope="module")
def sgd():
    return shard(batch=BATCH, learning_rate=RATE, seeds=tuple(range(RUNS)), steps=STEPS)


def rotated() -> torch.Tensor:
    """A symmetric A with all its eigenvalues near 1, so that no draws cancel."""
    drawn = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.eye(6, dtype=torch.float64) + 0.1 * (drawn + drawn.T)


class TestNoetherCharge:
    """E[ΔC] = η²(Tr[Σ Q]/S + ∇Lᵀ Q ∇L), C = Tr[A (Uᵀ U − W Wᵀ)], of real steps."""

    @pytest.mark.parametrize("place", [minimum, generic])
    @pytest.mark.parametrize("turned", [False, True], ids=["norms", "a rotated charge"])
    def test_the_mean_over_many_draws_is_the_predicted_step(self, sgd, place, turned):
        state, law = place(sgd), sgd.population
        a = rotated() if turned else torch.eye(6, dtype=torch.float64)
        q = matrix_symmetry("u", "w", a)
        moved = draws(sgd, state, lambda params: noether_charge(params, q))
        u, w = state["u"][0], state["w"][0]
        covariances = law.teacher, law.input_covariance, law.noise_covariance
        gradient = population_gradient(u, w, law.teacher, law.input_covariance)
        second = gaussian_gammas(u, w, *covariances)
        noise = two_layer_noise_trace(u, w, *second, gradient, a)
        predicted = noether_step(noise, RATE, BATCH)
        error = moved.std() / math.sqrt(len(moved))
        assert error < 0.02 * abs(predicted)
        assert abs(moved.mean() - predicted) < 4 * error
        # What two simpler laws leave out is far more than the draws' scatter: at a generic point
        # the discrete-time term, and where the factors are anisotropic the weights.
        if place is generic:
            without = predicted - RATE**2 * noise.gradient
            assert abs(moved.mean() - without) > 10 * error
        else:
            assert abs(noise.gradient) < 1e-12 * abs(noise.covariance)
            plain = two_layer_noise_trace(u, w, *unweighted(second), gradient, a)
            assert abs(moved.mean() - noether_step(plain, RATE, BATCH)) > 4 * error

    def test_gradient_descent_moves_it_by_the_discrete_term_alone(self):
        problem = shard(batch=None, learning_rate=RATE)
        state = problem.initial_state()
        before = charges(state)
        gradient = population_gradient(state["u"], state["w"], *law_of(problem))
        after = charges(problem.step(state, 0).state)
        discrete = RATE**2 * charges({"u": gradient[0], "w": gradient[1]})
        torch.testing.assert_close(after - before, discrete, rtol=1e-9, atol=1e-12)


def unweighted(second: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Isotropic Γ of the same trace."""
    plain_u, plain_w = unweighted_gammas(*(gamma[None] for gamma in second))
    return plain_u[0], plain_w[0]


def law_of(problem) -> tuple[torch.Tensor, torch.Tensor]:
    return problem.population.teacher, problem.population.input_covariance


def charges(state: State) -> torch.Tensor:
    """‖U‖² − ‖W‖² of each run."""
    return state["u"].square().sum((1, 2)) - state["w"].square().sum((1, 2))


NETS = {
    "net_a": {"kind": "scale_invariant", "normalisation": "global"},
    "net_b": {"kind": "scale_invariant", "normalisation": "layer"},
}


def norms(state: State) -> torch.Tensor:
    """‖θ‖² of each run."""
    return torch.stack([t.square().flatten(1).sum(1) for t in state.values()]).sum(0)


class TestScaleInvariance:
    """θ·∇ℓ = 0 for every sample, so that ‖θ‖² grows by η²‖g‖² a step and never shrinks."""

    @pytest.mark.parametrize("net", NETS)
    def test_a_step_adds_the_square_of_its_gradient(self, net):
        problem = shard(model=NETS[net], batch=BATCH, learning_rate=0.1)
        state = problem.initial_state()
        for step in range(20):
            found = problem.loss_and_gradient(state, *problem.batch(step))
            after = problem.step(state, step).state
            added = 0.1**2 * norms(dict(found.gradients))
            torch.testing.assert_close(norms(after) - norms(state), added, rtol=1e-9, atol=1e-13)
            state = after

    @pytest.mark.parametrize("net", NETS)
    def test_the_mean_increment_over_the_batches_of_a_dataset_is_exact(self, net):
        """Σ over all samples, batches drawn from them: no estimate on the predicted side."""
        options = {"model": NETS[net], "batch": BATCH, "learning_rate": 0.05}
        problem = shard(population(samples=12), seeds=(0,), **options)
        inputs, targets = problem.inputs[0], problem.targets[0]
        state = problem.initial_state()
        params = {name: t[0] for name, t in state.items()}

        def loss(one, x, y):
            whole = {name: t[None] for name, t in one.items()}
            return problem.loss(problem.model(whole, x[None, None]), y[None, None])[0]

        a = torch.eye(sum(t.numel() for t in params.values()), dtype=torch.float64)
        predicted = noether_step(noise_trace(loss, params, a, inputs, targets), 0.05, BATCH)
        start = norms(state)
        found = torch.cat([norms(problem.step(state, s).state) - start for s in range(3000)])
        error = found.std() / math.sqrt(len(found))
        assert error < 0.03 * predicted
        assert abs(found.mean() - predicted) < 4 * error

    def test_the_measured_prediction_is_that_of_the_next_step(self):
        options = {"model": NETS["net_b"], "batch": BATCH, "learning_rate": 0.05}
        problem = shard(seeds=tuple(range(RUNS)), **options)
        state = problem.initial_state()
        chosen = specs.measurements(norm_growth={"every": 1, "samples": 4000})
        single = shard(seeds=(0,), steps=1, **options)
        table = evaluate(single, [0, 1], train(single).states.__getitem__, chosen).table
        predicted = table.set_index(["quantity", "step"])["value"]["norm_increment_predicted", 0]
        start = everywhere(state)
        found = torch.cat(
            [norms(problem.step(start, step).state) - norms(start) for step in range(STEPS)]
        )
        assert float(found.mean()) == pytest.approx(predicted, rel=0.05)


class TestWeightDecay:
    """Under gradient descent with decay γ, C⁺ = (1 − ηγ)² C + η²(‖∇_U‖² − ‖∇_W‖²)."""

    def test_a_step_shrinks_the_charge_up_to_the_discrete_term(self):
        for decay in (0.0, 0.1, 2.0):
            problem = shard(batch=None, weight_decay=decay, learning_rate=RATE)
            state = generic(problem)
            for step in range(10):
                gradient = population_gradient(state["u"], state["w"], *law_of(problem))
                discrete = RATE**2 * charges({"u": gradient[0], "w": gradient[1]})
                after = problem.step(state, step).state
                shrunk = (1 - RATE * decay) ** 2 * charges(state)
                torch.testing.assert_close(charges(after), shrunk + discrete)
                state = after

    def test_over_a_time_it_decays_exponentially_up_to_the_learning_rate(self):
        """The remainder over a fixed time t = ηk is of order η: half the rate, half of it."""
        decay, remainders = 0.5, []
        for rate in (0.004, 0.002, 0.001):
            steps = round(0.8 / rate)
            problem = shard(batch=None, weight_decay=decay, learning_rate=rate, steps=steps)
            start = problem.initial_state()
            left = charges(problem.advance(start, 0, steps).state) / charges(start)
            remainders.append((left - (1 - rate * decay) ** (2 * steps)).abs())
        for coarse, fine in itertools.pairwise(remainders):
            torch.testing.assert_close(coarse / fine, torch.full_like(fine, 2.0), rtol=0.1, atol=0)
        assert remainders[-1].max() < 0.05 * math.exp(-2 * decay * 0.8)

    def test_it_balances_the_layers_in_the_end(self):
        problem = shard(batch=None, weight_decay=0.3, learning_rate=0.05, steps=800)
        start = {"u": 2 * problem.initial_state()["u"], "w": problem.initial_state()["w"]}
        end = problem.advance(start, 0, 800).state
        assert torch.all(charges(end).abs() < 1e-6 * charges(start).abs())
        assert torch.all(norms(end) > 0.1)


class TestAtAMinimum:
    """Gradient descent stays at a minimum of the population loss, and Tr H where it was."""

    @pytest.mark.parametrize("place", [minimum, "balanced"])
    def test_gradient_descent_does_not_move(self, place):
        problem = shard(model={"initialisation": "balanced"}, batch=None, learning_rate=RATE)
        state = problem.initial_state() if place == "balanced" else everywhere(place(problem), 3)
        trace = torch.func.vmap(
            lambda u, w: hessian_trace(u, w, problem.population.input_covariance)
        )
        before = trace(state["u"], state["w"])
        after = problem.advance(state, 0, 120).state
        torch.testing.assert_close(trace(after["u"], after["w"]), before, rtol=1e-10, atol=0)
        torch.testing.assert_close(after["u"], state["u"], rtol=0, atol=1e-10)

    def test_stochastic_gradient_descent_does(self):
        problem = shard(model={"initialisation": "balanced"}, batch=BATCH, learning_rate=RATE)
        state = problem.initial_state()
        after = problem.advance(state, 0, 120).state
        sigma = problem.population.input_covariance
        for run in range(3):
            before = hessian_trace(state["u"][run], state["w"][run], sigma)
            moved = hessian_trace(after["u"][run], after["w"][run], sigma) / before
            assert abs(moved - 1) > 0.01
