"""Flows beside training, for real: integrated, measured, in the tables, on the page."""

import pandas as pd
import pytest
import yaml
from trees import PROJECT

NAME = "flows"
SMALL = {
    "results": f"results/{NAME}",
    "papers": ["papers/cohen2025"],
    "experiments": ["central_flows"],
    "overrides": {
        "central_flows": {
            "seeds": 2,
            "seeds_per_job": 2,
            "data": {"samples": 40},
            "widths": [8],
            "training": {"steps": 20},
            "cases": {"elu": None, "softplus": None},
        }
    },
}


@pytest.fixture(scope="module")
def flowing(tree):
    """The shared project after a run with flows in a results folder of their own."""
    (tree.root / "config" / f"{NAME}.yaml").write_text(yaml.safe_dump(SMALL))
    run = tree.snakemake("--cores", "2", config=f"config/{NAME}.yaml")
    assert run.returncode == 0, run.stdout[-5000:]
    return tree


def planned(tree):
    run = tree.snakemake("-n", config=f"config/{NAME}.yaml")
    assert run.returncode == 0, run.stdout
    return tree.counted(run.stdout)


def test_training_and_its_flows_stand_in_one_table_and_on_the_page(flowing):
    results = flowing.root / "results" / NAME
    table = pd.read_parquet(results / "tables" / "central_flows" / "runs")
    by = table.groupby(["process", "quantity"])["step"].nunique()
    assert set(table["process"]) == {"discrete", "midpoint", "gradient", "central"}
    for process in ("discrete", "midpoint", "gradient", "central"):
        assert by[process, "loss"] == 21
        # training every 5 steps, flows at their stored states
        assert by[process, "hessian_sharpness"] == (5 if process == "discrete" else 3)
    claims = pd.read_csv(results / "claims.csv")
    assert set(claims["control"]) == {True, False}
    page = (results / "report" / "index.html").read_text()
    assert "gradient flow in its place" in page
    assert (
        not (results / "figures" / "cohen2025" / "central_flow.json")
        .read_text()
        .count('drawn": {}')
    )


def test_an_edit_of_a_flow_integrates_it_anew_and_trains_nothing(flowing):
    assert planned(flowing) == {}
    file = "sharpflow/flows/midpoint/__init__.py"
    assert (PROJECT / file).is_file()
    with flowing.edited(file, "** 2", "** 2.0"):
        jobs = planned(flowing)
    assert (jobs["integrate_flow"], jobs["evaluate_sharpness"]) == (1, 1)
    assert "train" not in jobs
