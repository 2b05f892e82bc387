"""Attention under gradient noise: query and key, value and output of each head."""

from collections.abc import Sequence

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.noise import MISSING, in_tail, tail_mean
from sharpflow.results.runs import Run
from sharpflow.results.units import unit_curves
from sharpflow.statistics.verdicts import Undefined

QUERY_KEY, VALUE_OUTPUT = 0, 1
"""Groups of the experiment's symmetries, in the order of the measurement's patterns."""


def charges(
    run: Run, group: int, quantity: str = "symmetry_charge"
) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the charges of all units of a group of symmetries added up."""
    steps, values = unit_curves(run, quantity)
    groups = unit_curves(run, "symmetry_group")[1]
    return steps, values[:, groups[0] == group].sum(axis=1) if steps.size else steps


@claim(
    statement=(
        "Under SGD the gradient noise of queries and keys balances in every head: the relative "
        "imbalance of their noise Grams falls below 0.15."
    ),
    band=(-INF, 0.15),
    origin="chosen: above what fluctuates at this η; gradient descent stays at 0.4",
    method="Σ‖A − B‖/Σ(‖A‖ + ‖B‖) of the heads' noise Grams, mean over the last fifth",
    reads=["symmetry_imbalance"],
    cases=["sgd_*"],
    controls=["gd_*"],
)
def query_key_balance(run: Run) -> float:
    """Tail mean of the imbalance between queries and keys."""
    return tail_mean(run, "symmetry_imbalance", QUERY_KEY)


def value_output_plain(run: Run) -> float:
    """The same of the weights in place of their noise: how far from the plain balance."""
    return tail_mean(run, "symmetry_charge_share", VALUE_OUTPUT)


@claim(
    statement=(
        "So does that of values and outputs: the relative imbalance falls below 0.15, and the "
        "weights are further from the plain balance than that."
    ),
    band=(-INF, 0.15),
    origin="chosen: above what fluctuates at this η; gradient descent stays at 0.4",
    method="Σ‖A − B‖/Σ(‖A‖ + ‖B‖) of the heads' noise Grams, mean over the last fifth",
    reads=["symmetry_imbalance", "symmetry_charge_share"],
    cases=["sgd_*"],
    controls=["gd_*"],
    foils={"of the weights themselves": value_output_plain},
)
def value_output_balance(run: Run) -> float:
    """Tail mean of the imbalance between values and outputs."""
    return tail_mean(run, "symmetry_imbalance", VALUE_OUTPUT)


@claim(
    statement=(
        "SGD forgets the charges of its start: those of two starts end at most 0.15 as far apart "
        "as they began, of queries and keys and of values and outputs."
    ),
    band=(-INF, 0.15),
    origin="chosen: above what fluctuates at this η; under gradient descent 1 is left",
    method="largest |C₁ − C₂| of a group, mean over the last fifth over the start",
    reads=["symmetry_charge", "symmetry_group"],
    cases=["sgd_*"],
    controls=["gd_*"],
    scope="experiment",
)
def attention_start_forgotten(runs: Sequence[Run]) -> float:
    """What is left of the distance between two starts' charges. Undefined without two starts."""
    if len(runs) != 2:
        return Undefined("it needs two starts")
    shares = []
    for group in (QUERY_KEY, VALUE_OUTPUT):
        (steps, first), (_, second) = (charges(run, group) for run in runs)
        if not steps.size:
            return MISSING
        apart = first - second
        shares.append(abs(apart[in_tail(steps)].mean() / apart[0]))
    return float(max(shares))
