"""Adam's noise equilibrium: drift of a step, least Σ√v on the orbit, decay, relaxation."""

import pytest
import torch
from torch.func import grad, vmap

from sharpflow.symmetry import (
    Slots,
    Symmetry,
    adam_charge_step,
    adam_equilibrium_charge,
    adam_relaxation_steps,
    adam_squares,
    adam_sums,
)

UNITS, INPUTS, OUTPUTS = 6, 9, 4
ETA, EPSILON, DECAY = 0.01, 0.03, 0.2
EACH = torch.arange(UNITS)[:, None]
SYMMETRY = Symmetry("rescaling", (Slots("u", 2, -1, EACH),), (Slots("w", 2, -2, EACH),))


def loss(params, inputs, targets):
    hidden = (inputs @ params["w"].T).relu()
    return (hidden @ params["u"].T - targets).square().sum(-1).mean()


def drawn(seed):
    """Parameters of a ReLU network, and batches (many, 5, ·) of inputs and targets."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    params = {"w": 0.5 * normal(UNITS, INPUTS), "u": 0.8 * normal(OUTPUTS, UNITS)}
    return params, normal(400, 5, INPUTS), normal(400, 5, OUTPUTS)


def batch_gradients(params, inputs, targets):
    return vmap(grad(loss), in_dims=(None, 0, 0))(params, inputs, targets)


def powers(params, inputs, targets):
    """E[ĝ²] by parameter over the batches."""
    found = batch_gradients(params, inputs, targets)
    return {name: gradient.square().mean(0) for name, gradient in found.items()}


def weighed(params, metric):
    """Σ Dθ² of each unit's outer entries, less that of its inner ones."""
    heavy = {name: metric[name] * params[name].square() for name in params}
    return heavy["u"].sum(-2) - heavy["w"].sum(-1)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("seed", [0, 1])
def test_mean_step_of_the_charge_over_batches(seed, decay):
    params, inputs, targets = drawn(seed)
    gradients = batch_gradients(params, inputs, targets)
    squares = {name: t.square() + 0.1 for name, t in drawn(seed + 10)[0].items()}
    metric = {name: v.sqrt() + EPSILON for name, v in squares.items()}
    moved = {n: (1 - ETA * decay) * params[n] - ETA * gradients[n] / metric[n] for n in params}
    found = (weighed(moved, metric) - weighed(params, metric)).mean(0)
    noise = {name: gradient.square().mean(0) for name, gradient in gradients.items()}
    sums = adam_sums(SYMMETRY, params, squares, EPSILON, noise)
    torch.testing.assert_close(found, adam_charge_step(sums, ETA, decay), rtol=1e-7, atol=1e-12)
    other = adam_sums(SYMMETRY, params, squares, 10 * EPSILON, noise)
    assert not torch.allclose(found, adam_charge_step(other, ETA, decay), rtol=1e-2)


def test_decay_in_the_gradient_pulls_the_plain_charge():
    params, inputs, targets = drawn(2)
    gradients = batch_gradients(params, inputs, targets)
    gradients = {n: g + DECAY * params[n] for n, g in gradients.items()}
    noise = {n: g.square().mean(0) for n, g in gradients.items()}
    metric = {n: v.sqrt() + EPSILON for n, v in noise.items()}
    moved = {n: params[n] - ETA * gradients[n] / metric[n] for n in params}
    found = (weighed(moved, metric) - weighed(params, metric)).mean(0)
    sums = adam_sums(SYMMETRY, params, noise, EPSILON)
    rest = adam_equilibrium_charge(sums, ETA, DECAY, decoupled=False)
    torch.testing.assert_close(found, 2 * ETA * DECAY * (rest - sums.plain_charge))


def test_at_the_equilibrium_charge_nothing_moves():
    params, inputs, targets = drawn(3)
    sums = adam_sums(SYMMETRY, params, powers(params, inputs, targets), EPSILON)
    rest = adam_equilibrium_charge(sums, ETA, DECAY)
    still = type(sums)(**{**vars(sums), "charge": rest})
    assert adam_charge_step(still, ETA, DECAY).abs().max() < 1e-15
    assert adam_charge_step(sums, ETA, DECAY).abs().min() > 1e-9


def test_balance_is_the_least_sum_of_roots_on_the_orbit():
    params, inputs, targets = drawn(4)

    def at(shift):
        moved = SYMMETRY.moved(params, shift)
        return adam_sums(SYMMETRY, moved, powers(moved, inputs, targets))

    start = at(torch.zeros(UNITS))
    balance = 0.5 * (start.outer / start.inner).log()
    ends = at(balance)
    assert start.imbalance.abs().min() > 1e-2
    assert ends.imbalance.abs().max() < 1e-12
    least = ends.outer + ends.inner
    for shift in (-0.1, 0.1):
        near = at(balance + shift)
        assert bool((near.outer + near.inner > least).all())


def test_the_charge_in_a_metric_that_follows_moves_half_as_much_as_in_one_that_stands():
    params, inputs, targets = drawn(4)
    shift, tiny = torch.ones(UNITS), 1e-6
    moved = SYMMETRY.moved(params, tiny * shift)
    here, there = powers(params, inputs, targets), powers(moved, inputs, targets)
    start = adam_sums(SYMMETRY, params, here)
    follows = (adam_sums(SYMMETRY, moved, there).charge - start.charge) / tiny
    stands = (adam_sums(SYMMETRY, moved, here).charge - start.charge) / tiny
    torch.testing.assert_close(follows, start.size, rtol=1e-5, atol=0)
    torch.testing.assert_close(stands, 2 * start.size, rtol=1e-5, atol=0)


def test_balance_under_adam_is_not_that_under_sgd():
    params, inputs, targets = drawn(5)
    start = adam_sums(SYMMETRY, params, powers(params, inputs, targets))
    params = SYMMETRY.moved(params, 0.5 * (start.outer / start.inner).log())
    outer, inner = SYMMETRY.grams(
        {n: g.mean(0) for n, g in _squared(params, inputs, targets).items()},
        {n: torch.ones_like(p) for n, p in params.items()},
    )
    assert ((outer - inner) / (outer + inner)).mean() > 0.2


def _squared(params, inputs, targets):
    return {n: g.square() for n, g in batch_gradients(params, inputs, targets).items()}


def test_large_epsilon_gives_the_equilibrium_and_time_of_sgd():
    params, inputs, targets = drawn(6)
    noise = powers(params, inputs, targets)
    sums = adam_sums(SYMMETRY, params, noise, 1e6)
    torch.testing.assert_close(1e6 * sums.outer, noise["u"].sum(-2), rtol=1e-4, atol=0)
    size = params["u"].square().sum(-2) + params["w"].square().sum(-1)
    total = noise["u"].sum(-2) + noise["w"].sum(-1)
    expected = 1e12 * size / (ETA**2 * total)
    torch.testing.assert_close(adam_relaxation_steps(sums, ETA, 0.999), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_relaxation_is_that_of_the_two_variables(decay):
    params, inputs, targets = drawn(7)
    sums = adam_sums(SYMMETRY, params, powers(params, inputs, targets), 0.3)
    found = adam_relaxation_steps(sums, 0.05, 0.99, decay)
    half = 0.05**2 / (2 * sums.size)
    for unit in range(UNITS):
        a = half[unit] * (sums.outer + sums.inner)[unit] + 0.05 * decay
        b = half[unit] * sums.adaptive_noise[unit]
        b = b + 0.05 * decay * (sums.adaptive_size / sums.size)[unit]
        matrix = torch.stack(
            [torch.stack([-2 * a, b]), torch.tensor([0.01, -0.01], dtype=torch.float64)]
        )
        slowest = torch.linalg.eigvals(matrix).real.max()
        torch.testing.assert_close(found[unit], -1 / slowest, rtol=1e-9, atol=0)


def test_fast_memory_gives_twice_the_weights_over_the_noise():
    params, inputs, targets = drawn(8)
    sums = adam_sums(SYMMETRY, params, powers(params, inputs, targets))
    expected = 2 * sums.size / (1e-5**2 * (sums.outer + sums.inner))
    torch.testing.assert_close(adam_relaxation_steps(sums, 1e-5, 0.9), expected, rtol=1e-6, atol=0)


def test_units_that_are_read_as_squares():
    """All of it follows from the step of C_D along the orbit, O → e^{2λ} O and I → e^{−λ} I."""
    squared = Symmetry("rescaling", SYMMETRY.outer, SYMMETRY.inner, 2)
    params, inputs, targets = drawn(9)

    def loss_of_squares(params, inputs, targets):
        hidden = (inputs @ params["w"].T).relu().square()
        return (hidden @ params["u"].T - targets).square().sum(-1).mean()

    def powers_at(params):
        found = vmap(grad(loss_of_squares), in_dims=(None, 0, 0))(params, inputs, targets)
        return {name: gradient.square().mean(0) for name, gradient in found.items()}

    tiny, here = 1e-6, powers_at(params)
    moved = squared.moved(params, tiny * torch.ones(UNITS))
    start = adam_sums(squared, params, here, EPSILON)
    charge = adam_sums(squared, moved, here, EPSILON).charge
    torch.testing.assert_close((charge - start.charge) / tiny, 2 * start.size, rtol=1e-5, atol=0)
    stands = adam_sums(squared, params, here, EPSILON, noise=powers_at(moved))
    push = (stands.outer - stands.inner) - (start.outer - start.inner)
    torch.testing.assert_close(push / tiny, -2 * start.noise, rtol=1e-5, atol=0)
    rate = ETA**2 * start.noise / start.size  # of a metric that stands
    slow = adam_relaxation_steps(adam_sums(squared, params, here, 1e9), ETA, 0.9)
    still = adam_sums(squared, params, here, 1e9)
    torch.testing.assert_close(slow, still.size / (ETA**2 * still.noise), rtol=1e-4, atol=0)
    found = adam_relaxation_steps(start, ETA, 0.9)
    assert bool((found > 1 / rate).all())  # a metric that follows slows it down


def test_displacement_decays_as_adam_itself_does():
    """The equations of motion of v and of one unit's scales, stepped without their fluctuations."""
    out, into, eta, beta2 = 2.0, 3.0, 0.02, 0.99
    theta = torch.tensor([0.3, 0.4], dtype=torch.float64)  # of the outer and of the inner side
    noise = torch.tensor([into / out, 1.0], dtype=torch.float64) * 0.7  # √E[ĝ²] of an entry
    counts = torch.tensor([out, into], dtype=torch.float64)
    sign, squares, shift, path = torch.tensor([1.0, -1.0]), noise.square(), 0.01, []
    squares = squares * torch.exp(-2 * shift * sign)
    for _ in range(2000):
        power = noise.square() * torch.exp(-2 * shift * sign)
        squares = beta2 * squares + (1 - beta2) * power
        metric = squares.sqrt()
        size = (counts * metric * theta.square() * torch.exp(2 * shift * sign)).sum()
        shift = shift + float(eta**2 * (counts * sign * power / metric).sum() / (2 * size))
        path.append(shift)
    unit = Symmetry(
        "rescaling",
        (Slots("u", 1, -1, torch.arange(2)[None]),),
        (Slots("w", 1, -1, torch.arange(3)[None]),),
    )
    params = {"u": theta[0].expand(2), "w": theta[1].expand(3)}
    sums = adam_sums(
        unit, params, {"u": noise[0].square().expand(2), "w": noise[1].square().expand(3)}
    )
    steps = 1000 / torch.tensor(path[999] / path[1999]).log()
    assert float(adam_relaxation_steps(sums, eta, beta2)) == pytest.approx(float(steps), rel=0.01)


def test_rotations_count_unit_by_unit_and_a_scale_has_no_inner_side():
    params, inputs, targets = drawn(9)
    noise = powers(params, inputs, targets)
    rotation = Symmetry("rotation", SYMMETRY.outer, SYMMETRY.inner)
    assert torch.equal(
        adam_sums(rotation, params, noise).outer, adam_sums(SYMMETRY, params, noise).outer
    )
    alone = adam_sums(Symmetry("scale", SYMMETRY.inner), params, noise)
    assert bool((alone.inner == 0).all() and (alone.outer > 0).all())
    assert bool((adam_charge_step(alone, ETA) > 0).all())


def test_a_unit_that_never_had_a_gradient_stays():
    params, inputs, targets = drawn(1)
    noise = powers(params, inputs, targets)
    noise["w"][2] = 0.0
    noise["u"][:, 2] = 0.0
    sums = adam_sums(SYMMETRY, params, noise)
    assert adam_charge_step(sums, ETA)[2] == 0.0
    assert bool(sums.imbalance[2].isnan())
    assert bool(sums.imbalance.isfinite().sum() == UNITS - 1)


def test_squares_lose_their_bias():
    found = adam_squares({"w": torch.tensor([0.19])}, 0.9, 2)
    torch.testing.assert_close(found["w"], torch.tensor([1.0]))


def test_what_cannot_be_is_refused():
    params, inputs, targets = drawn(0)
    noise = powers(params, inputs, targets)
    sums = adam_sums(SYMMETRY, params, noise)
    with pytest.raises(ValueError, match="step is 0"):
        adam_squares(noise, 0.9, 0)
    with pytest.raises(ValueError, match="beta2 must be in"):
        adam_relaxation_steps(sums, ETA, 1.0)
    with pytest.raises(ValueError, match="epsilon is -"):
        adam_sums(SYMMETRY, params, noise, -1e-8)
    with pytest.raises(ValueError, match="those of u are"):
        adam_sums(SYMMETRY, params, {**noise, "u": -noise["u"]})
    with pytest.raises(ValueError, match="weight_decay"):
        adam_equilibrium_charge(sums, ETA, 0.0)
    with pytest.raises(ValueError, match="weight_decay is -"):
        adam_charge_step(sums, ETA, -0.1)
