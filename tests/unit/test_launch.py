"""Locks of another process, machine or namespace; file systems without locks."""

import errno
import fcntl
import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from sharpflow import launch
from sharpflow.errors import ConfigError
from sharpflow.storage.owner import read_owner, this_process, write_owner

HERE = this_process()
DEAD = replace(HERE, started=HERE.started + 1)


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """A function of the recorded owner that tries to take the folder's lock: what it answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)

    def attempt(owner, locked=True):
        lock = tmp_path / ".snakemake" / "locks" / "0.input.lock"
        if locked:
            lock.touch()
        handle = os.open(tmp_path / ".snakemake" / "sharpflow.lock", os.O_RDWR | os.O_CREAT)
        if owner is not None:
            write_owner(handle, owner)
        message = launch.refusal(handle, HERE)
        assert lock.exists() == (bool(message) and locked)
        assert read_owner(handle) == (owner if message else HERE)
        os.close(handle)
        return message

    return attempt


@pytest.fixture(params=["flock", errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def file_system(request, monkeypatch):
    """One with locks, and those without."""

    def refuse(*_):
        raise OSError(request.param, "no locks here")

    if request.param != "flock":
        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def test_what_a_killed_run_of_this_machine_left_is_cleared(attempt, file_system):
    assert attempt(DEAD) == ""
    assert attempt(replace(HERE, boot="before")) == ""


def test_a_living_process_is_waited_for(attempt, file_system):
    assert f"process {HERE.process} of {HERE.user} on {HERE.host}" in attempt(HERE)


def test_another_machine_is_refused_with_what_to_do(attempt, file_system):
    message = attempt(replace(DEAD, host="login2"))
    for words in ("login2", f"ps -p {HERE.process}", ".snakemake/sharpflow.lock", HERE.user):
        assert words in message
    assert "\n" not in message


def test_another_namespace_is_gone_where_its_lock_is_free(attempt, file_system):
    message = attempt(replace(DEAD, namespace="pid:[1]"))
    assert (message == "") == (file_system == "flock")


def test_a_lock_without_a_record_is_not_cleared(attempt, file_system):
    assert "snakemake --unlock" in attempt(None)


@pytest.mark.parametrize("owner", [None, DEAD, replace(DEAD, host="login2")])
def test_a_folder_whose_last_run_ended_is_taken(attempt, file_system, owner):
    assert attempt(owner, locked=False) == ""


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [(["--cores", "2"], True), (["--mode", "remote"], False), (["--target-jobs", "x:"], False)],
)
def test_a_head_is_told_from_the_snakemake_inside_a_job(attempt, tmp_path, arguments, refused):
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    (tmp_path / "snakemake").symlink_to(sys.executable)
    command[0] = str(tmp_path / "snakemake")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, *arguments], cwd=tmp_path, **pipes) as other:
        assert other.stdout.readline() == "\n"
        message = attempt(DEAD)
        assert (f"process {other.pid}" in message) == refused
        other.stdin.close()


@pytest.mark.parametrize(
    ("words", "refused"), [(["sharpflow", "snakemake"], False), (["-m", "snakemake"], True)]
)
def test_the_command_that_started_this_is_no_head(attempt, tmp_path, words, refused):
    """`python bin/sharpflow snakemake …` waits for this process."""
    (tmp_path / "python").symlink_to(sys.executable)
    code = "import sys; print(flush=True); sys.stdin.read()"
    for name in ("sharpflow", "snakemake.py"):
        (tmp_path / name).write_text(code)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([tmp_path / "python", *words], cwd=tmp_path, **pipes) as other:
        assert other.stdout.readline() == "\n"
        assert (f"process {other.pid}" in attempt(DEAD)) == refused
        other.stdin.close()


def test_a_lock_held_in_a_second_process_namespace_is_seen(attempt, tmp_path):
    code = (
        "import os, sys\nfrom sharpflow import launch\nfrom sharpflow.storage.owner import *\n"
        "h = os.open('.snakemake/sharpflow.lock', os.O_RDWR | os.O_CREAT)\n"
        "assert not launch.refusal(h, this_process())\nprint('held', flush=True)\nsys.stdin.read()"
    )
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as holder:
        if holder.stdout.readline() != "held\n":
            pytest.skip("no process namespace can be made here")
        (tmp_path / ".snakemake" / "locks" / "0.input.lock").touch()
        handle = os.open(tmp_path / ".snakemake" / "sharpflow.lock", os.O_RDWR)
        assert "another run is at work" in launch.refusal(handle, HERE)
        holder.stdin.close()
        holder.wait()
        assert launch.refusal(handle, HERE) == ""
    os.close(handle)


def test_a_job_works_where_there_are_no_locks(tmp_path, file_system):
    from sharpflow.storage.checkpoint import Checkpoint

    checkpoint = Checkpoint(tmp_path / ".train.checkpoint", "key")
    with checkpoint.held():
        assert (tmp_path / ".train.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_without_locks_another_process_keeps_its_open_file(tmp_path, file_system):
    from sharpflow.storage.checkpoint import Checkpoint

    theirs = [tmp_path / "..train.checkpoint.node-7.tmp", tmp_path / ".tmpAb3dEf"]
    for path in theirs:
        path.touch()
    with Checkpoint(tmp_path / ".train.checkpoint", "key").held():
        pass
    assert [path.exists() for path in theirs] == [file_system != "flock"] * 2


SWALLOWED = [
    (["--configfile", "a.yaml", "li2022"], "--configfile a.yaml -- li2022"),
    (
        ["--cores", "2", "--configfiles", "a.yaml", "x/b c.png", "-n"],
        "--cores 2 --configfiles a.yaml -n -- 'x/b c.png'",
    ),
    (["--config", "seeds=2", "report", "-n"], "--config seeds=2 -n -- report"),
    (["-C", "report"], "-C -- report"),
]


@pytest.mark.parametrize(("arguments", "meant"), SWALLOWED)
def test_a_target_that_an_option_would_take_is_told_with_the_command_as_meant(arguments, meant):
    with pytest.raises(ConfigError) as caught:
        launch.refuse_swallowed(arguments)
    assert str(caught.value).endswith(f"Write -- before targets: {meant}")
    launch.refuse_swallowed(shlex.split(meant.replace("-C --", "--")))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configfile", "a.yaml", "--", "li2022"],
        ["--configfile=a.yaml", "li2022"],
        ["li2022", "--configfile", "a.yaml"],
        ["--config", "seeds=2", "device=cpu", "--cores", "2"],
    ],
)
def test_what_snakemake_reads_as_meant_is_let_through(arguments):
    launch.refuse_swallowed(arguments)


def test_a_profile_that_is_not_there_is_refused(tmp_path, monkeypatch):
    """Snakemake would go on without it, on this machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no such profile.*there are profiles/mine"):
        launch.check(["--workflow-profile", "profiles/slrum"])
    with pytest.raises(ConfigError, match="no such profile"):
        launch.check(["--workflow-profile=profiles/mine"])
    launch.check(["--workflow-profile", "none"])


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ("executor: absent", "snakemake-executor-plugin-absent"),
        ("default-storage-provider: far-away", "snakemake-storage-plugin-far-away"),
    ],
)
def test_a_plugin_that_is_not_installed_is_named(tmp_path, settings, package):
    (tmp_path / "config.yaml").write_text(settings)
    with pytest.raises(ConfigError, match=f"pip install {package};"):
        launch.check(["--workflow-profile", str(tmp_path), "--cores", "1"])


def test_plugins_that_are_asked_for_on_the_command_line_are_looked_for_too():
    with pytest.raises(ConfigError, match="pip install snakemake-executor-plugin-absent;"):
        launch.check(["-e", "absent"])
    launch.check(["--executor", "local"])


@pytest.mark.parametrize("text", ["executor: [", "- a list", ""])
def test_a_profile_that_says_nothing_is_left_to_snakemake(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    launch.check(["--workflow-profile", str(tmp_path)])
