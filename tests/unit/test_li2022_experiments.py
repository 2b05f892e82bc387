"""The experiments of li2022 and beyond it: what their configuration must keep true."""

from itertools import pairwise
from pathlib import Path

import pytest
from config_folder import ConfigFolder

from sharpflow.config import load
from sharpflow.errors import ConfigError
from sharpflow.measurements.evaluate import due_steps
from sharpflow.optimisers import base as optimisers

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"


def read(name):
    """A configuration, read from the project's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CONFIG.parents[1])
        return load(f"config/{name}.yaml")


@pytest.fixture(scope="module")
def settings():
    return read("config")


@pytest.fixture(scope="module")
def beyond():
    return read("beyond")


def test_the_case_of_freezing_names_its_frozen_layers(settings):
    cases = settings.cases["freezing"]
    assert {f"frozen_{setup.training.frozen}" for setup in cases.values()} == set(cases)
    assert all(setup.model.hidden_layers == 4 for setup in cases.values())
    assert all(setup.measurements.gauss_newton.trained_layers for setup in cases.values())


def test_the_thresholds_with_momentum_agree(beyond):
    thresholds = [
        optimisers.build(setup.optimiser.model_dump()).threshold(rate, None)
        for setup in beyond.cases["momentum"].values()
        for rate in setup.learning_rates
    ]
    assert thresholds == pytest.approx([400.0] * 3)


def test_what_goes_beyond_is_judged_on_seeds_that_no_setting_was_chosen_on(beyond):
    for name, experiment in beyond.experiments.items():
        assert experiment.claims, name
        assert experiment.seeds >= 5, name
        assert experiment.first_seed >= 100, name


def test_li2022_has_the_seeds_that_it_needs(settings):
    for name, experiment in settings.experiments.items():
        if experiment.paper == "li2022":
            assert experiment.seeds >= 3, name


@pytest.mark.parametrize("configuration", ["config", "beyond"])
def test_strides_are_odd_where_the_sharpness_alternates(configuration):
    """An even stride, to the last step too, sees one branch of the period-two alternation."""
    settings = read(configuration)
    for name, experiment in settings.experiments.items():
        if experiment.paper not in ("li2022", "beyond"):
            continue
        for setup in settings.cases[name].values():
            measured = setup.measurements.gauss_newton
            if measured is None:  # noise below the edge, whose sharpness does not alternate
                assert setup.measurements.symmetry_noise is not None, name
                continue
            steps = sorted(due_steps(setup.training.steps, measured.every))
            assert all((b - a) % 2 == 1 for a, b in pairwise(steps)), name


def test_networks_of_images_refuse_data_that_are_none(tmp_path):
    folder = ConfigFolder(tmp_path)
    folder.write(
        {
            "model": {"kind": "cnn"},
            "data": {"source": "whitened", "samples": 10, "inputs": 4},
            "cases": {"relu": {}},
        }
    )
    with pytest.raises(ConfigError, match=r"'whitened' does not go with model\.kind = 'cnn'"):
        load(folder.file)


def test_fewer_samples_than_inputs_cannot_be_whitened(tmp_path):
    folder = ConfigFolder(tmp_path)
    folder.write({"data": {"source": "whitened", "samples": 4, "inputs": 8}})
    with pytest.raises(ConfigError, match="samples = 4 is less than inputs = 8"):
        load(folder.file)
