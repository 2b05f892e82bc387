"""Claims on Adam's noise equilibrium, on data on which they hold and on which they fail."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import decisive, judge, outcome, rows, undefined

STEPS = np.arange(0, 7001, 100)
UNITS = 6
ETA, BETA = 0.005, 0.99
RATES = 2e-4 * np.linspace(0.8, 1.2, UNITS)
ADAM = {
    "training": {"steps": 7000, "batch": 8, "weight_decay": 0.1},
    "optimiser": {"kind": "adam", "beta2": BETA},
}


def units(quantity, values):
    """Constant curves of a quantity, a value a unit."""
    return {(quantity, unit): np.full(len(STEPS), value) for unit, value in enumerate(values)}


def frame(curves, case, seeds=5):
    parts = (curves(seed) for seed in range(seeds))
    made = [rows(c, case, rate=ETA, seed=seed, steps=STEPS) for seed, c in enumerate(parts)]
    return pd.concat(made)


def noise(root, power, metric):
    """Sides whose imbalances are the given ones."""

    def curves(seed):
        shares = 1 + 0.01 * seed * np.ones(UNITS)
        found = {}
        names = ("symmetry_root", root), ("symmetry_noise", power), ("adam", metric)
        for name, gap in names:
            found |= units(f"{name}_outer", shares * (1 + gap))
            found |= units(f"{name}_inner", shares * (1 - gap))
        return found

    return curves


BALANCES = {
    "adam_balances_roots": ("adam_one", (0.02, 0.5, 0.02), (0.5, 0.02, 0.02)),
    "sgd_balances_powers": ("sgd_one", (0.5, 0.02, 0.3), (0.02, 0.5, 0.02)),
    "epsilon_interpolates": ("between_one", (-0.2, 0.3, 0.02), (0.02, 0.3, 0.2)),
}


@pytest.mark.parametrize("name", BALANCES)
def test_balance_is_told_from_the_other_optimisers(name):
    case, own, other = BALANCES[name]
    assert outcome(name, frame(noise(*own), case), {case: ADAM}) == "supported"
    assert outcome(name, frame(noise(*other), case), {case: ADAM}) == "not supported"


@pytest.mark.parametrize("name", BALANCES)
def test_balance_of_both_laws_decides_nothing(name):
    case = BALANCES[name][0]
    judged = judge(name, frame(noise(0.02, 0.02, 0.02), case), cases={case: ADAM})
    assert "supported" in set(judged[judged["control"].astype(bool)]["verdict"])


def test_balance_takes_the_last_half():
    late = STEPS >= 3500

    def curves(seed):
        found = noise(0.0, 0.5, 0.0)(seed)
        turned = {key: np.where(late, values, 9.0) for key, values in found.items()}
        return turned | units("symmetry_root_inner", np.ones(UNITS) * (1 + 0.01 * seed))

    case = "adam_one"
    assert outcome("adam_balances_roots", frame(curves, case), {case: ADAM}) == "supported"


def approach(speed=1.0, beta=BETA, passes=False, base=RATES):
    """Two halves that approach each other as predicted, but for a factor of the rate."""

    def curves(seed):
        here = remembered = np.ones(UNITS)
        path, rates = [], speed * base
        for step in range(STEPS[-1] + 1):
            if step % 100 == 0:
                path.append(here)
            follows = (1 - beta) / (1 - beta ** (step + 1))
            here = here - rates * (2 * here - remembered)
            remembered = remembered + follows * (here - remembered)
        half = np.where(np.arange(UNITS) < UNITS // 2, 1, -1)
        places = np.stack(path) * half * (1 if not passes else np.cos(STEPS / 1000)[:, None])
        ratio = np.exp(4 * (0.3 * places * (1 + 0.01 * seed)))
        found = units("adam_size", np.ones(UNITS))
        found |= units("adam_outer", base / ETA**2) | units("adam_inner", base / ETA**2)
        for unit in range(UNITS):
            found["adam_plain_size", unit] = 1 + ratio[:, unit]
            found["adam_plain_charge", unit] = ratio[:, unit] - 1
        return found

    return curves


def test_relaxation_is_told_from_another_rate():
    name, case = "adam_relaxation_rate", "base"
    assert outcome(name, frame(approach(), case), {case: ADAM}) == "supported"
    for speed in (0.7, 1.4):
        assert outcome(name, frame(approach(speed), case), {case: ADAM}) == "not supported"


def test_memory_is_told_from_none():
    name, case = "adam_memory_slows", "long_memory"
    slow = {case: ADAM | {"optimiser": {"kind": "adam", "beta2": 0.9995}}}
    assert outcome(name, frame(approach(beta=0.9995, base=3 * RATES), case), slow) == "supported"
    assert outcome(name, frame(approach(beta=0.0, base=3 * RATES), case), slow) == "not supported"
    judged = judge(name, frame(approach(beta=0.0, base=3 * RATES), case), cases={case: ADAM})
    assert "supported" in set(judged[judged["control"].astype(bool)]["verdict"])


def test_relaxation_that_is_not_seen_or_overshoots():
    name, case = "adam_relaxation_rate", "base"
    short = frame(approach(), case)
    why = undefined(name, short[short["step"] < 2000], {case: ADAM})
    assert why.startswith("its records do not cover the approach")
    over = decisive(judge(name, frame(approach(passes=True), case), cases={case: ADAM}))
    assert over["verdict"] == "not supported"
    assert "passed each other" in over["reason"]


def held(slope, plain):
    """Charges at a slope times what noise and decay predict."""

    def curves(seed):
        outer = np.linspace(0.5, 1.0, UNITS) * (1 + 0.1 * seed)
        inner = np.linspace(2.0, 1.0, UNITS)
        predicted = ETA / 0.2 * (outer - inner)
        other = 7 * predicted[::-1] + 1
        found = units("adam_outer", outer) | units("adam_inner", inner)
        found |= units("adam_charge", other if plain else slope * predicted)
        found |= units("adam_plain_charge", slope * predicted if plain else other)
        found |= units("symmetry_charge", found_plain(found))
        found |= units("symmetry_noise_outer", inner) | units("symmetry_noise_inner", outer)
        return found

    return curves


def found_plain(found):
    return [found["adam_plain_charge", unit][0] for unit in range(UNITS)]


@pytest.mark.parametrize(
    ("name", "case", "plain"),
    [("adamw_charge", "adamw", False), ("gradient_decay_charge", "gradient_decay", True)],
)
def test_charges_under_decay(name, case, plain):
    for slope, verdict in ((1.0, "supported"), (0.7, "not supported"), (1.3, "not supported")):
        assert outcome(name, frame(held(slope, plain), case), {case: ADAM}) == verdict
    assert outcome(name, frame(held(1.0, not plain), case), {case: ADAM}) == "not supported"
