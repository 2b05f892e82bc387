"""A mistake in the configuration ends in one paragraph, before any job."""

import pytest
from trees import copy_project

CASES = {
    "unknown_key": ("dense: {training: {stepz: 5}}", ["training.stepz", "Did you mean 'steps'"]),
    "wrong_type": ("dense: {learning_rates: [fast]}", ["learning_rates[0]", "'fast'", "number"]),
    "impossible": ("dense: {widths: [0]}", ["widths[0] = 0", "greater than or equal to 1"]),
    "nearest": ("dense: {model: {activation: tahn}}", ["'tahn'", "Did you mean 'tanh'"]),
    "seeds": ("dense: {seeds: 5, seeds_per_job: 2}", ["seeds = 5", "seeds_per_job = 2"]),
    "experiment": ("dens: {}", ["'dens'", "Did you mean 'dense'"]),
    "dataset": (
        "dense: {data: {source: cifar10, path: nowhere}}",
        ["'nowhere'", "data_batch_*.bin", "cifar-10-batches-bin"],
    ),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("name", CASES)
def test_message_names_what_is_wrong(clean, name):
    override, expected = CASES[name]
    (clean.root / "bad.yaml").write_text(
        f"results: results/smoke\npapers: [papers/li2022]\noverrides:\n  {override}\n"
    )
    run = clean.snakemake("--cores", "1", config="bad.yaml")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    assert 'File "' not in run.stdout
    message = next(line for line in run.stdout.splitlines() if line.startswith("Error: "))
    for words in ["bad.yaml", *expected]:
        assert words in message
    assert not clean.results.exists()
