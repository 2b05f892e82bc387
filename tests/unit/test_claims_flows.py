"""Claims on central flows: where they hold, where they fail, and which steps they count."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import STEPS, THRESHOLD, judge, outcome, rows, training, undefined

VARIANCE, LOSS, PATH = "predicts_the_variance", "predicts_the_excess_loss", "follows_the_mean_path"
CROSSED = 200
LATE = STEPS >= CROSSED
PRECONDITIONED = {"tanh": training() | {"preconditioned": True}}


def beside(variance=1.0, excess=1.0, path=0.2, quantity="hessian_sharpness", start=0.5, spread=0.0):
    """Training that oscillates from its crossing on, and the flows beside it."""
    sharpness = np.where(LATE, 1.01, 0.7) * THRESHOLD
    sharpness[:10] = start * THRESHOLD
    early = np.where(STEPS < 10, 40.0, 0.0)
    loss = 1.0 - 0.001 * STEPS
    oscillation = LATE * 2.0 + early
    found = {
        "discrete": {"loss": loss + 0.1 * oscillation, quantity: sharpness},
        "midpoint": {"loss": loss, "oscillation_squared": oscillation},
        "gradient": {
            "loss": loss,
            "predicted_loss": loss,
            "predicted_variance": 0.0 * STEPS,
            "distance": 0.01 * STEPS,
        },
        "central": {
            "loss": loss,
            "predicted_loss": loss + 0.2 * excess * LATE,
            "predicted_variance": 2.0 * variance * LATE,
            "distance": 0.01 * path * STEPS,
        },
    }
    return pd.concat(
        rows(
            {n: v * (1 + spread * seed * (name == "central")) for n, v in curves.items()}, seed=seed
        ).assign(process=name)
        for name, curves in found.items()
        for seed in range(5)
    )


@pytest.mark.parametrize(
    ("name", "key", "inside", "outside"),
    [
        (VARIANCE, "variance", (0.9, 1.1), (0.8, 1.2)),
        (LOSS, "excess", (0.9, 1.1), (0.8, 1.2)),
        (PATH, "path", (0.1, 0.3), (0.4, 1.0)),
    ],
)
def test_verdicts(name, key, inside, outside):
    for value in inside:
        judged = judge(name, beside(**{key: value}))
        controls = judged["control"].astype(bool)
        assert judged[~controls]["verdict"].tolist() == ["supported"]
        assert judged[controls]["verdict"].tolist() == ["not supported"]
    for value in outside:
        assert outcome(name, beside(**{key: value})) == "not supported"


@pytest.mark.parametrize("name", [VARIANCE, LOSS])
def test_first_steps_above_the_threshold_do_not_count(name):
    """RMSprop's, while its mean of squared gradients fills; a large oscillation is among them."""
    table = beside(quantity="preconditioned_sharpness", start=1.5)
    assert outcome(name, table, cases=PRECONDITIONED) == "supported"


@pytest.mark.parametrize("name", [VARIANCE, LOSS, PATH])
def test_too_few_steps_past_the_crossing_say_nothing(name):
    table = beside()
    table = table[table["step"] < CROSSED + 40]
    assert "fewer than 60 steps follow the first crossing" in undefined(name, table)


@pytest.mark.parametrize("name", [VARIANCE, LOSS, PATH])
def test_a_flow_that_is_lost_fails(name):
    table = beside()
    lost = rows({"diverged_step": np.array([300.0])}, seed=0).assign(process="central")
    lost = lost[lost["quantity"] == "diverged_step"]
    many = pd.concat([table, *(lost.assign(seed=seed) for seed in range(5))])
    assert outcome(name, many) == "not supported"
