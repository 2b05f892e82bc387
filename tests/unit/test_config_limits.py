"""A sweep that fits no memory, or no plan, is refused before any of it is taken."""

import pytest
from config_folder import EXPERIMENT, ConfigFolder, edited
from specs import TYPES, spec

from sharpflow.config import load, make_plan
from sharpflow.config.limits import MEMORY_VARIABLE, memory
from sharpflow.cost import Job, shipped, size
from sharpflow.data.base import generate
from sharpflow.errors import ConfigError
from sharpflow.training import Problem

WHITENED = {"source": "whitened", "samples": 20, "inputs": 9}
PHOTOS = {"source": "photos", "samples": 12}
GAUSSIAN = {"source": "gaussian", "inputs": 5, "outputs": 3}
NETWORKS = {
    "mlp": (PHOTOS, {"kind": "mlp", "hidden_layers": 3}),
    "mlp with biases": (WHITENED, {"kind": "mlp", "hidden_layers": 2, "bias": True}),
    "block_mlp": (PHOTOS, {"kind": "block_mlp", "hidden_layers": 2, "batch_normalisation": True}),
    "block_mlp, residual": (WHITENED, {"kind": "block_mlp", "residual": True}),
    "cnn": (PHOTOS, {"kind": "cnn"}),
    "two_layer": (GAUSSIAN, {"kind": "two_layer", "activation": "tanh"}),
    "two_layer, linear": (GAUSSIAN, {"kind": "two_layer", "activation": "linear"}),
    "scale_invariant": (GAUSSIAN, {"kind": "scale_invariant"}),
    "circle": (GAUSSIAN | {"inputs": 2, "outputs": 1}, {"kind": "circle"}),
}


@pytest.mark.parametrize("width", [4, 17])
@pytest.mark.parametrize("kind", NETWORKS)
def test_parameters_are_counted_as_the_network_has_them(kind, width):
    data, model = NETWORKS[kind]
    setup = TYPES.setup(data=data, model=model, widths=[width], learning_rates=[0.1])
    dataset, _ = generate(setup.data.model_dump(mode="json"))
    problem = Problem(spec(model, {"batch": 2}, width=width, seeds=[0]), dataset)
    drawn = problem.initial_state()
    drawn.pop("unseen", None)
    counted = setup.model.parameter_count(setup.data.form(), width)
    assert counted == sum(tensor[0].numel() for tensor in drawn.values())


@pytest.fixture
def config_folder(tmp_path):
    return ConfigFolder(tmp_path)


def refusal(config_folder):
    """The message of load()."""
    with pytest.raises(ConfigError) as caught:
        load(config_folder.file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(config_folder.file.parent) in message
    return message


def test_networks_beyond_memory_are_refused(config_folder, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "4")
    document = edited(EXPERIMENT, ["model", "hidden_layers"], 64)
    config_folder.write(edited(document, ["widths"], [10, 20_000]))
    message = refusal(config_folder)
    for words in ("widths[1] = 20000", "2.52e+10 parameters", "seeds_per_job = 2", "4 GiB are"):
        assert words in message
    config_folder.write({"widths": [4000]})
    settings = load(config_folder.file)
    sizes = size(settings.cases["dense_here"]["tanh"], 4000, runs=2)
    assert sizes is not None
    stages = ("train", "evaluate_sharpness")
    needed = max(shipped().memory(Job(stage, **sizes)) for stage in stages) / 2**10
    parameters = 2 * 4 * (100 * 4000 + 4000**2 + 4000) / 2**30
    assert needed > 5 * parameters  # with gradients, updates and two stored states
    monkeypatch.setenv(MEMORY_VARIABLE, str(needed * 1.001))
    make_plan(load(config_folder.file))
    monkeypatch.setenv(MEMORY_VARIABLE, str(needed * 0.999))
    assert "widths[0] = 4000" in refusal(config_folder)
    monkeypatch.setenv(MEMORY_VARIABLE, str(needed * 1.001))
    config_folder.write({"widths": [4000], "optimiser": "heavy_ball"})
    assert "widths[0] = 4000" in refusal(config_folder)


def test_the_case_that_is_too_large_is_named(config_folder, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "4")
    config_folder.write(edited(EXPERIMENT, ["cases", "relu", "widths"], [20_000]))
    assert "cases.relu" in refusal(config_folder)


def test_memory_is_the_machines_or_what_is_named(monkeypatch):
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    with open("/proc/meminfo", encoding="utf-8") as handle:
        kib = int(handle.readline().split()[1])
    assert memory() == pytest.approx(kib * 1024, rel=0.01)
    monkeypatch.setenv(MEMORY_VARIABLE, "0.5")
    assert memory() == 2**29
    for wrong in ("much", "-1", "0", "nan"):
        monkeypatch.setenv(MEMORY_VARIABLE, wrong)
        with pytest.raises(ConfigError, match=MEMORY_VARIABLE):
            memory()


def test_a_sweep_of_too_many_jobs_is_refused(config_folder):
    config_folder.write({"seeds": 25_000, "seeds_per_job": 1})
    message = refusal(config_folder)
    for words in ("200,000 training jobs", "at most 100,000", "seeds_per_job = 1"):
        assert words in message
    config_folder.write({"seeds": 100_000, "seeds_per_job": 1000})
    assert len(make_plan(load(config_folder.file)).shards) == 800


@pytest.mark.parametrize("root", ["/", "//", ".", "./", "/.", "./."])
def test_results_need_a_folder_of_their_own(config_folder, root):
    config_folder.write(results=root)
    message = refusal(config_folder)
    assert f"results = {root!r}" in message
    assert "a folder of its own" in message
