"""Jobs that are forked from one interpreter: each behaves as a process of its own."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sharpflow import forkserver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")

PREAMBLE = f"""
import sys
__real_file__ = __file__; __file__ = {str(forkserver.SCRIPTS / "train.py")!r}
import sharpflow
import os
from sharpflow.forkserver import forked_from
"""
"""What Snakemake puts before a script, as far as it matters here, and the script's first line."""


@pytest.fixture(scope="module")
def server():
    one = forkserver.Server(1, ("colorsys", "numpy"))
    yield one
    one.stop()
    assert not Path(one.address).parent.exists()


def environment(address: str, **others: str) -> dict[str, str]:
    threads = dict.fromkeys(forkserver.THREADS, "1")
    return os.environ | threads | {forkserver.ADDRESS: address} | others


def begun(folder: Path, code: str, address: str, **others: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(PREAMBLE + code)
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment(address, **others),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(folder: Path, code: str, address: str, **others: str) -> tuple[int, str, str]:
    process = begun(folder, code, address, **others)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def gone(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about within 30 s")


def test_a_job_has_its_own_folder_environment_streams_and_status(tmp_path, server):
    code = """
print(os.getcwd(), os.environ["OF_THE_JOB"], "colorsys" in sys.modules, sys.argv, __name__)
print("told", file=sys.stderr)
print(forked_from())
sys.exit(7)
"""
    status, output, errors = ran(tmp_path, code, server.address, OF_THE_JOB="mine")
    script = tmp_path / "script.py"
    first, second = output.splitlines()
    assert first == f"{tmp_path} mine True ['{script}'] __main__"
    assert int(second) == server._process.pid
    assert (status, errors) == (7, "told\n")


def test_an_exception_and_a_message_are_told_as_by_a_process(tmp_path, server):
    status, _, errors = ran(tmp_path, "raise ValueError('of the job')", server.address)
    assert status == 1
    assert errors.startswith("Traceback")
    assert errors.endswith("ValueError: of the job\n")
    assert ran(tmp_path, "sys.exit('why')", server.address) == (1, "", "why\n")
    assert ran(tmp_path, "sys.exit()", server.address) == (0, "", "")


def test_jobs_have_random_states_of_their_own(tmp_path, server):
    code = "import numpy, random; print(forked_from(), numpy.random.rand(), random.random())"
    found = [ran(tmp_path, code, server.address)[1].split() for _ in range(2)]
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
    assert found[0][2] != found[1][2]


def test_a_job_that_is_killed_ends_its_script_likewise(tmp_path, server):
    code = "import signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert ran(tmp_path, code, server.address)[0] == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_script_that_is_killed_ends_its_job(tmp_path, server, number):
    code = """
import time
open("job", "w").write(str(os.getpid())); os.rename("job", "job.txt")
time.sleep(600)
"""
    process = begun(tmp_path, code, server.address)
    until((tmp_path / "job.txt").exists)
    job = int((tmp_path / "job.txt").read_text())
    assert job != process.pid
    process.send_signal(number)
    assert process.wait(30) == -number
    until(lambda: gone(job))


@pytest.mark.parametrize(
    "others",
    [{"OMP_NUM_THREADS": "3"}, {forkserver.ADDRESS: ""}, {forkserver.ADDRESS: "/nowhere/jobs"}],
    ids=["other threads", "not wanted", "no server"],
)
def test_what_cannot_be_forked_runs_as_it_is(tmp_path, server, others):
    code = "print([forked_from()]); sys.exit(3)"
    address = others.get(forkserver.ADDRESS, server.address)
    threads = {key: value for key, value in others.items() if key != forkserver.ADDRESS}
    assert ran(tmp_path, code, address, **threads)[:2] == (3, "['']\n")


def test_the_project_on_the_search_path_is_no_other_world_and_what_else_stands_there_is(
    tmp_path, server
):
    code = "print([forked_from()])"
    project = str(forkserver.SCRIPTS.parent)
    _, here, _ = ran(tmp_path, code, server.address, PYTHONPATH=project)
    assert here == f"['{server._process.pid}']\n"
    both = os.pathsep.join([project, str(tmp_path)])
    _, elsewhere, _ = ran(tmp_path, code, server.address, PYTHONPATH=both)
    assert elsewhere == "['']\n"


def test_what_a_forked_job_starts_is_not_forked_itself(tmp_path, server):
    code = """
import subprocess
code = "from sharpflow.forkserver import forked_from; print([forked_from()])"
print([forked_from() != ""], flush=True)
subprocess.run([sys.executable, "-c", code], check=True)
"""
    project = str(forkserver.SCRIPTS.parent)
    assert ran(tmp_path, code, server.address, PYTHONPATH=project)[1] == "[True]\n['']\n"


@pytest.mark.parametrize("address", ["", "/nowhere/jobs"])
def test_a_run_that_is_given_a_server_starts_none(monkeypatch, address):
    monkeypatch.setenv(forkserver.ADDRESS, address)
    assert forkserver.start(1) is None
    assert os.environ[forkserver.ADDRESS] == address


def test_a_script_of_another_project_is_left_alone(tmp_path, server):
    script = tmp_path / "script.py"
    script.write_text(
        "__real_file__ = __file__; print('once'); import sharpflow\n"
        "from sharpflow.forkserver import forked_from; print([forked_from()])\n"
    )
    found = subprocess.run(
        [sys.executable, str(script)],
        env=environment(server.address),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "once\n['']\n"


def test_a_server_ends_with_the_process_that_started_it(tmp_path):
    code = (
        "import os, signal; from sharpflow.forkserver import Server; one = Server(1, ())\n"
        "print(one._process.pid, one.address, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    number, address = found.stdout.split()
    until(lambda: gone(int(number)) and not Path(address).parent.exists())


def test_a_server_that_is_killed_is_told(tmp_path):
    one = forkserver.Server(1, ())
    code = "import time; open('begun', 'w'); time.sleep(600)"
    process = begun(tmp_path, code, one.address)
    until((tmp_path / "begun").exists)
    one._process.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == "Error: the process that jobs are forked from was killed.\n"


def test_what_its_jobs_took_counts_as_what_its_starter_took(tmp_path):
    script = tmp_path / "script.py"
    work = "import time; sum(range(20_000_000)); print(bool(forked_from()), time.process_time())"
    script.write_text(f"{PREAMBLE}{work}")
    code = (
        "import subprocess, sys; from sharpflow import forkserver; forkserver.start(1)\n"
        f"subprocess.run([sys.executable, {str(script)!r}], check=True)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | dict.fromkeys(forkserver.THREADS, "1"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    forked, own = found.stdout.split()
    assert forked == "True"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before >= 0.9 * float(own)


def interrupted(folder: Path, code: str, address: str) -> tuple[int, str, str]:
    """A job that gets a Ctrl-C before its first line, while it is blocked as in a run."""
    with forkserver.sigint_blocked():
        process = begun(folder, code, address)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_a_ctrl_c_before_a_job_begins_ends_it_without_a_word(tmp_path, server):
    for address in (server.address, ""):
        assert interrupted(tmp_path, "print('begun')", address) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("forked", [True, False])
def test_a_ctrl_c_in_a_job_closes_files_and_ends_it_without_a_word(tmp_path, server, forked):
    code = """
import pathlib, time
from sharpflow import jobs
def main(job):
    try:
        pathlib.Path("begun").touch()
        time.sleep(60)
    finally:
        pathlib.Path("closed").touch()
sys.argv = ["train.py", "--spec", "{}"]
jobs.run_job(main, {"__doc__": ""}, [], [], "")
"""
    with forkserver.sigint_blocked():
        process = begun(tmp_path, code, server.address if forked else "")
    until((tmp_path / "begun").exists)
    if forked:  # the terminal's signal goes to all of the group; here to the job alone
        children = Path(f"/proc/{server._process.pid}/task/{server._process.pid}/children")
        os.kill(int(children.read_text("utf-8").split()[-1]), signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (-signal.SIGINT, "", "")
    assert (tmp_path / "closed").exists()


def test_a_server_that_is_interrupted_while_it_loads_says_nothing(tmp_path):
    """And leaves nothing; jobs then run by themselves."""
    slow = tmp_path / "slow_to_load.py"
    slow.write_text("import pathlib, time; pathlib.Path(__file__ + '.at').touch(); time.sleep(60)")
    own = os.environ | {"PYTHONPATH": str(tmp_path)}
    loading = forkserver.Server(1, ("slow_to_load",), own)
    until(Path(f"{slow}.at").exists)
    loading._process.send_signal(signal.SIGINT)
    assert loading._process.wait(60) == 128 + signal.SIGINT
    assert not Path(loading.address).parent.exists()
    loading.stop()
