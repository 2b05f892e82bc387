"""Jobs and Snakemake killed with SIGKILL at random moments: same bytes, nothing left behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from trees import copy_project

from sharpflow.config import load, make_plan
from sharpflow.storage import ledger

TARGET = "results/smoke/tables/dense/runs/1-of-1.parquet"


@pytest.fixture(scope="module")
def shard(tree):
    before = os.getcwd()
    os.chdir(tree.root)
    try:
        plan = make_plan(load("config/smoke.yaml"))
    finally:
        os.chdir(before)
    return plan.shards_of("dense")[0]


def _command(tree, shard, script: str, folder) -> list[str]:
    datasets = [tree.results / "data" / f"{name}.safetensors" for name in shard.datasets]
    training = shard.training | {"training": shard.training["training"] | {"steps": 1500}}
    paths = {"states": folder / "states.safetensors"}
    spec = training
    if script == "train":
        paths["trajectory"] = folder / "trajectory.parquet"
    else:
        paths["measurements"] = folder / "measurements.parquet"
        spec = {"training": training, "measurements": shard.measurements}
    command = [sys.executable, f"scripts/{script}.py", "--spec", json.dumps(spec)]
    command += ["--datasets", *map(str, datasets)]
    return command + [str(part) for name, path in paths.items() for part in (f"--{name}", path)]


def _run(tree, command, kill_after=None, watch=None) -> bool:
    """Run a job; with `kill_after`, kill it that many seconds after `watch` appears."""
    environment = os.environ | {
        "PYTHONPATH": str(tree.root), "SHARPFLOW_CHECKPOINT_SECONDS": "0.02",
    }  # fmt: skip
    process = subprocess.Popen(command, cwd=tree.root, env=environment, stdout=subprocess.DEVNULL)
    if kill_after is None:
        assert process.wait() == 0
        return True
    while process.poll() is None and not watch.exists():
        time.sleep(0.01)
    time.sleep(kill_after)
    process.send_signal(signal.SIGKILL)
    return process.wait() == 0


@pytest.mark.parametrize("script", ["train", "evaluate_sharpness"])
def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(tree, shard, tmp_path, script):
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
    if script != "train":
        _run(tree, _command(tree, shard, "train", calm))
        (rough / "states.safetensors").write_bytes((calm / "states.safetensors").read_bytes())
    _run(tree, _command(tree, shard, script, calm))
    name = "train" if script == "train" else "evaluate"
    chance = random.Random(script)
    killed, resumed = 0, 0
    for attempt in range(10):
        resumed += (rough / f".{name}.checkpoint").exists()
        (rough / f".{name}.lock").unlink(missing_ok=True)
        # at any moment, or once there is something to go on from
        watch = rough / f".{name}.{('lock', 'checkpoint')[attempt % 2]}"
        command = _command(tree, shard, script, rough)
        killed += not _run(tree, command, chance.uniform(0, 0.6), watch)
    _run(tree, _command(tree, shard, script, rough))
    assert killed >= 5
    assert resumed >= 1
    assert not [path for path in rough.iterdir() if path.name.startswith(".")]
    for path in rough.iterdir():
        assert path.read_bytes() == (calm / path.name).read_bytes(), path.name
    assert {path.name for path in rough.iterdir()} >= (
        {"states.safetensors", "trajectory.parquet"}
        if script == "train"
        else {"measurements.parquet"}
    )


def test_a_checkpoint_of_other_parameters_is_not_gone_on_from(tmp_path):
    import torch

    from sharpflow.storage.checkpoint import Checkpoint

    first = Checkpoint(tmp_path / ".job.checkpoint", "key", interval=0)
    first.offer(lambda: ({"x": torch.arange(3)}, {"step": 7}))
    tensors, metadata = Checkpoint(tmp_path / ".job.checkpoint", "key").load()
    assert tensors["x"].tolist() == [0, 1, 2]
    assert metadata == {"step": 7}
    assert Checkpoint(tmp_path / ".job.checkpoint", "another").load() is None
    raw = bytearray((tmp_path / ".job.checkpoint").read_bytes())
    raw[-1] ^= 1
    (tmp_path / ".job.checkpoint").write_bytes(raw)
    assert first.load() is None


def _launch(tree, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable, "-m", "sharpflow.launch", TARGET, "--cores", "2",
            "--configfile", "config/smoke.yaml",
        ],
        cwd=tree.root,
        env=os.environ | {"PYTHONPATH": str(tree.root), "SHARPFLOW_CHECKPOINT_SECONDS": "0.02"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def test_snakemake_killed_leaves_no_damage(tree, tmp_path):
    """Snakemake alone is killed, so that its lock, its markers and its scripts stay behind."""
    rough = copy_project(tmp_path / "rough")
    chance = random.Random("snakemake")
    for _ in range(3):
        process = _launch(rough)
        while process.poll() is None and not list(rough.results.rglob("data/*.safetensors")):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 6))
        process.kill()
        process.communicate()
    last = _launch(rough)
    output, _ = last.communicate()
    assert last.returncode == 0, output[-3000:]
    made = [p for p in rough.results.rglob("*") if p.is_file() and "logs" not in p.parts]
    made.remove(rough.results / ledger.NAME)
    assert not [p for p in made if p.name.startswith(".")]
    for path in made:
        if "benchmarks" not in path.parts:
            twin = tree.results / path.relative_to(rough.results)
            assert path.read_bytes() == twin.read_bytes(), path


def test_interrupt_leaves_no_child(tmp_path):
    rough = copy_project(tmp_path / "rough")
    # started from a background job of a shell, Python would inherit that Ctrl-C is ignored
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = _launch(rough, start_new_session=True, **heed)
    # a log stays, where the lock of a short job is easily missed
    while process.poll() is None and not list(rough.results.rglob("train.log")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0, output
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a child outlived the interrupted run")


def test_two_runs_in_one_folder(tmp_path):
    rough = copy_project(tmp_path / "rough")
    first = _launch(rough)
    while first.poll() is None and not (rough.root / ".snakemake" / "locks").exists():
        time.sleep(0.05)
    second = _launch(rough)
    output, _ = second.communicate()
    assert second.returncode == 1
    assert "another run is at work" in output
    assert "Traceback" not in output
    output, _ = first.communicate()
    assert first.returncode == 0, output[-3000:]
