"""Which files of a results folder are what their jobs wrote, each read once until it changes.

`.checked.json` in the folder keeps the checksum of each file that was found whole, with its size,
times and inode: a file for which the file system still says the same is not read again. It may be
deleted at any time.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.storage import seal

NAME = ".checked.json"
_BATCH = 64  # names handed to a thread at once: to hand over one costs as much as to look at it
_WORKERS = min(8, os.cpu_count() or 1)


class Examined(NamedTuple):
    """SHA-256 of the files that are whole, and what is wrong with the others, by name."""

    whole: dict[str, str]
    wrong: dict[str, IntegrityError]


def examine(root: str | Path, names: Iterable[str]) -> Examined:
    """Check the seals of files, in parallel, and note what was found whole.

    Args:
        root: the results folder.
        names: of files, from `root` on.
    """
    root = Path(root)
    before = _load(root)

    def entry(name: str) -> list | IntegrityError:
        try:
            signature = _signature(root / name)
            known = before.get(name)
            if known is not None and known[:-1] == signature:
                return known
            plain = hashlib.sha256()
            seal.check(root / name, plain)
        except (OSError, ValueError):
            return IntegrityError(f"{root / name} is missing.")
        except IntegrityError as error:
            return error
        return [*signature, plain.hexdigest()]

    ordered = list(names)
    batches = [ordered[i : i + _BATCH] for i in range(0, len(ordered), _BATCH)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        found = chain.from_iterable(pool.map(lambda batch: list(map(entry, batch)), batches))
        entries = dict(zip(ordered, found, strict=True))
    wrong = {name: found for name, found in entries.items() if isinstance(found, IntegrityError)}
    whole = {
        name: found for name, found in entries.items() if not isinstance(found, IntegrityError)
    }
    if whole != before:
        with suppress(SharpflowError):  # a full or read-only disk can be looked at all the same
            seal.write_json(root / NAME, {"files": whole})
    return Examined({name: found[-1] for name, found in whole.items()}, wrong)


def altered(root: str | Path, names: Iterable[str]) -> list[str]:
    """Those of the names whose files are there and are not what their jobs wrote."""
    wrong = examine(root, names).wrong
    return [name for name, error in wrong.items() if isinstance(error, seal.AlteredError)]


def _signature(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _load(root: Path) -> dict[str, list]:
    try:
        return seal.read_json(root / NAME)["files"]
    except IntegrityError:
        return {}
