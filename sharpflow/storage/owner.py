"""Who holds a lock: a record that tells on any machine whether its owner can still be alive."""

import errno
import fcntl
import json
import os
import pwd
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What `flock` fails with on a file system without it, Lustre say."""

State = Literal["alive", "gone", "unknown"]


@dataclass(frozen=True)
class Owner:
    """A process, named so that no other one at any time is taken for it.

    Attributes:
        host: name of its machine.
        boot: identity of that machine's start.
        namespace: the space that its process number belongs to.
        process: its number.
        started: clock ticks from the machine's start to its own; with the number, unique.
        user: who runs it.
    """

    host: str
    boot: str
    namespace: str
    process: int
    started: int
    user: str

    def state(self, here: "Owner") -> State:
        """Whether it lives, as far as the process `here` can tell."""
        if self.host != here.host:
            return "unknown"
        if self.boot != here.boot:
            return "gone"
        if self.namespace != here.namespace:
            return "unknown"
        return "alive" if _started(self.process) == self.started else "gone"


def this_process() -> Owner:
    """The process that asks."""
    number = os.getpid()
    return Owner(
        socket.gethostname(), _text("/proc/sys/kernel/random/boot_id"),
        _link("/proc/self/ns/pid"), number, _started(number), _user(),
    )  # fmt: skip


def read_owner(handle: int) -> Owner | None:
    """The owner that an open lock file records; None where it records none."""
    try:
        return Owner(**json.loads(os.pread(handle, 4096, 0)))
    except (ValueError, TypeError):
        return None


def write_owner(handle: int, owner: Owner) -> None:
    """Record an owner in an open lock file."""
    content = (json.dumps(asdict(owner)) + "\n").encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, content, 0)
    os.fsync(handle)


def try_flock(handle: int) -> bool | None:
    """Take a file's lock without waiting: True or False, or None where there are no such locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def _started(process: int) -> int:
    """Start of a process in clock ticks; 0 if there is none."""
    # the name, in brackets, may hold anything; the 22nd field is the 20th after it
    words = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(words[19]) if len(words) > 19 and words[0] not in "ZX" else 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
