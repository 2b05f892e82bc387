"""Low-rank adapters W + BA under gradient noise: what B (outer) and A (inner) share."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.charges import (
    change,
    mean_gradient_only,
    of_another_unit,
    still,
    sum_of_rates,
)
from sharpflow.results.noise import MISSING, last, tail_mean
from sharpflow.results.runs import Run
from sharpflow.results.units import late_means, through_origin, unit_curves
from sharpflow.statistics.verdicts import Undefined

ROOT = ["symmetry_root_outer", "symmetry_root_inner"]

ADAPTERS = {"first layer": 0, "last layer": 1}
"""Groups of the experiment's symmetries, in the order of the measurement's patterns."""
BALANCED = 0.1
"""Imbalance below which two sides count as balanced."""
LATE = 0.5
"""Share of a run's steps, at its end, over which noise is averaged."""


def late(steps: np.ndarray) -> np.ndarray:
    """Which steps noise is averaged over."""
    return steps >= (1 - LATE) * steps[-1]


def matrices(run: Run, quantity: str, adapter: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) and matrices (n, r, r) of a quantity, recorded as their upper triangles."""
    steps, values = unit_curves(run, quantity)
    if not steps.size:
        return steps, np.empty((0, 0, 0))
    values = values[:, unit_curves(run, "symmetry_group")[1][0] == adapter]
    rank = int((8 * values.shape[1] + 1) ** 0.5 - 1) // 2
    found = np.empty((len(steps), rank, rank))
    rows, columns = np.triu_indices(rank)
    found[:, rows, columns] = found[:, columns, rows] = values
    return steps, found


def spectrum(
    run: Run, adapter: int, quantity: str = "symmetry_charge"
) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) and eigenvalues (n, r), in order, of an adapter's matrix: BᵀB − AAᵀ by default."""
    steps, charges = matrices(run, quantity, adapter)
    return steps, np.linalg.eigvalsh(charges) if steps.size else charges


def worst(of_adapter: Callable[[int], float]) -> float:
    """The larger one of a number of both adapters."""
    return max(of_adapter(place) for place in ADAPTERS.values())


def noise_gap(run: Run, adapter: int) -> float:
    """‖Ḡ_B − Ḡ_A‖/(‖Ḡ_B‖ + ‖Ḡ_A‖) of an adapter's noise Grams, means over the last half."""
    sides = []
    for side in ("outer", "inner"):
        steps, grams = matrices(run, f"symmetry_noise_{side}", adapter)
        if not steps.size:
            return MISSING
        sides.append(grams[late(steps)].mean(axis=0))
    outer, inner = sides
    norm = np.linalg.norm
    return float(norm(outer - inner) / (norm(outer) + norm(inner)))


def root_gap(run: Run, adapter: int) -> float:
    """Σ|R_B − R_A|/Σ(R_B + R_A), R = Σ√E[ĝ²] of each of an adapter's units, late means."""
    sides = []
    for side in ROOT:
        steps, values = unit_curves(run, side)
        if not steps.size:
            return MISSING
        sides.append(np.array_split(values[late(steps)].mean(axis=0), len(ADAPTERS))[adapter])
    outer, inner = sides
    return float(np.abs(outer - inner).sum() / (outer + inner).sum())


def noise(run: Run) -> float:
    """`noise_gap` of the adapter with the larger one."""
    return worst(lambda adapter: noise_gap(run, adapter))


def roots(run: Run) -> float:
    """`root_gap` of the adapter with the larger one."""
    return worst(lambda adapter: root_gap(run, adapter))


def plain(run: Run) -> float:
    """‖BᵀB − AAᵀ‖/(‖BᵀB‖ + ‖AAᵀ‖), late mean; of the adapter with the smaller one."""
    return min(tail_mean(run, "symmetry_charge_share", adapter) for adapter in ADAPTERS.values())


@claim(
    statement=(
        "Under SGD the gradient noise of B and A balances in every adapter: their noise Grams "
        "agree within 10 %, from B = 0 and from A = 0."
    ),
    band=(-INF, BALANCED),
    origin="chosen: above what the means fluctuate by; under the other rules it is 0.5 or more",
    method=(
        "‖G_B − G_A‖/(‖G_B‖ + ‖G_A‖) of mean Grams over the last half; the larger of both layers"
    ),
    reads=["symmetry_noise_outer", "symmetry_group", "symmetry_charge_share"],
    cases=["sgd_*"],
    controls=["gd_*", "adam_*"],
    foils={"of the weights themselves": plain},
)
def adapter_noise_balance(run: Run) -> float:
    """Imbalance of the noise Grams, of the adapter with the larger one."""
    return noise(run)


@claim(
    statement=(
        "Under Adam it is the roots that balance: Σ√E[ĝ²] over a column of B and over the row of A "
        "that it meets agree within 10 %."
    ),
    band=(-INF, BALANCED),
    origin="chosen: above what the means fluctuate by; under SGD it is 0.3 or more",
    method="Σ|outer − inner|/Σ(outer + inner) of Σ√E[ĝ²], late means, the larger of both layers",
    reads=["symmetry_root_outer", "symmetry_noise_outer", "symmetry_group"],
    cases=["adam_*"],
    controls=["sgd_*"],
    foils={"the noise Grams, which SGD balances": noise},
)
def adapter_roots_balance(run: Run) -> float:
    """Imbalance of the roots, of the adapter with the larger one."""
    return roots(run)


def left(first: Run, second: Run, adapter: int) -> float:
    """What is left of the distance of two runs' charges, in their eigenvalues."""
    (steps, some), (_, others) = (spectrum(run, adapter) for run in (first, second))
    if not steps.size:
        return MISSING
    gap = some - others
    return float(np.linalg.norm(gap[late(steps)].mean(axis=0)) / np.linalg.norm(gap[0]))


def kinds(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in their start alone, by what else they are."""
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        found.setdefault((run.learning_rate, run.batch), []).append(run)
    return list(found.values())


@claim(
    statement=(
        "SGD makes an adapter forget its start: the charges of starts with B = 0 and with A = 0 "
        "end at most 0.3 as far apart as they began."
    ),
    band=(-INF, 0.3),
    origin="chosen: above what charges fluctuate by, 0.1 to 0.24; of the controls' 0.9 is left",
    method=(
        "distance of the eigenvalues of BᵀB − AAᵀ of two starts, of their means over the last "
        "half, over that at the start; the larger of both layers"
    ),
    reads=["symmetry_charge", "symmetry_group"],
    cases=["sgd_*"],
    controls=["gd_*", "slow_*"],
    scope="experiment",
)
def adapter_start_forgotten(runs: Sequence[Run]) -> float:
    """What is left of the distance between two starts' charges; the least of several trainings'."""
    pairs = kinds(runs)
    if any(len(pair) != 2 for pair in pairs):
        return Undefined("it needs two starts")
    return min(worst(partial(left, *pair)) for pair in pairs)


def single_samples(run: Run) -> float:
    """Slope of the change on what steps of single samples would give."""
    noise, steady = (
        sum_of_rates(run, f"symmetry_{name}_outer") - sum_of_rates(run, f"symmetry_{name}_inner")
        for name in ("noise", "gradient")
    )
    return through_origin(change(run, "symmetry_charge"), run.learning_rate**2 * (noise + steady))


@claim(
    statement=(
        "On their way charges move as fast as the Noether flow says: the slope of change on "
        "prediction is 1 ± 0.05."
    ),
    band=(0.95, 1.05),
    origin="derived: exact in the mean for every step; what is left is chance and the stride",
    method=(
        "least-squares slope through 0, over the entries of both charge matrices, of the change "
        "after the first tenth of the run on the sum of the measured drifts of all steps since"
    ),
    reads=["symmetry_charge", "symmetry_charge_predicted", "symmetry_noise_outer"],
    estimand="mean",
    cases=["slow_*"],
    foils={
        "the mean gradient alone": mean_gradient_only,
        "the noise of single samples": single_samples,
    },
)
def adapter_charges_follow(run: Run) -> float:
    """Slope of the entries' changes on their predictions."""
    return through_origin(change(run, "symmetry_charge"), change(run, "symmetry_charge_predicted"))


@claim(
    statement=(
        "Weight decay does not balance adapters under SGD: it holds the charges at which noise and "
        "decay cancel; the slope of charge on prediction is 1 ± 0.1."
    ),
    band=(0.9, 1.1),
    origin="derived: exact for a still distribution; drifts that still change leave a few per cent",
    method=(
        "least-squares slope through 0, over the entries of both charge matrices, of the mean "
        "charge on η/(2γ)((G_B − G_A)/S + mean gradient's part), both over the last half"
    ),
    reads=["symmetry_charge", "symmetry_noise_outer", "symmetry_gradient_outer"],
    estimand="mean",
    cases=["decay_sgd"],
    controls=["decay_gd"],
    foils={"the prediction for the next entry": of_another_unit},
)
def adapter_decayed_charges(run: Run) -> float:
    """Slope of the charges' entries on their predictions."""
    return through_origin(late_means(run, "symmetry_charge"), still(run))


@claim(
    statement=(
        "Under gradient descent it does: charges end at 2 % of the parameters or less in every "
        "adapter."
    ),
    band=(0.0, 0.02),
    origin="chosen: a tenth or less of what SGD keeps",
    method="‖BᵀB − AAᵀ‖/(‖BᵀB‖ + ‖AAᵀ‖) at the end, the larger of both layers",
    reads=["symmetry_charge_share"],
    cases=["decay_gd"],
    controls=["decay_sgd"],
)
def adapter_balance_under_gd(run: Run) -> float:
    """Size of the charges over that of the parameters at the last state, the larger of both."""
    return worst(partial(last, run, "symmetry_charge_share"))
