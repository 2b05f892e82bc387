"""The experiments of ziyin2024: what their configuration must keep true."""

from pathlib import Path

import pytest

from sharpflow.config import load

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"


@pytest.fixture(scope="module")
def settings():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CONFIG.parents[1])
        return load("config/config.yaml")


def test_ten_seeds_that_no_setting_was_chosen_on(settings):
    chosen = [e for e in settings.experiments.values() if e.paper == "ziyin2024"]
    assert len(chosen) >= 10
    assert all(e.seeds >= 10 and e.first_seed == 100 for e in chosen)


def test_matrices_of_every_activation_are_kept_for_the_figure(settings):
    first = settings.experiments["representations"].first_seed
    for setup in settings.cases["representations"].values():
        assert setup.measurements.representations.grams_of == first
