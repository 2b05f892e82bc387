"""All that the symmetry package and the training-loop tools compute, on a device that is no CPU."""

import fake_device
import pytest
import torch

from sharpflow import symmetry
from sharpflow.curvature import ModelCurvature, SharpnessTracker, batch_sharpness, sharpness
from sharpflow.curvature.monitor import SharpnessMonitor


@pytest.fixture
def device():
    with fake_device.available() as name:
        yield name


def draw(name, *shape, seed=0):
    source = torch.Generator().manual_seed(seed + 17 * sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=source).to(name)


def definite(name, size, seed):
    root = draw(name, size, size, seed=seed)
    return root @ root.mT + torch.eye(size, dtype=torch.float64).to(name)


class Given:
    """Factors of 3 × 4 and 4 × 5, second moments, samples and a loss with their symmetry."""

    def __init__(self, name):
        self.name = name
        self.u, self.w = draw(name, 3, 4), draw(name, 4, 5)
        self.params = {"u": self.u, "w": self.w}
        self.gammas = definite(name, 3, 1), definite(name, 5, 2)
        self.sigma_x, self.sigma_noise = definite(name, 5, 3), definite(name, 3, 4)
        self.teacher = draw(name, 3, 5, seed=1)
        self.inputs, self.targets = draw(name, 20, 5), draw(name, 20, 3)
        self.symmetric = self.u.mT @ self.u
        self.q = symmetry.rescaling("u", "w")
        self.gradient = symmetry.population_gradient(self.u, self.w, self.teacher, self.sigma_x)
        self.noise = symmetry.two_layer_noise_trace(self.u, self.w, *self.gammas, self.gradient)

    @staticmethod
    def loss(params, x, y):
        return ((params["u"] @ params["w"] @ x - y) ** 2).sum()

    def whole(self, params, x, y):
        return torch.func.vmap(self.loss, (None, 0, 0))(params, x, y).mean()


def pair(name):
    """A model of two layers, its loss, and data, on a device."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    model = model.double()
    with torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            parameter.copy_(draw("cpu", *parameter.shape, seed=place))
    return model.to(name), torch.nn.functional.mse_loss, draw(name, 20, 5), draw(name, 20, 3)


def balanced(s, g, law=None):
    """The noise of both sides of the model's symmetry, or what a law makes of it."""
    (noise,) = s.noise_balance(*pair(g.name)).symmetries
    sgd = s.Sgd(0.01, 4, momentum=0.5, weight_decay=0.1)
    return [noise.outer, noise.inner, noise.charge] if law is None else getattr(s, law)(noise, sgd)


def trained(s, g):
    """Adam's balance after three steps."""
    model, loss, inputs, targets = pair(g.name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        loss(model(inputs), targets).backward()
        optimiser.step()
    (found,) = s.adam_balance(model, optimiser).symmetries
    return [found.outer, found.inner, found.charge]


def sums_of(s, g):
    squares = {name: value.square() for name, value in g.params.items()}
    (found,) = s.symmetries_of(lambda p: p["u"] @ p["w"], g.params)
    return s.adam_sums(found, g.params, s.adam_squares(squares, 0.9, 3), 0.1)


def gathered(s, g):
    (found,) = s.symmetries_of(lambda p: p["u"] @ p["w"], g.params)
    moments = s.GradientMoments([found])
    moments.add({"u": draw(g.name, 6, 3, 4), "w": draw(g.name, 6, 4, 5)})
    return moments.noise(0)


def moved(generator, given):
    return [*generator.apply(given.params).values(), *generator.flow(given.params, 0.3).values()]


CALLS = {
    "GradientMoments": gathered,
    "adam_balance": trained,
    "adam_charge_step": lambda s, g: s.adam_charge_step(sums_of(s, g), 0.01, 0.1),
    "adam_equilibrium_charge": lambda s, g: s.adam_equilibrium_charge(sums_of(s, g), 0.01, 0.1),
    "adam_relaxation_steps": lambda s, g: s.adam_relaxation_steps(sums_of(s, g), 0.01, 0.9, 0.1),
    "adam_squares": lambda s, g: s.adam_squares({"u": g.u.square()}, 0.9, 3).values(),
    "adam_sums": lambda s, g: [sums_of(s, g).outer, sums_of(s, g).charge],
    "charge_drift": lambda s, g: balanced(s, g, "charge_drift"),
    "deep_gaussian_gammas": lambda s, g: s.deep_gaussian_gammas(
        [g.w, g.u], g.teacher, g.sigma_x, g.sigma_noise
    )[0],
    "deep_noise_equilibrium": lambda s, g: [
        each.mT @ each for each in s.deep_noise_equilibrium(g.teacher, g.sigma_x, g.sigma_noise, 2)
    ],
    "equilibrium_charge": lambda s, g: balanced(s, g, "equilibrium_charge"),
    "find_symmetries": lambda s, g: [
        each.charge(dict(pair(g.name)[0].named_parameters())).detach()
        for each in s.find_symmetries(pair(g.name)[0], pair(g.name)[2])
    ],
    "noise_balance": balanced,
    "relaxation_steps": lambda s, g: balanced(s, g, "relaxation_steps"),
    "sustained_charge": lambda s, g: balanced(s, g, "sustained_charge"),
    "symmetries_of": lambda s, g: [
        each.charge(g.params) for each in s.symmetries_of(lambda p: p["u"] @ p["w"], g.params)
    ],
    "alignment": lambda s, g: s.alignment(g.u, g.u + 1),
    "dense": lambda s, g: s.noether_charge({"a": g.u[0]}, s.dense(definite(g.name, 4, 5))),
    "dense_noise_trace": lambda s, g: s.dense_noise_trace(
        definite(g.name, 4, 6), g.u[0], g.symmetric
    ),
    "gammas": lambda s, g: s.gammas(g.u, g.w, g.inputs, g.targets),
    "gaussian_gammas": lambda s, g: s.gaussian_gammas(
        g.u, g.w, g.teacher, g.sigma_x, g.sigma_noise
    ),
    "gradient_covariance": lambda s, g: s.gradient_covariance(
        g.loss, g.params, g.inputs, g.targets, chunk_size=7
    ),
    "hessian_trace": lambda s, g: s.hessian_trace(g.u, g.w, g.sigma_x),
    "is_symmetry": lambda s, g: torch.tensor(
        s.is_symmetry(g.whole, g.params, g.q, g.inputs, g.targets)
    ),
    "matrix_symmetry": lambda s, g: moved(s.matrix_symmetry("u", "w", g.symmetric), g),
    "noether_charge": lambda s, g: s.noether_charge(g.params, g.q),
    "noether_flow_rate": lambda s, g: s.noether_flow_rate(g.noise, 0.01, 5),
    "noether_path": lambda s, g: [
        factor for pair in s.noether_path(g.u, g.w, *g.gammas, 0.01, 5, [0, 10]) for factor in pair
    ],
    "noether_step": lambda s, g: s.noether_step(g.noise, 0.01, 5, 20),
    "noise_equilibrium": lambda s, g: [
        factor.abs() for factor in s.noise_equilibrium(g.teacher, *g.gammas)
    ],
    "noise_imbalance": lambda s, g: s.noise_imbalance(g.u, g.w, *g.gammas),
    "noise_trace": lambda s, g: s.noise_trace(g.loss, g.params, g.q, g.inputs, g.targets),
    "per_sample_gradients": lambda s, g: list(
        s.per_sample_gradients(g.loss, g.params, g.inputs, g.targets).values()
    ),
    "plain_balance": lambda s, g: [factor.abs() for factor in s.plain_balance(g.teacher)],
    "population_gradient": lambda s, g: g.gradient,
    "population_loss": lambda s, g: s.population_loss(
        g.u, g.w, g.teacher, g.sigma_x, g.sigma_noise
    ),
    "rescaling": lambda s, g: moved(s.rescaling("u", "w"), g),
    "residual_gammas": lambda s, g: s.residual_gammas(g.inputs, g.targets),
    "scale": lambda s, g: moved(s.scale(["u", "w"]), g),
    "stationary_gammas": lambda s, g: s.stationary_gammas(g.sigma_x, g.sigma_noise),
    "symmetry_deviation": lambda s, g: torch.tensor(
        s.symmetry_deviation(g.whole, g.params, s.scale(["u", "w"]), g.inputs, g.targets)
    ),
    "two_layer_noise_trace": lambda s, g: g.noise,
    "weighted": lambda s, g: moved(s.weighted({"u": 2.0, "w": -1.0}), g),
    "weighted_grams": lambda s, g: s.weighted_grams(g.u, g.w, *g.gammas),
}
APART = {
    *("Generator", "NoiseTrace", "sample_loss", "Sgd", "Slots", "Symmetry", "Symmetries", "Broken"),
    *("SymmetryNoise", "NoiseBalance", "AdamNoise", "AdamBalance", "AdamSums"),
}
"""What computes nothing by itself."""


def test_nothing_public_is_left_out():
    assert CALLS.keys() | APART == set(symmetry.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_symmetry_gives_the_cpus_numbers(name, device):
    def flat(result):
        return [result] if isinstance(result, torch.Tensor) else list(result)

    there = flat(CALLS[name](symmetry, Given(device)))
    here = flat(CALLS[name](symmetry, Given("cpu")))
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-8, atol=1e-10)


# --- data in batches, and a training loop


def problem(name):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    inputs, targets = draw(name, 12, 4), torch.arange(12).to(name) % 3
    batches = list(zip(inputs.split(4), targets.split(4), strict=True))
    return model.double().to(name), batches


def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])


def streamed_operators(name):
    model, batches = problem(name)
    curvature = ModelCurvature(
        model, torch.nn.functional.cross_entropy, batches, forward=lambda m, batch: m(batch[0])
    )
    operators = [curvature.hessian(), curvature.gauss_newton(), curvature.empirical_fisher()]
    operators += [curvature.noise_covariance(), curvature.monte_carlo_fisher(draws=2)]
    return [(each @ draw(name, each.shape[0])).norm() for each in operators]


def streamed_measurements(name):
    model, batches = problem(name)
    found = batch_sharpness(model, loss, batches)
    return [
        torch.tensor(sharpness(model, loss, batches)),
        torch.tensor([found.mean_of_ratios, found.ratio_of_means]),
    ]


def monitored(name):
    model, batches = problem(name)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    tracker = SharpnessTracker(model, loss, batches, optimiser=optimiser)
    monitor = SharpnessMonitor(tracker, every=2)
    for batch in batches * 2:
        optimiser.zero_grad()
        loss(model, batch).backward()
        optimiser.step()
        monitor.step()
    return [torch.tensor([*record.values, record.threshold]) for record in monitor.records]


@pytest.mark.parametrize("follow", [streamed_operators, streamed_measurements, monitored])
def test_data_in_batches_gives_the_cpus_numbers(follow, device):
    there, here = follow(device), follow("cpu")
    assert len(there) == len(here) > 0
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-6, atol=1e-10)
