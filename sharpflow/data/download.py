"""CIFAR-10's binary archive, from its source to a cache: resumed, verified, safely unpacked.

Address and MD5 are those published at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import fcntl
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sharpflow.errors import DataError, SharpflowError
from sharpflow.storage.files import sha256_of, write_bytes, write_json

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
URL_VARIABLE = "SHARPFLOW_CIFAR10_URL"
CACHE_VARIABLE = "SHARPFLOW_CACHE"

ARCHIVE_LIMIT = 256_000_000
MEMBER_LIMIT = 64_000_000
UNPACKED_LIMIT = 200_000_000  # the official archive unpacks to 184.4 MB

_BATCH = re.compile(r"data_batch_[0-9]{1,2}\.bin")
_BLOCK = 2**16
_PROGRESS = 2**20
_BY_HAND = (
    f"To get it by hand, fetch {URL} (MD5 {MD5}) on any machine, unpack it, and give data.path the "
    "folder that holds data_batch_*.bin; or set data.source to 'photos', which needs no download."
)
_UNREADABLE = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RecursionError,
)


class _Broken(Exception):
    """An attempt failed in a way that the next one may not."""


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Attributes:
        attempts: failures in a row, none of which brought a mebibyte, before giving up.
        timeout: seconds without a byte after which an attempt has failed.
        pause: seconds before the second attempt; doubled before each further one, at most 60.
        slowest: bytes a second, on average over `timeout`, below which an attempt has failed.
    """

    attempts: int = 5
    timeout: float = 30.0
    pause: float = 1.0
    slowest: float = 10_000.0


def cache_folder() -> Path:
    """`$SHARPFLOW_CACHE`, or `~/.cache/sharpflow`.

    Raises:
        DataError: neither exists, for the user has no home.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    try:
        return Path.home() / ".cache" / "sharpflow"
    except RuntimeError as error:
        raise DataError(f"No home folder is known for a cache: set {CACHE_VARIABLE}.") from error


def fetch(
    url: str | None = None,
    md5: str = MD5,
    cache: str | Path | None = None,
    patience: Patience | None = None,
) -> Path:
    """The folder of `data_batch_*.bin` in the cache, downloaded if it is not whole there.

    A broken download goes on where it ended, also in a later process; processes that ask at the
    same time wait for the one that downloads.

    Args:
        url: of the archive; by default `$SHARPFLOW_CIFAR10_URL`, or the published address.
        md5: what the archive must have.
        cache: folder to keep it in; by default `cache_folder()`.

    Raises:
        DataError: it cannot be had, is not what was published, or is unsafe to unpack.
        SharpflowError: the cache cannot be written.
    """
    url = url or os.environ.get(URL_VARIABLE) or URL
    cache = cache_folder() if cache is None else Path(cache)
    batches = cache / f"cifar10-{md5[:8]}"
    if _intact(batches, md5):
        return batches
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _intact(batches, md5):
                _fill(batches, url, md5, patience or Patience())
    except OSError as error:
        raise SharpflowError(
            f"{cache} could not be written: {error.strerror or error}. Set {CACHE_VARIABLE} to a "
            "folder with 400 MB of room for CIFAR-10."
        ) from error
    return batches


def _intact(batches: Path, md5: str) -> bool:
    try:
        record = json.loads((batches / "archive.json").read_text())
        files = {file.name: sha256_of(file) for file in batches.glob("data_batch_*.bin")}
        return record["md5"] == md5 and record["sha256"] == files
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fill(batches: Path, url: str, md5: str, patience: Patience) -> None:
    part = batches.with_name(f"{batches.name}.tar.gz.part")
    temporary = batches.with_name(f"{batches.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    _obtain(url, part, md5, patience)
    try:
        files = unpack(part, temporary)
        record = {"md5": md5, "url": url, "sha256": {file.name: sha256_of(file) for file in files}}
        write_json(temporary / "archive.json", record)
        shutil.rmtree(batches, ignore_errors=True)
        os.replace(temporary, batches)
    except DataError:
        part.unlink()
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    part.unlink()


def _obtain(url: str, part: Path, md5: str, patience: Patience) -> None:
    """Bring `part` to the archive of that checksum; one that was resumed gets a second chance."""
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise DataError(f"{URL_VARIABLE} = {url!r} is not an http or https address.")
    for _ in range(2):
        resumed = _size(part) > 0
        if resumed and _md5_of(part) == md5:
            return
        resumed |= _download(url, part, patience)
        size, found = _size(part), _md5_of(part)
        if found == md5:
            return
        part.unlink()
        if not resumed:
            break
    raise DataError(
        f"What {url} gives ({size} bytes) has the MD5 {found}, not the published {md5}: it is not "
        f"CIFAR-10's binary archive. It was deleted. {_BY_HAND}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5_of(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _say(text: str) -> None:
    print(f"cifar10: {text}", file=sys.stderr, flush=True)


def _download(url: str, part: Path, patience: Patience) -> bool:
    """Attempts until one reaches the end; whether any went on from an earlier one's bytes."""
    failures, resumed, furthest = 0, False, _size(part)
    while True:
        resumed |= _size(part) > 0
        try:
            _attempt(url, part, patience)
            return resumed
        except _Broken as error:
            further = _size(part) >= furthest + _PROGRESS
            failures, furthest = 1 if further else failures + 1, max(furthest, _size(part))
            if failures >= patience.attempts:
                raise DataError(
                    f"CIFAR-10 could not be downloaded from {url}: {error}, at the last of "
                    f"{failures} attempts. The next run goes on from what came. {_BY_HAND}"
                ) from error
            wait = min(patience.pause * 2 ** (failures - 1), 60.0)
            _say(f"{error}; trying again in {wait:g} s")
            time.sleep(wait)


def _attempt(url: str, part: Path, patience: Patience) -> None:
    """One request for what `part` lacks.

    Raises:
        _Broken: worth another attempt.
        DataError: not worth one.
    """
    headers = {"User-Agent": "sharpflow", "Accept-Encoding": "identity"}
    if have := _size(part):
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=patience.timeout) as response:
            if response.status == 206 and not _goes_on(response.headers, have):
                part.unlink()
                raise _Broken("the server sent another part than was asked for")
            _receive(response, part, have if response.status == 206 else 0, patience)
    except urllib.error.HTTPError as error:
        answer = f"the server answered {error.code} {http.client.responses.get(error.code, '')}"
        if error.code == 416:
            part.unlink(missing_ok=True)
        elif error.code not in (408, 425, 429) and error.code < 500:
            raise DataError(
                f"CIFAR-10 could not be downloaded from {url}: {answer}. {_BY_HAND}"
            ) from error
        raise _Broken(answer) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        text = str(getattr(reason, "strerror", None) or reason)
        raise _Broken(text if text.isprintable() else repr(text)) from error


def _goes_on(headers: Mapping[str, str], have: int) -> bool:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == have


def _receive(response: http.client.HTTPResponse, part: Path, have: int, patience: Patience) -> None:
    """Append (or, from byte 0, write) the body to `part`, with progress on standard error."""
    total = have + response.length if response.length is not None else None
    size, shown = have, -1
    since, since_size = time.monotonic(), have
    try:
        handle = open(part, "ab" if have else "wb")  # noqa: SIM115
    except OSError as error:
        raise _unwritable(part, error) from error
    with handle:
        while block := response.read1(_BLOCK):
            size += len(block)
            if max(size, total or 0) > ARCHIVE_LIMIT:
                raise DataError(
                    f"What {response.url} gives is larger than {ARCHIVE_LIMIT // 10**6} MB: it is "
                    f"not CIFAR-10's binary archive. {_BY_HAND}"
                )
            try:
                handle.write(block)
                handle.flush()
            except OSError as error:
                raise _unwritable(part, error) from error
            if total and (percent := 10 * (10 * size // total)) > shown:
                _say(f"{size / 1e6:.1f} of {total / 1e6:.1f} MB ({percent} %)")
                shown = percent
            if (passed := time.monotonic() - since) > patience.timeout:
                if size - since_size < patience.slowest * passed:
                    raise _Broken(f"it came at {(size - since_size) / passed:.0f} bytes a second")
                since, since_size = time.monotonic(), size
    if total is not None and size < total:
        raise _Broken(f"the connection ended after {size} of {total} bytes")


def _unwritable(path: Path, error: OSError) -> SharpflowError:
    return SharpflowError(
        f"{path} could not be written: {error.strerror or error}. Set {CACHE_VARIABLE} to a folder "
        "with 400 MB of room for CIFAR-10."
    )


class _Limited:
    """A decompressed stream that ends in an error past its limit."""

    def __init__(self, stream: BinaryIO, limit: int):
        self.stream, self.left = stream, limit

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise ValueError("it unpacks to more than CIFAR-10 does")
        return block


def unpack(archive: str | Path, folder: str | Path, limit: int = UNPACKED_LIMIT) -> list[Path]:
    """Write the `data_batch_*.bin` of a `.tar.gz` to `folder`; nothing else, and nowhere else.

    Args:
        limit: bytes that the whole archive may unpack to.

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is truncated or malformed, holds a link, a device or a path that
            leads out of it, exceeds the limits, or has no batch.
    """
    archive, folder = Path(archive), Path(folder)
    written: list[Path] = []
    try:
        with (
            gzip.open(archive) as stream,
            tarfile.open(fileobj=_Limited(stream, limit), mode="r|") as members,
        ):
            for member in members:
                name = _safe_name(member)
                if not (member.isreg() and _BATCH.fullmatch(name)):
                    continue
                if folder / name in written:
                    raise ValueError(f"{name} stands in it twice")
                content = members.extractfile(member)
                write_bytes(folder / name, content.read() if content else b"")
                written.append(folder / name)
    except _UNREADABLE as error:
        raise DataError(
            f"{archive.name} cannot be unpacked: {error or type(error).__name__}. {_BY_HAND}"
        ) from error
    if not written:
        raise DataError(f"{archive.name} holds no data_batch_*.bin. {_BY_HAND}")
    return sorted(written)


def _safe_name(member: tarfile.TarInfo) -> str:
    """The last part of a member's name.

    Raises:
        ValueError: the archive is not one to unpack.
    """
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise ValueError(f"the path {member.name!r} leads out of it")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ValueError(f"{member.name!r} is neither a plain file nor a folder")
    if not 0 <= member.size <= MEMBER_LIMIT:
        raise ValueError(f"{member.name!r} is said to have {member.size} bytes")
    return parts[-1]
