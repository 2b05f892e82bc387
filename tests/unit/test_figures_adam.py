"""The figures of Adam's noise equilibrium, drawn from curves that follow its laws."""

import numpy as np
import pandas as pd
import pytest
from test_claims_adam import ADAM, approach, frame, held, noise
from test_figures import setup, table

from papers.beyond.figures import adam_decay, adam_equilibrium, adam_relaxation

MODULES = {
    "adam_decay": adam_decay,
    "adam_equilibrium": adam_equilibrium,
    "adam_relaxation": adam_relaxation,
}
CASES = {
    "adam_decay": {"adamw": held(1.0, False), "gradient_decay": held(1.0, True)},
    "adam_equilibrium": {
        "sgd_small_outer": noise(0.5, 0.02, 0.3),
        "adam_small_outer": noise(0.02, 0.5, 0.02),
        "between_large": noise(0.2, 0.3, 0.02),
    },
    "adam_relaxation": {"base": approach(), "batch_64": approach(0.9)},
}
KINDS = {"adamw": "adamw", "sgd_small_outer": "sgd"}


def settings(case):
    epsilon = {"epsilon": 0.3} if case == "between_large" else {}
    optimiser = ADAM["optimiser"] | {"kind": KINDS.get(case, "adam")} | epsilon
    model = {"kind": "mlp", "activation": "relu", "initialisation": {"kind": "moved", "shift": 0.5}}
    return setup(optimiser=optimiser, training=ADAM["training"] | {"frozen": 0}, model=model)


def tables_of(name):
    runs = pd.concat([frame(curves, case) for case, curves in CASES[name].items()])
    losses = runs[(runs["quantity"] == "stability_threshold")].assign(quantity="loss", value=1.0)
    cases = {case: settings(case) for case in CASES[name]}
    whole = pd.concat([runs, losses])
    return {name: table(whole, paper="beyond", seeds=5, cases=cases, title="Adam")}


@pytest.fixture(scope="module")
def balances():
    return tables_of("adam_equilibrium")


def test_ways_end_where_the_law_of_each_optimiser_is(balances):
    axes = adam_equilibrium.draw(balances).axes[0]
    ends = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    assert ends["SGD"] == pytest.approx((0.5, 0.02))
    assert ends["Adam"] == pytest.approx((0.02, 0.5))
    assert ends["Adam, large ε"] == pytest.approx((0.2, 0.3))


def test_ends_stand_in_the_rows_of_their_cases(balances):
    axes = adam_equilibrium.draw(balances).axes[1]
    rows = [text.get_text() for text in axes.get_yticklabels()]
    roots = [line for line in axes.lines if "roots" in line.get_label()]
    found = {rows[int(line.get_ydata()[0])]: line.get_xdata() for line in roots}
    assert found["Adam, small outer start"] == pytest.approx(np.full(5, 0.02))
    assert found["SGD, small outer start"] == pytest.approx(np.full(5, 0.5))


def test_relaxation_is_drawn_beside_its_prediction():
    figure = adam_relaxation.draw(tables_of("adam_relaxation"))
    for axes, speed in zip(figure.axes, (1.0, 0.9), strict=True):
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        ratio = np.log(lines["measured"][20]) / np.log(lines["predicted"][20])
        assert ratio == pytest.approx(speed, abs=0.01)
        assert lines["if v followed at once"][20] < lines["predicted"][20]


def test_charges_are_drawn_against_their_own_law():
    figure = adam_decay.draw(tables_of("adam_decay"))
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_linestyle() == "None"]
        marks = marks or [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert marks
        for line in marks:
            np.testing.assert_allclose(line.get_ydata(), line.get_xdata())
