"""A device other than the CPU: the same numbers, and what is said where it cannot be used.

Where there is no GPU the device is that of `fake_device`, on which a tensor that was left on the
CPU is an error; the last tests compare a real one with the CPU.
"""

import subprocess
import sys
from typing import Any

import fake_device
import numpy as np
import pytest
import torch
from device_shards import OPTIMISERS, SMALL_NETWORKS, followed, of_experiment, of_network, planned
from specs import ROOT

from sharpflow import devices, symmetry
from sharpflow.config import gpus
from sharpflow.curvature import (
    SharpnessTracker,
    gauss_newton_operator,
    hessian_operator,
    sharpness,
    spectral_density,
    top_eigenpairs,
    trace,
)
from sharpflow.errors import ConfigError, IntegrityError, ResourceError
from sharpflow.measurements.evaluate import _Rows, evaluate
from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.training import train
from sharpflow.training.memory import least_bytes

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def device():
    with fake_device.available() as name:
        yield name


def agree(make, name, rtol):
    """Training and evaluation on a device against those on the CPU."""
    there, here = followed(*make(name)), followed(*make("cpu"))
    assert list(there.index) == list(here.index)
    np.testing.assert_allclose(there.to_numpy(), here.to_numpy(), rtol=rtol, atol=1e-12)


# --- the fake device is strict


def test_the_fake_device_refuses_what_a_gpu_refuses(device):
    there, here = torch.ones(2, device=device), torch.ones(2)
    with pytest.raises(RuntimeError, match="same device"):
        assert there + here
    with pytest.raises((RuntimeError, TypeError), match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(2, device=device, generator=torch.Generator())
    assert (there + 1).device.type == (2.0 * there[:1]).device.type == device


# --- every stage


@pytest.mark.parametrize("case", planned(), ids=str)
def test_every_kind_of_experiment_gives_the_cpus_numbers(case, device):
    agree(lambda name: of_experiment(case[0], case[1], name), device, 1e-8)


@pytest.mark.parametrize("kind", SMALL_NETWORKS)
def test_every_network_gives_the_cpus_numbers(kind, device):
    agree(lambda name: of_network(kind, name), device, 1e-8)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_gives_the_cpus_numbers(optimiser, device):
    agree(lambda name: of_network("mlp", name, optimiser, training={"batch": 3}), device, 1e-8)


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.first, self.last = nn.Linear(128, 4), nn.Linear(4, 1)
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(dropout)
        self.register_buffer("scale", torch.full((4,), 0.5), persistent=False)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x.flatten(1)).tanh()) * self.scale))

def steady():
    return Net(0.0)

def random():
    return Net(0.3)
"""


@pytest.mark.parametrize("build", ["steady", "random"])
def test_a_module_of_ones_own_gives_the_cpus_numbers(build, device, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    model = {"file": str(tmp_path / "net.py"), "build": build}
    agree(lambda name: of_network("module", name, model=model), device, 1e-8)


def test_buffers_of_a_module_follow_its_parameters(device):
    model = ModuleModel(
        lambda: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)),
        Setting(2, (3,), 2),
    )
    drawn = model.initialise({}, torch.Generator().manual_seed(0))
    parameters = {name: t[None].to(device) for name, t in drawn.items()}
    assert model(parameters, torch.randn(5, 3).to(device)).device.type == device


def test_a_checkpoint_of_the_device_is_gone_on_from(device, tmp_path):
    whole = train(of_network("mlp", device)[0])

    class Killed(Exception):
        """After a write."""

    class Fragile(Checkpoint):
        def offer(self, contents):
            super().offer(contents)
            if contents()[1]["records"] == 2:
                raise Killed

    with pytest.raises(Killed):
        train(of_network("mlp", device)[0], Fragile(tmp_path / "c", "key", 0.0))
    checkpoint = Checkpoint(tmp_path / "c", "key", 0.0)
    assert checkpoint.load() is not None
    resumed = train(of_network("mlp", device)[0], checkpoint)
    assert resumed.columns.equals(whole.columns)


def test_a_measurement_may_give_tensors_of_the_device(device):
    rows = _Rows()
    values: Any = {"spread": torch.tensor([1.0, 2.0]).to(device)}
    rows.add("own", 0, 1, values)
    assert rows.value == [1.0, 2.0]


def test_a_replay_on_another_device_that_misses_names_both():
    problem, _ = of_network("mlp", "cpu")
    states = train(problem).states
    states[4] = {name: t + 1e-3 for name, t in states[4].items()}
    asked = {"hessian": of_network("mlp", "cpu")[1]["hessian"] | {"every": 1}}
    with pytest.raises(IntegrityError, match=r"trained on cuda \(X\), and this is cpu"):
        evaluate(problem, [0, 4], lambda step: states[step], asked, trained_on="cuda (X)")


# --- the library


def problem_of_ones_own(name):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    inputs, targets = torch.randn(9, 4), torch.randn(9, 2)
    model = model.double().to(name)
    return model, torch.nn.functional.mse_loss, inputs.double().to(name), targets.double().to(name)


def test_sharpness_of_a_module_on_the_device(device):
    assert sharpness(*problem_of_ones_own(device)) == pytest.approx(
        sharpness(*problem_of_ones_own("cpu")), rel=1e-9
    )


@pytest.mark.parametrize("products", ["autograd", "differences"])
def test_a_tracker_on_the_device_and_its_state(device, products):
    found = {}
    for name in (device, "cpu"):
        model, loss, inputs, targets = problem_of_ones_own(name)
        tracker = SharpnessTracker(model, loss, inputs, targets, products=products)
        values = [float(tracker.measure().values[0])]
        kept = tracker.state_dict()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.01)
        again = SharpnessTracker(model, loss, inputs, targets, products=products)
        again.load_state_dict(kept)
        found[name] = [*values, float(again.measure().values[0])]
    assert found[device] == pytest.approx(found["cpu"], rel=1e-6)


def test_operators_spectra_and_traces_on_the_device(device):
    found = {}
    for name in (device, "cpu"):
        model, loss, inputs, targets = problem_of_ones_own(name)
        params = dict(model.named_parameters())

        def outputs(p, model=model, inputs=inputs):
            return torch.func.functional_call(model, p, (inputs,))

        h = hessian_operator(lambda p, o=outputs, t=targets, f=loss: f(o(p), t), params)
        g = gauss_newton_operator(outputs, params, 1.0 / 9)
        found[name] = [
            *top_eigenpairs(h, k=2).values.tolist(),
            float(top_eigenpairs(2.0 * h + g).values[0]),
            float(trace(h).value),
            float(spectral_density(h, draws=2, steps=8).nodes.sum()),
        ]
    assert found[device] == pytest.approx(found["cpu"], rel=1e-6, abs=1e-9)


def test_the_noise_equilibrium_on_the_device(device):
    source = torch.Generator().manual_seed(0)
    v, a, b = (torch.randn(4, 4, dtype=torch.float64, generator=source) for _ in range(3))
    eye = torch.eye(4, dtype=torch.float64)
    here = symmetry.noise_equilibrium(v, a @ a.T + eye, b @ b.T + eye, width=5)
    there = symmetry.noise_equilibrium(
        *(t.to(device) for t in (v, a @ a.T + eye, b @ b.T + eye)), width=5
    )
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
    q = symmetry.rescaling("u", "w")
    params = dict(zip("uw", there, strict=True))
    expected = symmetry.noether_charge(dict(zip("uw", here, strict=True)), q)
    assert float(symmetry.noether_charge(params, q)) == pytest.approx(float(expected))


# --- what cannot be


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_asked_for_and_absent_is_one_paragraph():
    with pytest.raises(
        ConfigError, match=r"device = cuda: .*docs/how-to/gpu\.md.*device: cpu\.$"
    ) as found:
        devices.resolve("cuda")
    assert "\n" not in str(found.value)
    assert devices.resolve("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:1"):
        devices.resolve(name)


def test_a_number_beyond_the_last_device_is_refused(device):
    assert devices.resolve(f"{device}:0").index == 0
    with pytest.raises(ConfigError, match="numbered from 0"):
        devices.resolve(f"{device}:1")


def test_a_job_that_has_no_room_is_refused_before_it_starts():
    with fake_device.available(free=1000) as name:
        problem, _ = of_network("mlp", name)
        needed = least_bytes(problem)
        with pytest.raises(ResourceError, match=r"training takes at least .*jobs_per_gpu"):
            devices.check_memory(problem.device, lambda: needed, "training")
    with fake_device.available(free=needed) as name:
        devices.check_memory(problem.device, lambda: needed, "training")
    devices.check_memory(torch.device("cpu"), lambda: 2**62, "training")


def test_the_least_memory_is_never_above_what_the_states_take():
    problem, _ = of_network("mlp", "cpu")
    states = train(problem).states
    stored = sum(t.numel() * t.element_size() for s in states.values() for t in s.values())
    one = stored // len(states)
    data = sum(t.numel() * t.element_size() for t in (problem.inputs, problem.targets))
    assert least_bytes(problem) == stored + 3 * one + data


def test_a_full_device_is_told_in_a_sentence(device):
    def full():
        with devices.memory_explained(torch.device(device), "training"):
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    with pytest.raises(ResourceError, match=r"training found .* fake \(fake device\) full"):
        full()


def test_jobs_spread_over_devices(tmp_path):
    names = ["a", "b"]
    before = len(devices._held)
    taken = [devices.least_taken(names, tmp_path) for _ in range(4)]
    assert taken == [0, 1, 0, 1]
    code = (
        "import sys; from pathlib import Path; from sharpflow import devices;"
        "print(devices.least_taken(['a', 'b', 'c'], Path(sys.argv[1])))"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    for _ in range(2):  # the third is free again when its process ended
        assert subprocess.check_output(run, text=True, cwd=ROOT).strip() == "2"
    for handle in devices._held[before:]:
        handle.close()
    del devices._held[before:]


@pytest.mark.parametrize(
    ("device", "here", "torch_version", "reason"),
    [
        ("cuda", 1, "2.13.0+cpu", "without CUDA"),
        ("cuda", 0, "2.13.0", "no GPU"),
        ("cuda:2", 2, "2.13.0", "has 2, numbered from 0"),
    ],
)
def test_a_workflow_that_asks_for_an_absent_gpu_is_refused(device, here, torch_version, reason):
    with pytest.raises(ConfigError, match=rf"{reason}.*device: auto or cpu"):
        gpus.check(device, here, torch_version)


@pytest.mark.parametrize(
    ("device", "here", "asked"),
    [("cpu", 2, 0), ("auto", 0, 0), ("auto", 2, 1), ("auto", None, 0), ("cuda:1", None, 1)],
)
def test_what_a_job_asks_for(device, here, asked):
    assert gpus.wanted(device, here) == asked
    if here or asked == 0:
        gpus.check(device, here or 0, "2.13.0")


# --- precision


def test_a_job_on_a_gpu_computes_in_ieee_and_deterministically(device):
    code = (
        "import sys; sys.path.insert(0, 'tests/unit'); import fake_device, torch;"
        "from sharpflow import devices\n"
        "torch.backends.fp32_precision = 'tf32'\n"
        "with fake_device.available() as name:\n"
        "    print(devices.prepare('cpu'), torch.backends.cudnn.conv.fp32_precision)\n"
        "    fake_device._Module.set_device = lambda self, device: None\n"
        "    print(devices.prepare(name), torch.backends.cudnn.conv.fp32_precision,\n"
        "        torch.backends.cuda.matmul.allow_tf32,\n"
        "        torch.are_deterministic_algorithms_enabled())\n"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert found.split() == ["cpu", "tf32", "fake:0", "ieee", "False", "True"]


@pytest.fixture
def precision():
    cudnn: Any = torch.backends.cudnn
    switches: Any = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = [switch.fp32_precision for switch in switches]
    yield switches
    for switch, value in zip(switches, before, strict=True):
        switch.fp32_precision = value


def test_products_in_tf32_are_warned_of(precision):
    gpu = torch.device("cuda")
    for switch in precision:
        switch.fp32_precision = "ieee"
    assert devices.reduced_products(gpu, convolutions=True) is None
    precision[1].fp32_precision = "tf32"
    assert devices.reduced_products(gpu) is None
    assert devices.reduced_products(gpu, convolutions=True) is not None
    precision[0].fp32_precision = "tf32"
    with pytest.warns(UserWarning, match=r"matmul\.fp32_precision.*TF32"):
        devices.warn_of_reduced_products(gpu, torch.float32)
    assert devices.reduced_products(torch.device("cpu")) is None


# --- a GPU


@GPU
@pytest.mark.parametrize("kind", SMALL_NETWORKS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-7), ("float32", 1e-2)])
def test_a_gpu_gives_the_cpus_numbers_for_every_network(kind, dtype, rtol):
    with torch.backends.cudnn.flags(allow_tf32=False):
        agree(lambda name: of_network(kind, name, dtype=dtype), "cuda", rtol)


@GPU
@pytest.mark.parametrize("case", planned(), ids=str)
def test_a_gpu_gives_the_cpus_numbers_for_every_kind_of_experiment(case):
    with torch.backends.cudnn.flags(allow_tf32=False):
        agree(lambda name: of_experiment(case[0], case[1], name), "cuda", 1e-2)


@GPU
def test_a_replay_on_a_gpu_lands_on_the_stored_states():
    problem, asked = of_network("cnn", "cuda", dtype="float32")
    states = train(problem).states
    asked = {name: options | {"every": 1} for name, options in asked.items()}
    assert evaluate(problem, [0, 4], states.__getitem__, asked).replay_deviation <= 1e-6
