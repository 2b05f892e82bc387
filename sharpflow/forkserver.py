"""One interpreter with PyTorch loaded, from which the jobs of a run on one machine are forked.

To import PyTorch is most of a small job. Snakemake starts the script of a job as it always does;
where a server runs, that process hands its script over, waits, and ends as the job ends. What
cannot be handed over (another interpreter, a container, a server that is gone) runs as it is.
"""

import atexit
import ctypes
import errno
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

ADDRESS = "SHARPFLOW_FORK_SERVER"
"""Environment variable with the address of a server; empty where jobs are not to be forked.

A run that finds it set starts none.
"""
PRELOADED = (
    *("torch", "torch.func", "torch.fx.experimental.symbolic_shapes"),  # the last loads sympy
    *("pandas", "pyarrow.parquet", "pyarrow.pandas_compat", "safetensors.torch"),
    *("scipy.stats", "snakemake.script"),
    *(f"matplotlib.backends.backend_{kind}" for kind in ("agg", "pdf", "svg")),
)
"""What is loaded before the first job; nothing of this project, which may differ between jobs."""
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "GOTO", "OPENBLAS", "MKL")]
"""What Snakemake sets for a job, of what libraries here read."""
_PACKAGE = Path(__file__).resolve().parent
_INSIDE = _PACKAGE / "_workflow"  # as in sharpflow.config.home, which the server cannot import
SCRIPTS = (_INSIDE if _INSIDE.is_dir() else _PACKAGE.parent) / "scripts"
"""Of the jobs of this copy of sharpflow."""
_READ_WHEN_LOADED = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "DNNL_", "ONEDNN_"),
    *("TORCH", "PYTORCH_", "ATEN_", "CUDA_", "NVIDIA_", "LD_", "MALLOC_", "GLIBC_", "PYTHON"),
)
_FORKED = "SHARPFLOW_FORKED_FROM"
_TAKEN, _REFUSED = b"+", b"-"
_SET_PARENT_DEATH_SIGNAL = 1  # of Linux's prctl.h
_STATUS = struct.Struct("i")
_SIZE = struct.Struct("Q")
_PATIENCE = 10.0  # seconds that the other side has for what it is to do


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Start processes that hear of a Ctrl-C when they can end in a sentence: see `hear_sigint`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_sigint(then: Any) -> None:
    """Do what is given at a Ctrl-C from here on, and at one that came while it was blocked.

    A process that was started to ignore it, as in the background of a script, does so still.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, then)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def block_sigint() -> None:
    """Have what this thread starts hear of a Ctrl-C only when it asks for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _world(environment: Mapping[str, str]) -> list[str]:
    """What has to be the same for a fork to stand for a process with this environment.

    The interpreter, the files and processes that it sees, and what libraries read when they are
    loaded, such as the number of threads; of where modules are looked for, what is not the project.
    """
    spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid", "user")]
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    others = os.pathsep.join(folder for folder in folders if folder != str(SCRIPTS.parent))
    known = {**environment, "PYTHONPATH": others}
    read = [f"{k}={v}" for k, v in sorted(known.items()) if k.startswith(_READ_WHEN_LOADED)]
    return [sys.executable, *spaces, *read]


class Server:
    """The server that this process started; it ends with this process, however that ends.

    Args:
        threads: of the jobs that it may fork; others are not forked.
        preloaded: modules that it imports.
        environment: that it is started in; this process's by default.
    """

    def __init__(
        self,
        threads: int,
        preloaded: tuple[str, ...] = PRELOADED,
        environment: Mapping[str, str] = os.environ,
    ):
        self.address = str(Path(tempfile.mkdtemp(prefix="sharpflow-")) / "jobs")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(128)
            # -P: the folder of this file has modules named like those of the standard library
            words = [sys.executable, "-P", __file__, self.address, str(listener.fileno())]
            with sigint_blocked():
                self._process = subprocess.Popen(
                    [*words, *preloaded],
                    stdin=subprocess.PIPE,
                    pass_fds=[listener.fileno()],
                    env={**environment, **dict.fromkeys(THREADS, str(threads))},
                )

    def stop(self) -> None:
        """End it, once the jobs that it forked have ended; do not wait for one that goes on."""
        with suppress(OSError):
            self._process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)


def start(threads: int) -> Server | None:
    """Start a server for the jobs of this process; None where one runs, or none can or shall.

    Only Linux: elsewhere libraries do not survive a fork.

    Args:
        threads: of a job.
    """
    if sys.platform != "linux" or ADDRESS in os.environ:
        return None
    server = Server(threads)
    atexit.register(server.stop)  # holds it as long, and counts what it takes as this process's
    os.environ[ADDRESS] = server.address
    return server


def forked_from() -> str:
    """The process number of the server that this process was forked from; empty where of none."""
    number = os.environ.get(_FORKED, "")
    return number if number == str(os.getppid()) else ""  # what it starts has its environment


def hand_over() -> None:
    """Have a server run this process's script, and end as it ends; return where that cannot be.

    Only a script of this project is handed over, which has done nothing yet when it comes here.
    """
    hear_sigint(signal.SIG_DFL)  # an import that is interrupted has nothing to tell
    address, main = os.environ.get(ADDRESS), sys.modules["__main__"]
    script = getattr(main, "__real_file__", None)
    if not address or script is None or not is_ours(main.__file__):
        return
    environment = {k: v for k, v in os.environ.items() if k != ADDRESS}  # else it hands over too
    process = submit(address, [os.path.abspath(script)], environment, sys.path)
    if process is None:
        return
    with process:
        _end_as(ended(process))


def is_ours(script: str | None) -> bool:
    """Whether a file is a script of this copy of sharpflow."""
    return Path(script or "").resolve().parent == SCRIPTS


def submit(
    address: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    path: Sequence[str],
    folder: str | Path = ".",
    files: Sequence[int] = (0, 1, 2),
) -> socket.socket | None:
    """Have a server run a script; a connection that its status comes through when it has ended.

    Args:
        address: of the server.
        words: the script, and its arguments.
        environment: of the process.
        path: where it looks for modules.
        folder: that it works in.
        files: its standard streams.

    Returns:
        None where the server is gone, or a fork of it would not be what a new process is.
    """
    server = socket.socket(socket.AF_UNIX)
    try:
        request = {
            "words": list(words),
            "world": _world(environment),
            "environment": dict(environment),
            "folder": os.path.abspath(folder),
            "path": list(path),
        }
        text = json.dumps(request).encode()
        server.connect(address)
        socket.send_fds(server, [_SIZE.pack(len(text))], list(files))
        server.sendall(text)
        if server.recv(1) == _TAKEN:
            return server
    except OSError:
        pass
    server.close()
    return None


def ended(process: socket.socket) -> int | None:
    """The status of a submitted process, once it has ended; None where its server was killed.

    Negative where a signal ended it, as in `subprocess`.
    """
    status = _receive(process, _STATUS.size)
    if len(status) < _STATUS.size:
        return None
    return os.waitstatus_to_exitcode(_STATUS.unpack(status)[0])


def _end_as(code: int | None) -> NoReturn:
    if code is None:
        print("Error: the process that jobs are forked from was killed.", file=sys.stderr)
        os._exit(1)
    if code < 0:
        with suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _receive(connection: socket.socket, size: int) -> bytes:
    """That many bytes, or fewer where the other side has ended."""
    found = b""
    while len(found) < size:
        try:
            more = connection.recv(size - len(found))
        except ConnectionError:
            break
        if not more:
            break
        found += more
    return found


def _read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.settimeout(_PATIENCE)
    head, files, _, _ = socket.recv_fds(connection, _SIZE.size, 3)
    try:
        text = _receive(connection, _SIZE.unpack(head)[0])
        request = json.loads(text)
    except (struct.error, ValueError, OSError):
        for file in files:
            os.close(file)
        raise
    connection.settimeout(None)
    return request, files


def _end_with(client: socket.socket) -> None:
    """End this process when its client does: Snakemake ends a job by ending its script."""
    _receive(client, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _run(request: dict[str, Any], files: list[int], client: socket.socket) -> NoReturn:
    """Be the process that the client would have been."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # else nobody is told
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"] | {_FORKED: str(os.getppid())})
        sys.path[:] = request["path"]
        sys.argv[:] = request["words"]
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed()  # random states of this process, not of all its siblings
        gc.enable()
        threading.Thread(target=_end_with, args=(client,), daemon=True).start()
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        if isinstance(error.code, int) or error.code is None:
            code = error.code or 0
        else:
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _answer(connection: socket.socket, others: Iterable[socket.socket]) -> int | None:
    """Fork the job of a connection; its process number, or None where it was refused.

    Args:
        connection: of the client.
        others: what else is open here, and is not the job's.
    """
    try:
        request, files = _read_request(connection)
    except (OSError, ValueError, struct.error):
        return None
    try:
        if request.get("world") != _world(os.environ) or len(files) != 3:
            connection.sendall(_REFUSED)
            return None
        connection.sendall(_TAKEN)
        number = os.fork()
        if number == 0:
            for other in others:
                other.close()
            _run(request, files, connection)
        return number
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            traceback.print_exc()
        return None
    finally:
        for file in files:
            os.close(file)


def _serve(listener: socket.socket) -> None:
    """Fork a job for each client, until the process that started this has ended."""
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # jobs are interrupted, and end; this goes on
    jobs: dict[int, socket.socket] = {}
    sources: list[Any] = [listener, awake, 0]
    while listener in sources or jobs:
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready:
            sources = [awake]
            listener.close()
            continue
        if listener in ready:
            connection, _ = listener.accept()
            number = _answer(connection, (listener, *jobs.values()))
            if number is None:
                connection.close()
            else:
                jobs[number] = connection
        if awake in ready:
            with suppress(BlockingIOError):
                os.read(awake, 4096)
            for number, connection in list(jobs.items()):
                ended, status = os.waitpid(number, os.WNOHANG)
                if ended:
                    with suppress(OSError):
                        connection.sendall(_STATUS.pack(status))
                    jobs.pop(number).close()


def main(arguments: list[str]) -> None:
    """Load modules, then serve a listening socket, given by its address and file number."""
    hear_sigint(lambda *_: sys.exit(128 + signal.SIGINT))  # there are no jobs yet
    address, number, *modules = arguments
    gc.disable()
    try:
        with socket.socket(fileno=int(number)) as listener:
            for module in modules:
                with suppress(ImportError):  # the job that needs it says so
                    importlib.import_module(module)
            gc.freeze()  # what is shared stays shared
            _serve(listener)
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
