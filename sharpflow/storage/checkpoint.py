"""A job's private checkpoint: what a killed job goes on from.

It lies beside the job's outputs, or on a scratch disk, undeclared, so that Snakemake neither waits
for it nor deletes it; it is keyed by everything that decides the job's result, and gone when the
job is done.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.storage.files import fingerprint
from sharpflow.storage.owner import try_flock
from sharpflow.storage.seal import check
from sharpflow.storage.tensors import read_tensors, write_tensors

INTERVAL_VARIABLE = "SHARPFLOW_CHECKPOINT_SECONDS"
DEFAULT_INTERVAL = 20.0
SCRATCH_VARIABLE = "SHARPFLOW_SCRATCH"

Contents = tuple[dict[str, Tensor], dict[str, Any]]


def checkpoint_folder(output: str) -> Path:
    """Folder of an output's checkpoint: the output's, or one for it under SHARPFLOW_SCRATCH.

    Raises:
        SharpflowError: the scratch folder is not there, or cannot be written.
    """
    scratch = os.environ.get(SCRATCH_VARIABLE)
    if not scratch:
        return Path(output).parent
    if not (os.path.isdir(scratch) and os.access(scratch, os.W_OK | os.X_OK)):
        raise SharpflowError(
            f"{SCRATCH_VARIABLE} = {scratch!r} is not a folder that can be written on "
            f"{os.uname().nodename}; make it there, name another, or unset the variable."
        )
    return Path(scratch) / f"sharpflow-{fingerprint(os.path.abspath(output))[:16]}"


def job_checkpoint(job: Any, name: str, output: str) -> "Checkpoint":
    """The checkpoint of a job, keyed by parameters, threads, code and inputs."""
    inputs = {
        key: [check(path) for path in ([paths] if isinstance(paths, str) else paths)]
        for key, paths in job.inputs.items()
    }
    key = fingerprint(job.spec, job.threads, job.version, inputs)
    return Checkpoint(checkpoint_folder(output) / f".{name}.checkpoint", key)


class Checkpoint:
    """One job's checkpoint file.

    Args:
        path: where it lies.
        key: a checkpoint with another key is of another job, or of older code, and is ignored.
        interval: seconds between writes; by default the environment's
            `SHARPFLOW_CHECKPOINT_SECONDS`, or 20.
    """

    def __init__(self, path: str | Path, key: str, interval: float | None = None):
        self.path = Path(path)
        self.key = key
        named = float(os.environ.get(INTERVAL_VARIABLE, DEFAULT_INTERVAL))
        self.interval = named if interval is None else interval
        self._written = time.monotonic()

    def load(self) -> Contents | None:
        """Tensors and metadata of the last write, or None if there is nothing to go on from."""
        if not self.path.exists():
            return None
        try:
            tensors, metadata = read_tensors(self.path)
        except IntegrityError:
            return None
        return (tensors, metadata["contents"]) if metadata["key"] == self.key else None

    def offer(self, contents: Callable[[], Contents]) -> None:
        """Write what `contents()` gives, if the last write is an interval ago."""
        if time.monotonic() - self._written >= self.interval:
            tensors, metadata = contents()
            write_tensors(self.path, tensors, {"key": self.key, "contents": dict(metadata)})
            self._written = time.monotonic()

    @contextmanager
    def held(self) -> Iterator["Checkpoint"]:
        """Hold the checkpoint's lock; wait for a script that an earlier, killed Snakemake left.

        Temporary files of a killed write are removed on entry; the checkpoint is removed when the
        block succeeds. The operating system frees the lock of a process that dies.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_suffix(".lock")
        with _locked(lock) as alone:
            if alone:
                self._clear()
            yield self
            self.path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what killed writes left."""
        folder = self.path.parent
        # the second kind is safetensors' own, which a kill inside its write leaves
        for stale in (*folder.glob(f".{self.path.stem}*.tmp"), *folder.glob(".tmp??????")):
            stale.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path) -> Iterator[bool]:
    """Hold a lock; whether there are locks at all."""
    while True:
        with open(lock, "wb") as handle:
            taken = try_flock(handle.fileno())
            if taken is None:  # files are whole or absent, so that two at work do no damage
                print(f"{lock}: the file system has no locks; going on without", flush=True)
                yield False
                return
            if not taken:
                print(f"waiting for another process that holds {lock}", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            # the one before us may have removed the file that we waited for
            if lock.exists() and os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
                yield True
                return
