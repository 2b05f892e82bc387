"""Run tables of the ziyin2024 experiments, made from the formulas of symmetry.predictions."""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from sharpflow.symmetry import predictions

SEEDS = 5
PHIS = (0.1, 0.75, 1, 1.5)
KS = (0, 0.5, 1, 1.5, 2)
BATCHES = (25, 100, 400)
INPUTS = (5, 20)
CASES = {
    f"batch_{size}": {"data": {"inputs": 10}, "training": {"batch": size}} for size in BATCHES
} | {f"inputs_{k}": {"data": {"inputs": k}, "training": {"batch": 100}} for k in INPUTS}
DECAY = 0.005
WARMED = 31
"""Inputs at which the closed form of the rank-one factorisation ends at the Tr H of `warmup`."""
CASES |= {
    "net_a_sgd": {"training": {"weight_decay": 0.0}},
    "net_a_decay": {"training": {"weight_decay": DECAY}},
    "sgd_kaiming_warmup": {"data": {"inputs": WARMED}},
    "sgd_xavier": {"data": {"inputs": WARMED}},
}
"""Settings of the cases of which a claim reads some."""
Values = Mapping[str | tuple[str, int], "float | np.ndarray | tuple[int, float]"]


def run(
    case: str, seed: int, steps: np.ndarray, values: Values, width: int = 40, rate: float = 0.01
) -> pd.DataFrame:
    """One run's rows: an array is a curve, a number stands at step 0, a pair at its own step.

    2/η is added as the stability threshold of every step.
    """
    columns: dict[str, list] = {"step": [], "quantity": [], "index": [], "value": []}
    thresholds = {"stability_threshold": np.full(len(steps), 2 / rate)}
    for key, value in (dict(values) | thresholds).items():
        quantity, index = (key, 0) if isinstance(key, str) else key
        if isinstance(value, tuple):
            times, numbers = [value[0]], [value[1]]
        elif np.ndim(value) == 0:
            times, numbers = [0], [value]
        else:
            times, numbers = steps[: len(value)], value
        columns["step"].append(times)
        columns["quantity"].append([quantity] * len(times))
        columns["index"].append([index] * len(times))
        columns["value"].append(numbers)
    frame = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
    frame = frame.astype({"value": float, "step": int})
    return frame.assign(case=case, width=width, learning_rate=rate, seed=seed)


def join(runs: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(runs, ignore_index=True)


def generator(seed: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([2024, seed, *more])


def slug(number: float) -> str:
    return f"{number:g}".replace(".", "_")


def learning(steps: np.ndarray) -> np.ndarray:
    return 30 + 60 * np.exp(-10 * steps / steps[-1])


def factorisation(share=None, seeds: int = SEEDS) -> pd.DataFrame:
    """Decay of the charge from two unbalanced starts; `share(t)` replaces SGD's exponential."""
    steps = np.arange(0, 6001, 150)
    starts = {"small_u": (160.0, 7.5), "small_w": (10.0, 120.0), "balanced": (40.0, 40.0)}
    runs = []
    for seed in range(seeds):
        for place, (start, (w, u)) in enumerate(starts.items()):
            rng = generator(seed, place)
            for method in ("sgd", "gd"):
                rate = 1.2e-3 * (1 + 0.02 * rng.standard_normal()) if method == "sgd" else 0.0
                left = np.exp(-rate * steps)
                if share is not None and method == "sgd":
                    left = share(steps / steps[-1])
                noise = 0.01 * rng.standard_normal((2, steps.size)) * (method == "sgd")
                noise[:, 0] = 0
                if start == "balanced" and method == "gd":
                    w_now = u_now = 40 - 10 * (1 - np.exp(-steps / 300))
                else:
                    w_now, u_now = 30 + (w - 30) * left, 30 + (u - 30) * left
                imbalance = 0.92 * left + 0.05 * (1 - left)
                values = {
                    "loss": learning(steps),
                    ("norm_squared", 0): w_now * (1 + noise[0]),
                    ("norm_squared", 1): u_now * (1 + noise[1]),
                    ("closed_norm_squared", 0): 30.0,
                    ("closed_norm_squared", 1): 30.0,
                    "noise_imbalance": imbalance * (1 + 0.02 * rng.standard_normal(steps.size)),
                } | {
                    ("imbalance_entry", i): 30 * rng.standard_normal() * left
                    + rng.standard_normal(steps.size)
                    for i in range(10)
                }
                runs.append(run(f"{method}_{start}", seed, steps, values))
    return join(runs)


def equilibrium(closed: float = 0.045, plain: float = 0.5, seeds: int = SEEDS) -> pd.DataFrame:
    steps = np.arange(0, 20_001, 1000)
    runs = []
    for seed in range(seeds):
        for case in ("sgd_small_u", "sgd_small_w", "gd_small_u", "gd_small_w"):
            scatter = 1 + 0.05 * generator(seed, len(case)).standard_normal(4)
            mean = (closed, closed, plain, plain) if case.startswith("sgd") else (1.5, 1.2, 2, 1.6)
            ends = np.abs(mean * scatter)
            last = int(steps[-1])
            left = np.exp(-steps / 3000) if case.startswith("sgd") else np.ones(steps.size)
            values = {
                "loss": learning(steps),
                "noise_imbalance": 0.9 * left + 0.06 * (1 - left),
                ("norm_squared", 0): 36.4 * (1 + left),
                ("norm_squared", 1): 36.4 * (1 - 0.5 * left),
                ("equilibrium_error", 0): (last, ends[0]),
                ("equilibrium_error", 1): (last, ends[1]),
                ("plain_balance_error", 0): (last, ends[2]),
                ("plain_balance_error", 1): (last, ends[3]),
            }
            runs.append(run(case, seed, steps, values, rate=0.02))
    return join(runs)


def equilibrium_limit(left: float = 0.01, slope: float = 2.0, seeds: int = SEEDS) -> pd.DataFrame:
    """Errors that fall along a line in η, to `left` at 0."""
    steps = np.arange(0, 20_001, 1000)
    runs = []
    for seed in range(seeds):
        for rate in (0.02, 0.03):
            error = left + slope * rate + 1e-4 * generator(seed, int(1000 * rate)).standard_normal()
            values = {
                "loss": learning(steps),
                ("equilibrium_error", 0): (int(steps[-1]), error),
                ("equilibrium_error", 1): (int(steps[-1]), 0.9 * error),
            }
            runs.append(run("sgd_balanced", seed, steps, values, rate=rate))
    return join(runs)


def deep_linear(
    end: float = 0.03, limit: float = 0.01, spread: float = 0.04, seeds: int = SEEDS
) -> pd.DataFrame:
    """Layers that SGD takes to `end` above their closed form, and to `limit` as η → 0."""
    steps = np.arange(0, 60_001, 600)
    closed, plain, width = (9.0, 7.5, 9.0), 8.0, 4
    cases = {
        "sgd_small_first": (0.01, end, (0.3, 1.1, 3.0)),
        "sgd_small_last": (0.01, end, (3.0, 1.1, 0.3)),
        "gd_small_first": (0.01, None, (0.3, 1.1, 3.0)),
    }
    swept = {("eta", rate): limit + 2.0 * rate for rate in (0.01, 0.02)}
    runs = []
    for seed in range(seeds):
        rng = generator(seed, 17)
        whole = [(case, *own) for case, own in cases.items()]
        whole += [(case, rate, own, (1.0, 1.0, 1.0)) for (case, rate), own in swept.items()]
        for case, rate, level, starts in whole:
            left = np.exp(-steps / 6000) if level is not None else np.ones(steps.size)
            uneven = 0.35 * left + (level is not None) * spread * (1 - left)
            error = level if level is not None else 3.0
            values: dict = {
                "loss": learning(steps),
                ("equilibrium_error", 0): (int(steps[-1]), 1.5 * error),
                ("equilibrium_error", 1): (int(steps[-1]), error),
            }
            for layer, (level_of, start) in enumerate(zip(closed, starts, strict=True)):
                above = (start - 1) * left + (level or 0.0) * (1 - left)
                wiggle = 1 + 1e-3 * rng.standard_normal(steps.size)
                values |= {
                    ("norm_squared", layer): level_of * (1 + above) * wiggle,
                    ("closed_norm_squared", layer): level_of,
                    ("plain_norm_squared", layer): plain,
                    ("singular_value_spread", layer): uneven,
                    ("plain_balance_error", layer % 2): (int(steps[-1]), 0.5),
                }
                for place in range(width):
                    flat = (level_of / width) ** 0.5 * np.ones(steps.size)
                    values[("closed_singular_value", layer * width + place)] = flat[0]
                    tilt = 1 + uneven * (1.5 - place)
                    values[("singular_value", layer * width + place)] = flat * tilt
            runs.append(run(case, seed, steps, values, width, rate))
    return join(runs)


def phi_std(phi: float) -> torch.Tensor:
    variance = torch.tensor([phi] * 5 + [2 - phi] * 5, dtype=torch.float64)
    return variance.sqrt()


def data_covariance(found: str = "weighted", seeds: int = SEEDS) -> pd.DataFrame:
    """Sweep over φ; `found` says where SGD goes: weighted, plain (ratio 1) or nowhere (as GD)."""
    steps = np.arange(0, 10_001, 500)
    settle = 1 - np.exp(-steps / 1200)
    runs = []
    for seed in range(seeds):
        for place, phi in enumerate(PHIS):
            rng = generator(seed, place)
            start = 0.5 + 0.02 * rng.standard_normal()
            for kind in ("sgd", "gd", "sgd_decay", "gd_decay"):
                shift = predictions.weight_decay_shift(1e-3, 0.02, 10) if "decay" in kind else 0.0
                predicted = float(predictions.norm_ratio(phi_std(phi), decay_shift=shift))
                goal = {"gd": 0.85 * start, "gd_decay": 1.0}.get(kind, predicted)
                if kind.startswith("sgd"):
                    goal = {"weighted": goal, "plain": 1.0, "nowhere": 0.85 * start}[found]
                ratio = start + (goal * (1 + 0.004 * rng.standard_normal()) - start) * settle
                ratio = np.where(steps < 8000, ratio, goal) if kind == "gd_decay" else ratio
                drift = 0.6 if kind.startswith("sgd") else 0.98
                inner = 40 - 20 * settle
                if kind == "gd":
                    inner = (20 - 40) / (ratio - 1) * (1 - 0.02 * settle)
                values = {
                    "loss": learning(steps),
                    ("norm_squared", 0): inner,
                    ("norm_squared", 1): inner * ratio,
                    "norm_ratio_predicted": predicted,
                    "hessian_trace": 1200 * (1 + (drift - 1) * settle),
                }
                runs.append(run(f"{kind}_phi_{slug(phi)}", seed, steps, values, 20, 0.02))
    return join(runs)


def sharpening(reached: float = 0.95, seeds: int = SEEDS, bend: float = 0.1) -> pd.DataFrame:
    """Tr H from balance; `reached` is the share of the flow's logarithm that SGD gets as η → 0.

    At η = 0.03 it gets `bend` more, at half of it half as much more.
    """
    steps = np.arange(0, 16_001, 400)
    eye = torch.eye(10, dtype=torch.float64)
    x_std = torch.tensor([1.8] * 5 + [0.2] * 5, dtype=torch.float64).sqrt()
    runs = []
    for seed in range(seeds):
        for k, rate in itertools.product(KS, (0.03, 0.015)):
            rng = generator(seed, int(10 * k), int(1000 * rate))
            noise = x_std**k
            noise = noise / noise.square().mean().sqrt()
            ratio = float(
                predictions.sharpening_ratio(eye, x_std.square().diag(), noise.square().diag())
            )
            flow = np.log(ratio) * (1 - np.exp(-steps * (rate / 0.03) ** 2 / 2500))
            for method in ("sgd", "gd"):
                share = reached + bend * rate / 0.03 if method == "sgd" else 0.0
                wiggle = 1 + 0.001 * rng.standard_normal(steps.size) * (method == "sgd")
                wiggle[0] = 1
                values = {
                    "loss": learning(steps),
                    "hessian_trace": 400 * np.exp(share * flow) * wiggle,
                    "hessian_trace_flow": 400 * np.exp(flow),
                    "hessian_trace_predicted": 400 * ratio,
                }
                runs.append(run(f"{method}_k_{slug(k)}", seed, steps, values, 10, rate))
    return join(runs)


def warmup(diverging: int = SEEDS, ratio: float = 1.0, seeds: int = SEEDS) -> pd.DataFrame:
    """`diverging` seeds of the constant rate diverge; `ratio` of the two ends."""
    steps = np.arange(0, 15_001, 250)
    runs = []
    for seed in range(seeds):
        rng = generator(seed)
        flow = 130 + 2800 * np.exp(-steps / 2000) * (1 + 0.1 * rng.random())
        wiggle = 1 + 0.1 * rng.standard_normal(steps.size)
        stable = {
            "sgd_kaiming_warmup": flow * wiggle * ratio,
            "sgd_xavier": (130 + 300 * np.exp(-steps / 400)) * np.roll(wiggle, 1),
            "gd_kaiming": 2812 - 13 * (1 - np.exp(-steps / 100)) + 30 * rng.standard_normal(),
        }
        for case, trace in stable.items():
            values = {"loss": learning(steps), "hessian_trace": trace}
            runs.append(run(case, seed, steps, values, 1, 0.008))
        gone = np.where(steps < 500, 3000.0 + 4000 * (steps > 0), np.nan)
        loss = np.where(steps < 500, 100.0, np.nan)
        values = {"loss": loss, "hessian_trace": gone, "diverged_step": (500, 500.0)}
        if seed >= diverging:
            values = {"loss": learning(steps), "hessian_trace": flow}
        runs.append(run("sgd_kaiming_constant", seed, steps, values, 1, 0.008))
    return join(runs)


def warmup_pictures(
    level: float = 1.0, seeds: int = SEEDS, diverging: int = SEEDS, ratio: float = 1.0
) -> pd.DataFrame:
    """`warmup`, with the Tr H of the noise equilibrium at the end over `level`."""
    table = warmup(diverging, ratio, seeds)
    traced = table[(table["quantity"] == "hessian_trace") & table["value"].notna()]
    equilibrium = 130 / level * (1 + np.exp(-traced["step"] / 1000))
    made = traced.assign(quantity="hessian_trace_equilibrium", value=equilibrium)
    return join([table, made])


def normalisation(power: float = 0.5, factor: float = 1.0, seeds: int = SEEDS) -> pd.DataFrame:
    """‖θ‖² = (1 + ct)^power, whose increments are `factor` times the predicted ones."""
    steps = np.unique(np.r_[0, np.geomspace(10, 10_000, 120).astype(int)])
    runs = []
    for seed in range(seeds):
        for net, start in (("net_a", 4.2), ("net_b", 4.2)):
            rng = generator(seed, len(net), ord(net[-1]))
            speed = 0.03 * (1 + 0.05 * rng.standard_normal())
            growth = (1 + speed * steps) ** power
            rising = power * speed * (1 + speed * steps) ** (power - 1)
            still = 1 + 0.03 * (1 - np.exp(-steps / 500))
            settling = 0.03 / 500 * np.exp(-steps / 500)
            for method, curve, rate in (("sgd", growth, rising), ("gd", still, settling)):
                noise = 1 + 0.05 * rng.standard_normal(steps.size)
                values = {
                    "loss": learning(steps),
                    ("norm_squared", 0): 0.7 * start * curve,
                    ("norm_squared", 1): 0.3 * start * curve,
                    "norm_increment_predicted": start * rate / factor * noise,
                }
                runs.append(run(f"{net}_{method}", seed, steps, values, 32, 0.05))
    return join(runs)


def decayed(level: float = 1.0, seeds: int = SEEDS) -> pd.DataFrame:
    """`normalisation`, and Net-A with weight decay; ‖θ‖⁴ ends at `level` times the balance."""
    free = normalisation(seeds=seeds)
    steps = np.arange(0, 10_001, 100)
    shrink = 1 - (1 - 0.05 * DECAY) ** 2
    runs = [free]
    for seed in range(seeds):
        speed = 0.03 * (1 + 0.05 * generator(seed, len("net_a"), ord("a")).standard_normal())
        balance = level * 4.2**2 * speed / 2 / shrink
        norm = np.sqrt(balance + (4.2**2 - balance) * np.exp(-steps / 800))
        values = {
            "loss": learning(steps),
            ("norm_squared", 0): 0.7 * norm,
            ("norm_squared", 1): 0.3 * norm,
        }
        runs.append(run("net_a_decay", seed, steps, values, 32, 0.05))
    return join(runs)


def scale_invariance(factor: float = 1.0, seeds: int = SEEDS) -> pd.DataFrame:
    """Radius `factor` times the predicted one under SGD, on the unit circle under GD."""
    steps = np.arange(0, 2001, 20)
    predicted = predictions.scale_invariant_radius(
        torch.tensor(steps), 0.02, predictions.toy_unit_noise(2.0)
    ).numpy()
    runs = []
    for seed in range(seeds):
        rng = generator(seed)
        angle = 2.4 * np.exp(-steps / 60)
        wiggle = np.cumsum(0.05 * rng.standard_normal(steps.size))
        grown = 1 + (factor * predicted * (1 + 0.02 * rng.standard_normal()) - 1) * (steps > 0)
        for case, radius, turn in (
            ("sgd", grown, angle + wiggle / (1 + np.abs(wiggle))),
            ("gd", 1 + 0.034 * (1 - np.exp(-steps / 60)), angle),
        ):
            values = {
                "loss": learning(steps),
                ("position", 0): radius * np.cos(turn),
                ("position", 1): radius * np.sin(turn),
                "norm_squared": radius**2,
                "predicted_radius": predicted,
            }
            runs.append(run(case, seed, steps, values, 2, 0.02))
    return join(runs)


def representations(
    sgd: float = 0.95, plain: float = 0.5, gd: float = 0.27, seeds: int = SEEDS
) -> pd.DataFrame:
    steps = np.arange(0, 12_001, 300)
    size, runs = 12, []
    for seed in range(seeds):
        for place, activation in enumerate(("tanh", "relu")):
            rng = generator(seed, place)
            factor = rng.standard_normal((size, 10))
            other = rng.standard_normal((size, 10))
            for method, end in (("sgd", sgd), ("gd", gd)):
                drift = 1 - np.exp(-steps / 1500)
                noise = 0.005 * rng.standard_normal((2, steps.size))
                weighted = 0.25 + (end - 0.25) * drift + noise[0]
                second = factor if method == "sgd" else other
                values = {
                    "loss": learning(steps),
                    "alignment": weighted,
                    "alignment_unweighted": 0.25 + (plain - 0.25) * drift + noise[1],
                }
                runs.append(run(f"{activation}_{method}", seed, steps, values, size, 0.02))
                if seed == 0:
                    for name, matrix in (("gram_w", factor), ("gram_u", second)):
                        runs.append(
                            runs[-1]
                            .iloc[[0] * size**2]
                            .assign(
                                quantity=name,
                                index=np.arange(size**2),
                                step=steps[-1],
                                value=(matrix @ matrix.T).reshape(-1),
                            )
                        )
    return join(runs)


def convergence_speed(
    eta: float = 2.0,
    batch: float = -1.0,
    width: float = 0.0,
    inputs: float = 1.0,
    seeds: int = SEEDS,
    lift: float = 1.0,
) -> pd.DataFrame:
    """Exponents of the rate in η, S, d and k; `lift`: rate over prediction at the defaults."""
    default = predictions.convergence_rate(10, 0.1, 100)
    settings = [("eta", 2000, rate, 100, 10) for rate in (0.05, 0.1, 0.2)]
    settings += [(f"batch_{size}", 2000, 0.1, size, 10) for size in BATCHES]
    settings += [("width", size, 0.1, 100, 10) for size in (20, 200, 2000)]
    settings += [(f"inputs_{k}", 2000, 0.1, 100, k) for k in INPUTS]
    settings += [("gd", 2000, 0.1, 100, 10)]
    runs = []
    for case, size, rate, samples, k in settings:
        law = (rate / 0.1) ** eta * (samples / 100) ** batch * (size / 2000) ** width
        law *= (k / 10) ** inputs
        predicted = predictions.convergence_rate(k, rate, samples)
        steps = np.unique(np.linspace(0, 3 / predicted, 60).astype(int))
        for seed in range(seeds):
            rng = generator(seed, size, samples, k)
            speed = lift * default * law * (1 + 0.02 * rng.standard_normal())
            left = np.exp(-speed * steps * (case != "gd"))
            values = {
                "loss": 10 + 0.1 * learning(steps),
                ("norm_squared", 0): 4.9 - 1.9 * (1 - left),
                ("norm_squared", 1): 1.0 + 2 * (1 - left),
                "rate_predicted": predicted,
            }
            runs.append(run(case, seed, steps, values, size, rate))
    return join(runs)


def noether_flow(
    bias: float = 1.0,
    discrete: float = 0.08,
    seeds: int = SEEDS,
    weighting: float = 1.7,
    orbit: float = 1.0,
) -> pd.DataFrame:
    """Measured flow `bias` times the prediction; `discrete` is the share the SDE leaves out.

    `weighting` is the flow over that of isotropic Γ where the factors are anisotropic; `orbit` the
    share of directions along which the flow has one zero.
    """
    runs = []
    for seed in range(seeds):
        for place, case in enumerate(("isotropic", "anisotropic", "narrow", "tanh")):
            rng = generator(seed, place)
            values: dict = {"loss": 30.0, "draws": 2000.0}
            for index, flow in enumerate((3e-4, 8e-4)):
                left_out = discrete if index else 0.0
                values |= {
                    ("flow_measured", index): bias * flow * (1 + 0.004 * rng.standard_normal()),
                    ("flow_predicted", index): flow,
                    ("flow_sde", index): flow * (1 - left_out),
                }
                if case == "isotropic":
                    values |= dict.fromkeys(("orbit_falling", "orbit_returning"), 1.0)
                    values["orbit_single_zero"] = orbit
                if case != "tanh":
                    apart = case == "narrow" and index == 0
                    values["flow_unweighted", index] = flow / (weighting if apart else 1.004)
            runs.append(run(case, seed, np.arange(1), values, 40, 1e-3))
    return join(runs)


EXPERIMENTS = {
    "scale_invariance": scale_invariance,
    "matrix_factorisation": factorisation,
    "equilibrium": equilibrium,
    "data_covariance": data_covariance,
    "deep_linear": deep_linear,
    "equilibrium_limit": equilibrium_limit,
    "sharpening": sharpening,
    "warmup": warmup,
    "warmup_pictures": warmup_pictures,
    "normalisation": normalisation,
    "representations": representations,
    "convergence_speed": convergence_speed,
    "noether_flow": noether_flow,
}
