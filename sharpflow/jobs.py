"""The edge between Snakemake, or a command line, and a job's function."""

import argparse
import ctypes
import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpflow.errors import ConfigError, SharpflowError
from sharpflow.forkserver import SCRIPTS, forked_from, is_ours
from sharpflow.parts.loading import register
from sharpflow.storage.benchmarks import write_benchmark
from sharpflow.storage.heartbeat import beat_path

if hasattr(sys.modules["__main__"], "snakemake"):
    gc.disable()  # a job is mostly its imports, and to search them is a tenth of those: see run_job

_DENIED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Job:
    """What a script works on.

    Attributes:
        inputs, outputs: a path, or a list of paths, by name.
        spec: the job's plain parameters.
        threads: CPU threads that it may use.
        version: the digests of the code and packages that Snakemake started it with.
        progress: where it may say how far it is; None where nobody looks.
        used: where its time and memory are written; None where nobody reads them.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, str]
    spec: Mapping[str, Any]
    threads: int = 1
    version: str = ""
    progress: Path | None = None
    used: str | None = None


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next tensor; False where it cannot be told.

    glibc gives large blocks back to the kernel and takes them anew, page by page, at every step: a
    third to a half of a step of the convolutional networks.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def _from_snakemake(snakemake: Any) -> tuple[Job, str | None]:
    inputs = {
        name: value if isinstance(value, str) else list(value)
        for name, value in snakemake.input.items()
    }
    versions = {key: value for key, value in snakemake.params.items() if key != "spec"}
    log = snakemake.log[0] if snakemake.log else None
    job = Job(
        inputs,
        dict(snakemake.output.items()),
        snakemake.params.spec,
        snakemake.threads,
        json.dumps(versions, sort_keys=True),
        beat_path(log) if log else None,
        getattr(snakemake.log, "used", None),
    )
    return job, log


def _from_command_line(
    description: str, inputs: Sequence[str], outputs: Sequence[str], spec: str
) -> Job:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in inputs:
        many = name.endswith("s") and name not in ("states", "measurements", "claims")
        parser.add_argument(
            f"--{name}", required=True, nargs="+" if many else None, metavar="PATH", help="input"
        )
    for name in outputs:
        parser.add_argument(f"--{name}", required=True, metavar="PATH", help="output")
    parser.add_argument("--spec", required=True, metavar="JSON", help=f"file or text: {spec}")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    values = vars(parser.parse_args())
    text = values["spec"]
    try:
        parsed = json.loads(
            text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        )
    except (OSError, ValueError) as error:
        parser.error(f"--spec is neither a JSON file nor JSON text: {error}")
    return Job(
        {name: values[name] for name in inputs},
        {name: values[name] for name in outputs},
        parsed,
        values["threads"],
    )


def _run(main: Callable[[Job], None], job: Job, log: str | None) -> None:
    with ExitStack() as stack:
        if log is not None:
            handle = stack.enter_context(open(log, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(handle))
            stack.enter_context(redirect_stderr(handle))
        if (server := forked_from()) and log is not None:
            print(f"forked from process {server}, which had libraries loaded")
        try:
            register(job.spec.get("paper_folders", {}))
            main(job)
            if job.used is not None:
                write_benchmark(job.used, forked=bool(server))
        except SharpflowError as error:
            if log is not None:
                print(f"Error: {error}", file=handle)
            raise


def run_job(
    main: Callable[[Job], None],
    script: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    spec: str,
) -> None:
    """Run a script's `main` on what Snakemake, or the command line, gives it.

    A SharpflowError, or a log that cannot be written, ends the process with its message and
    status 1, without a traceback; a Ctrl-C ends it as the signal does, once files are closed.

    Args:
        main: the job's function.
        script: the script's globals: its docstring, and `snakemake` if that started it.
        inputs: names of the files that it reads, options of the command line.
        outputs: names of the files that it writes, options of the command line.
        spec: what the parameters are, for `--help`.

    Raises:
        ConfigError: inside, as other SharpflowErrors: the script is of another copy of sharpflow.
        OSError: a file could not be used for another reason than a full disk or a lack of rights;
            it keeps its traceback.
    """
    log = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_freed_memory()
    gc.freeze()  # what was imported stays: to search it at the end is a quarter of a small job
    gc.enable()
    if "snakemake" in script:
        job, log = _from_snakemake(script["snakemake"])
    else:
        job = _from_command_line(script["__doc__"], inputs, outputs, spec)
    if (torch := sys.modules.get("torch")) is not None:  # a job without it need not import it
        torch.set_num_threads(job.threads)
    try:
        if "__real_file__" in script and not is_ours(script["__file__"]):
            raise ConfigError(
                f"the job {script['__file__']} loads the sharpflow of another copy, that with "
                f"{SCRIPTS}, which its digest is not of; install the copy that is run."
            )
        _run(main, job, log)
    except KeyboardInterrupt:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        sys.exit(128 + signal.SIGINT)  # where the signal is blocked
    except SharpflowError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in _DENIED:
            raise
        first = error.__context__  # on a full disk the log of a message fails too
        known = isinstance(first, SharpflowError)
        message = str(first) if known else f"{log} could not be written: {error.strerror}."
    else:
        if script.get("__name__") == "__main__":  # taking PyTorch down is a tenth of a small job
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        return
    above = "\n" if sys.stderr.isatty() else ""  # the line of the run may end where this begins
    print(f"{above}Error: {message}", file=sys.stderr)
    sys.exit(1)
