"""Claims on the Hessian's largest eigenvalue, on data on which they hold and on which they fail."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import STEPS, THRESHOLD, edge, judge, rows, training, undefined

from papers.cohen2021.figures import architectures
from sharpflow.config import load
from sharpflow.config.feasible import measured
from sharpflow.figures import base
from sharpflow.results.edge import LEAST_RECORDS
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable

SHARPNESS = "hessian_sharpness"
FALLING = np.exp(-STEPS / 200)


def frame(**curves) -> pd.DataFrame:
    """Five seeds of each case; a curve is λ₁, or λ₁ and the loss."""
    parts = []
    for case, given in curves.items():
        sharpness, loss = given if isinstance(given, tuple) else (given, FALLING)
        for seed in range(5):
            made = {SHARPNESS: sharpness * (1 + 1e-3 * seed), "loss": loss}
            parts.append(rows(made, case=case, seed=seed))
    return pd.concat(parts)


def slow() -> np.ndarray:
    return THRESHOLD * (0.1 + 0.1 * STEPS / STEPS.size)


def verdicts(name: str, run_table: pd.DataFrame) -> dict[str, str]:
    judged = judge(name, run_table)
    return dict(zip(judged["case"], judged["verdict"], strict=True))


def test_the_edge_with_the_squared_error():
    found = verdicts(
        "hessian_at_edge",
        frame(dense=edge(0), cnn=edge(0, 1.3), vit=edge(0, 0.8), slow_dense=slow()),
    )
    failing = dict.fromkeys(("cnn", "vit", "slow_dense"), "not supported")
    assert found == {"dense": "supported"} | failing


def test_the_edge_with_cross_entropy_is_wider_and_not_without_end():
    found = verdicts(
        "hessian_near_edge",
        frame(
            text_cross_entropy=edge(0, 1.25),
            cnn_cross_entropy=edge(0, 1.5),
            slow_text_cross_entropy=slow(),
        ),
    )
    assert found == {
        "text_cross_entropy": "supported",
        "cnn_cross_entropy": "not supported",
        "slow_text_cross_entropy": "not supported",
    }


def test_reaching_the_edge_is_from_below():
    found = verdicts("hessian_reaches_edge", frame(dense=edge(0), cnn=slow(), slow_dense=slow()))
    assert found == {"dense": "supported", "cnn": "not supported", "slow_dense": "not supported"}
    above = frame(dense=THRESHOLD * (1.2 + 0 * STEPS))
    assert undefined("hessian_reaches_edge", above) == "it does not start below 2/η"


def test_a_loss_that_falls_without_being_monotone():
    swings = FALLING * (1 + 0.2 * (-1.0) ** STEPS)
    found = verdicts(
        "loss_not_monotone",
        frame(
            dense=(edge(0), swings),
            cnn=(edge(0), FALLING),
            vit=(edge(0), swings / FALLING),
            slow_dense=slow(),
        ),
    )
    assert found["dense"] == "supported"
    assert [found[case] for case in ("cnn", "vit", "slow_dense")] == ["not supported"] * 3
    late = THRESHOLD * np.where(STEPS.size - 20 > STEPS, 0.5, 1.1)
    told = undefined("loss_not_monotone", frame(dense=late))
    assert told == "fewer than 50 steps follow the crossing"


def test_the_fall_after_cross_entropy_has_fitted():
    down = edge(0) * np.where(STEPS < 300, 1.0, np.exp(-(STEPS - 300) / 60))
    found = verdicts("cross_entropy_falls", frame(dense_cross_entropy=down, dense_clean=edge(0)))
    assert found == {"dense_cross_entropy": "supported", "dense_clean": "not supported"}
    never = frame(dense_cross_entropy=slow())
    assert undefined("cross_entropy_falls", never) == "λ₁ never reaches 2/η"


@pytest.fixture(scope="module")
def settings():
    return load("config/neighbours.yaml")


def test_seeds_that_are_judged_were_not_looked_at_and_share_no_pixel_with_those_that_were(settings):
    own = ("cohen2021", "short_studies")
    experiments = {n: e for n, e in settings.experiments.items() if e.paper in own}
    assert len(experiments) == 7
    for name, experiment in experiments.items():
        judged = {experiment.first_seed + place for place in range(experiment.seeds)}
        assert min(judged) >= 100, name
        for case, setup in settings.cases[name].items():
            if setup.data.source == "photos":
                parts = {seed % setup.data.parts for seed in judged}
                assert not parts & {seed % setup.data.parts for seed in range(5, 10)}, (name, case)


def test_every_stride_sees_both_branches_of_an_alternation(settings):
    for name in ("architectures", "architectures_large"):
        for case, setup in settings.cases[name].items():
            every = dict(measured(setup))["hessian"].every
            assert every % 2 == 1, (name, case)
            assert setup.training.steps % every == 0, (name, case)
            assert setup.training.steps // every + 1 >= LEAST_RECORDS, (name, case)


def test_the_figure_has_all_on_one_axis():
    runs = frame(dense=edge(0), cnn=edge(0, 1.2), slow_dense=slow())
    cases = {case: training() for case in ("dense", "cnn", "slow_dense")}
    tables = {"e": ExperimentTable(runs, summarise(runs), {"title": "t", "cases": cases})}
    figure = architectures.draw(tables)
    upper = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(upper) == 3
    assert len({axes.get_ylim() for axes in upper}) == 1
    words = base.words(architectures, tables)
    assert 20 < len(words["caption"].split()) < 90
    assert 15 < len(words["alt"].split()) < 90
    assert words["numbers"]["rows"][0][-1].startswith("1.00")
