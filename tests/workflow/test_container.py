"""`--sdm apptainer`: jobs are handed to Apptainer with the image that was named."""

import os
import subprocess

import pytest
import small_run

MOUNTS = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]

# what Apptainer does for a job here, without an image: files bound below /mnt, then the command
APPTAINER = """
[ "$1" = --version ] && { echo "apptainer version 1.3.4"; exit; }
echo "$@" >> "$CALLED"
[ -n "$BOUND" ] || BOUND=1 exec unshare --mount "$0" "$@"
mount -t tmpfs tmpfs /mnt
while [ "$1" != bash ] && [ $# -gt 3 ]; do
    if [ "$1" = --bind ]; then
        mkdir -p "$(dirname "${2#*:}")"
        ln -s "${2%%:*}" "${2#*:}"
    fi
    shift
done
exec "$@"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return small_run.small_project(tmp_path_factory.mktemp("contained"))


def dataset(project):
    """A dataset of the small run."""
    planned = small_run.run(project, "-n").stdout
    return next(
        word.rstrip(",") for word in planned.split() if word.startswith("results/small/data/")
    )


def test_a_job_runs_in_the_image_that_is_named(project, tmp_path):
    if subprocess.run(MOUNTS, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    for name in ("apptainer", "singularity"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{APPTAINER}")
        (tmp_path / name).chmod(0o755)
    image, called = tmp_path / "sharpflow.sif", tmp_path / "called"
    image.touch()
    target = dataset(project)
    done = small_run.run(
        project, "--cores", "1", "--sdm", "apptainer", "--config", f"container={image}",
        "--", target,
        PATH=f"{tmp_path}:{os.environ['PATH']}", CALLED=str(called),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert f" {image} " in called.read_text()
    assert (project.root / target).is_file()


def test_without_an_image_nothing_is_started(project):
    done = small_run.run(project, "--cores", "1", "--sdm", "apptainer")
    assert done.returncode == 1
    assert "Error: --sdm apptainer needs an image" in done.stdout
    assert "Traceback" not in done.stdout
