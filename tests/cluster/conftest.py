"""A real cluster, a copy of the project for each test, and what a run on this machine gives."""

import pytest
import slurm
from projects import copy_of_project


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    """A cluster for a module of tests; with an accounting database where it says `DATABASE`."""
    database = getattr(request.module, "DATABASE", False)
    if reason := slurm.why_not(database):
        pytest.skip(reason)
    cluster = slurm.Slurm(tmp_path_factory.mktemp("slurm"), database)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def project(tmp_path):
    project = copy_of_project(tmp_path / "project")
    yield project
    for head in project.heads:
        head.kill()
        head.wait()


@pytest.fixture(scope="session")
def local(tmp_path_factory) -> dict[str, bytes]:
    """What a run on this machine gives."""
    project = copy_of_project(tmp_path_factory.mktemp("local") / "project")
    assert project.run("--cores", "2") == 0, project.said[-3000:]
    return project.results()
