"""Scratch folders, images and recipes of the environment: what is named has to be there."""

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sharpflow.config.places import check_image
from sharpflow.errors import ConfigError, SharpflowError
from sharpflow.storage.checkpoint import SCRATCH_VARIABLE, job_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"


def checkpoint(output):
    job = SimpleNamespace(inputs={}, spec={}, threads=1, version="")
    return job_checkpoint(job, "train", output)


def test_a_checkpoint_lies_beside_the_output_or_on_scratch(tmp_path, monkeypatch):
    first, second = (str(tmp_path / name / "states.safetensors") for name in "ab")
    monkeypatch.delenv(SCRATCH_VARIABLE, raising=False)
    assert checkpoint(first).path.parent == tmp_path / "a"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv(SCRATCH_VARIABLE, str(scratch))
    places = [checkpoint(output).path for output in (first, second, first)]
    assert places[0] == places[2] != places[1]
    assert {place.parents[1] for place in places} == {scratch}
    with checkpoint(first).held():
        assert places[0].with_suffix(".lock").exists()
    assert not (tmp_path / "a").exists()


def test_scratch_that_is_absent_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(SharpflowError, match=r"'.*none' is not a folder") as said:
        checkpoint(str(tmp_path / "states.safetensors"))
    assert "\n" not in str(said.value)


def test_an_image_is_a_file_or_an_address(tmp_path):
    image = tmp_path / "sharpflow.sif"
    assert check_image(str(image), wanted=False) is None
    for wrong in (None, "", 3, str(image)):
        with pytest.raises(ConfigError, match="container"):
            check_image(wrong, wanted=True)
    image.touch()
    assert check_image(str(image), wanted=True) == str(image)
    assert check_image("docker://lab/sharpflow:1", wanted=True) == "docker://lab/sharpflow:1"


def sections(text):
    """Lines of an Apptainer definition: header keys, and sections by name."""
    header, found, name = {}, {}, None
    for line in text.splitlines():
        line = line.partition(" #")[0] if not line.startswith("#") else ""
        if line.startswith("%"):
            name = line[1:].strip()
            assert name in {"files", "post", "environment", "labels", "help", "runscript", "test"}
            assert name not in found, f"%{name} stands twice"
            found[name] = []
        elif name is not None:
            found[name] += [line.strip()] if line.strip() else []
        elif line.strip():
            key, colon, value = line.partition(":")
            assert colon, line
            header[key.strip()] = value.strip()
    return header, found


def test_both_recipes_make_the_same_environment():
    header, found = sections((CONTAINERS / "sharpflow.def").read_text())
    docker = (CONTAINERS / "Dockerfile").read_text()
    steps = re.sub(r"\\\n\s*", "", docker).splitlines()
    (base,) = (line.removeprefix("FROM ") for line in steps if line.startswith("FROM "))
    assert header == {"Bootstrap": "docker", "From": base}
    runs = [line.removeprefix("RUN ") for line in steps if line.startswith("RUN ")]
    assert [part.strip() for run in runs for part in run.split("&&")] == [
        line.strip() for line in found["post"]
    ]
    (copied,) = (line.removeprefix("COPY ") for line in steps if line.startswith("COPY "))
    *sources, folder = copied.split()
    assert found["files"] == [f"{source} {folder}{source}" for source in sources]
    lists, constraints = sources
    assert f"-c {constraints}" in (ROOT / lists).read_text().splitlines()
    assert (ROOT / constraints).is_file()
    assert runs[-1].endswith(f"-r {folder}{lists}")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = (p for p in environment["dependencies"] if str(p).startswith("python="))
    assert base.startswith(f"python:{python.removeprefix('python=')}.")


def test_the_definition_runs_in_a_shell():
    _, found = sections((CONTAINERS / "sharpflow.def").read_text())
    for name in ("post", "environment"):
        subprocess.run(["sh", "-n"], input="\n".join(found[name]), text=True, check=True)


def test_the_dockerfile_is_linted():
    if not (linter := shutil.which("hadolint")):
        pytest.skip("tests/storage.txt is not installed")
    done = subprocess.run([linter, CONTAINERS / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


SHARED = (
    "rerun-triggers", "rerun-incomplete", "printshellcmds", "show-failed-logs",
    "max-checksum-file-size",
)  # fmt: skip


@pytest.mark.parametrize("name", ["s3", "pbs"])
def test_a_profile_repeats_what_the_default_one_says(name):
    default, other = (
        yaml.safe_load((ROOT / "profiles" / each / "config.yaml").read_text())
        for each in ("default", name)
    )
    assert set(default) == set(SHARED)
    assert {key: other[key] for key in SHARED} == default
