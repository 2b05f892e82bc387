"""A real Slurm of three emulated nodes on one Debian machine, with or without a database.

    python tests/cluster/slurm.py start FOLDER    # as root; installs Debian's packages if need be
    python tests/cluster/slurm.py stop FOLDER

Everything that it writes is in FOLDER, but for `slurm.conf` and `slurmdbd.conf` in `/etc/slurm`,
where Slurm looks for them; files that were there are put aside and put back. Only processes that it
started are stopped.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# where Debian puts daemons, which need not be on a user's path
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DATABASE_PACKAGES = ("slurmdbd", "mariadb-server")
NODES = ("n1", "n2", "n3")
COLUMNS = {
    "id": "%i", "name": "%j", "state": "%T", "comment": "%k", "nodes": "%N", "folder": "%Z",
    "time": "%l", "memory": "%m", "cpus": "%C",
}  # fmt: skip
CONFIGURATION = Path("/etc/slurm/slurm.conf")
DATABASE_CONFIGURATION = Path("/etc/slurm/slurmdbd.conf")
MARK = "# written by tests/cluster/slurm.py\n"
CONF = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# a job over its memory is killed without control groups
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge={kept}
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=4 \\
 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
WITH_DATABASE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePass={folder}/munge/socket
AccountingStoragePort={accounting}
"""
DATABASE_CONF = """\
DbdHost=localhost
DbdPort={accounting}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
GRANT = (
    "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1'"
)


def why_not(database: bool = False) -> str:
    """Why no cluster, with a database if need be, can be started here; nothing if it can."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root"
    if CONFIGURATION.exists() and shutil.which("sinfo") and _succeeds("sinfo"):
        return "this machine belongs to a cluster"
    commands = ["slurmctld", "slurmd", "sbatch", "munged"]
    packages: list[str] = [*PACKAGES]
    if database:
        commands += ["slurmdbd", "mariadbd", "mariadb-install-db", "mariadb"]
        packages += DATABASE_PACKAGES
    if all(shutil.which(name) for name in commands):
        return ""
    if not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        return "Slurm's packages are installed with apt-get, on Debian"
    return install(packages)


def _succeeds(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=60).returncode == 0


def install(packages: list[str]) -> str:
    """Install Debian's packages; why that did not work, or nothing."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    steps = (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages),
    )
    for step in steps:
        done = subprocess.run(step, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"{' '.join(step[:2])} failed: {last}"
    return ""


def wait_for(condition, what: str, seconds: float = 120):
    """Wait until a condition holds; what it returned. A RuntimeError with `what` if never."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come about in {seconds:g} s")
        time.sleep(0.2)
    return found


def alive(process: int) -> bool:
    """Does a process run (a zombie does not)?"""
    try:
        state = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        )
    except OSError:
        return False
    return state != "Z"


def free_ports(count: int) -> list[int]:
    """The first of a run of ports that nobody listens on."""
    for first in range(17001, 30000, 10):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, each in enumerate(sockets):
                each.bind(("127.0.0.1", first + offset))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise RuntimeError("no free ports")


def put_aside(path: Path, text: str) -> None:
    """Write a file in the place of the machine's own, which `put_back` puts back.

    What a run of these tests left that was killed is not the machine's own: put back, it would have
    every later start of Snakemake wait for a controller that is gone.
    """
    aside = path.with_name(f"{path.name}.before-sharpflow-tests")
    if path.exists() and not path.read_text(encoding="utf-8").startswith(MARK):
        path.rename(aside)
    path.parent.mkdir(exist_ok=True)
    path.touch(0o600)
    path.write_text(MARK + text, encoding="utf-8")
    path.chmod(0o600 if path == DATABASE_CONFIGURATION else 0o644)


def put_back(path: Path) -> None:
    """The opposite of `put_aside`."""
    path.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.before-sharpflow-tests")
    if aside.exists():
        aside.rename(path)


@dataclass(frozen=True)
class Slurm:
    """The cluster whose files are in a folder; with a database, ended jobs leave the queue soon."""

    folder: Path
    database: bool = False

    def start(self) -> None:
        """Start munge, the controller and three nodes, and wait until the nodes are idle."""
        for part in ("state", "log", "munge"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._start_munge()
        host = socket.gethostname().split(".")[0]
        controller, accounting, storage, first, *_, last = free_ports(3 + len(NODES))
        conf = CONF + (WITH_DATABASE if self.database else "")
        put_aside(
            CONFIGURATION,
            conf.format(
                folder=self.folder, host=host, controller=controller, first=first, last=last,
                accounting=accounting, kept=5 if self.database else 3600,
            ),
        )  # fmt: skip
        if self.database:
            put_aside(
                DATABASE_CONFIGURATION,
                DATABASE_CONF.format(folder=self.folder, accounting=accounting, storage=storage),
            )
            self._start_database(storage)
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_for_nodes()

    def _start_database(self, port: int) -> None:
        """Start MariaDB with files of its own, and `slurmdbd`; wait until `sacctmgr` answers."""
        data, sockets = self.folder / "mariadb", self.folder / "mariadb.socket"
        base = ["--no-defaults", "--user=root", f"--datadir={data}"]
        subprocess.run(["mariadb-install-db", *base], check=True, capture_output=True)
        log = f"--log-error={self.folder}/log/mariadb.log"
        places = [f"--socket={sockets}", f"--pid-file={self.folder}/mariadbd.pid", log]
        address = ["--bind-address=127.0.0.1", f"--port={port}"]
        subprocess.Popen(["mariadbd", *base, *places, *address], start_new_session=True)
        client = ["mariadb", "--no-defaults", f"--socket={sockets}", "-e"]
        wait_for(lambda: _succeeds(*client, "SELECT 1"), "an answer of mariadbd")
        subprocess.run([*client, GRANT], check=True, capture_output=True)
        subprocess.run(["slurmdbd"], check=True, capture_output=True)
        wait_for(lambda: _succeeds("sacctmgr", "-n", "show", "cluster"), "an answer of slurmdbd")
        # jobs of a cluster that the database does not know would wait there
        add = ["sacctmgr", "--immediate", "add"]
        subprocess.run([*add, "cluster", "toy"], check=True, capture_output=True)

    def _start_munge(self) -> None:
        """A munge of our own key and socket: the machine's is left alone."""
        folder = self.folder / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        folder.chmod(0o755)
        subprocess.run(
            [
                "munged", "--force", f"--key-file={key}", f"--socket={folder}/socket",
                f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/log/munged.log",
                f"--seed-file={folder}/seed",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip

    def start_controller(self) -> None:
        """Start `slurmctld`, and wait until it answers."""
        subprocess.run(["slurmctld"], check=True, capture_output=True)
        wait_for(self._answers, "an answer of slurmctld")

    @staticmethod
    def _answers() -> bool:
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
        return ping.returncode == 0 and "UP" in ping.stdout

    def start_node(self, node: str, hidden: Path | None = None) -> None:
        """Start the `slurmd` of a node; with `hidden`, that folder is empty on it."""
        command = ["slurmd", "-N", node]
        if hidden is not None:
            script = f"mount -t tmpfs none {shlex.quote(str(hidden))} && exec slurmd -N {node}"
            command = ["unshare", "--mount", "sh", "-c", script]
        subprocess.run(command, check=True, capture_output=True)

    def wait_for_nodes(self, count: int = len(NODES)) -> None:
        """Wait until so many nodes take jobs."""

        def ready():
            done = subprocess.run(
                ["sinfo", "-h", "-t", "idle,mixed,allocated", "-o", "%D"],
                capture_output=True, text=True,
            )  # fmt: skip
            return sum(map(int, done.stdout.split())) == count

        wait_for(ready, f"{count} nodes at work")

    def kill(self, name: str) -> None:
        """End one daemon: "slurmctld", "slurmd-n1", "munged"."""
        file = self.folder / f"{name}.pid"
        if not file.exists():
            return
        process = int(file.read_text())
        try:
            os.kill(process, signal.SIGTERM)
            wait_for(lambda: not alive(process), f"the end of {name}", 30)
        except ProcessLookupError:
            pass
        except RuntimeError:
            os.kill(process, signal.SIGKILL)
        file.unlink(missing_ok=True)

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, put back the machine's configuration."""
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=60)
        with contextlib.suppress(RuntimeError, subprocess.CalledProcessError):
            wait_for(lambda: not self.jobs("RUNNING", "COMPLETING"), "the end of all jobs", 30)
        nodes = (f"slurmd-{node}" for node in NODES)
        for name in (*nodes, "slurmctld", "slurmdbd", "mariadbd", "munged"):
            self.kill(name)
        put_back(CONFIGURATION)
        put_back(DATABASE_CONFIGURATION)

    def jobs(self, *states: str) -> dict[str, dict[str, str]]:
        """Jobs that the controller knows, in these states or any, by number."""
        wanted = f"--states={','.join(states) or 'all'}"
        done = subprocess.run(
            ["squeue", "-h", "-r", wanted, "-o", "|".join(COLUMNS.values())],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = (
            dict(zip(COLUMNS, line.split("|"), strict=True)) for line in done.stdout.splitlines()
        )
        return {row["id"]: row for row in rows}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit(__doc__)
    if sys.argv[1] == "start" and (reason := why_not()):
        sys.exit(f"No cluster here: {reason}.")
    getattr(Slurm(Path(sys.argv[2]).absolute()), sys.argv[1])()
