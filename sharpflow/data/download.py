"""Published datasets, from their source to a cache: resumed, verified, safely unpacked."""

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
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from sharpflow.errors import DataError, SharpflowError
from sharpflow.storage.files import sha256_of, write_bytes, write_json

CACHE_VARIABLE = "SHARPFLOW_CACHE"

_BLOCK = 2**16
_PROGRESS = 2**20
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
class RemoteFile:
    """A file at its source.

    Attributes:
        url: its published address.
        md5: its published checksum.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Remote:
    """A published dataset: one archive, or files that are kept as they come.

    Attributes:
        name: what its folder in the cache and its lines of progress begin with.
        title: what messages call it.
        files: the archive alone, or all files.
        variable: environment variable with an address in place of the published one: of the
            archive, or of the folder that all files are in.
        pattern: glob of the files that its folder in the cache holds.
        download_limit: bytes that one file may have.
        megabytes: room that the cache must have for it.
        members: regular expression of the names that are taken out of the archive; None if there
            is no archive.
        folder: what the archive calls the folder that they are in.
        member_limit: bytes that one file in the archive may have.
        unpacked_limit: bytes that the whole archive may unpack to.
    """

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    variable: str
    pattern: str
    download_limit: int
    megabytes: int
    members: str | None = None
    folder: str = ""
    member_limit: int = 0
    unpacked_limit: int = 0

    @property
    def md5(self) -> str:
        """The checksums of its files, which tell one edition from another."""
        return "-".join(file.md5 for file in self.files)

    @property
    def by_hand(self) -> str:
        """How to do without a download, a sentence."""
        listed = " and ".join(f"{file.url} (MD5 {file.md5})" for file in self.files)
        unpack = "unpack it, " if self.members else ""
        return (
            f"To get it by hand, fetch {listed} on any machine, {unpack}and give data.path the "
            f"folder that holds {self.pattern}; or set data.source to 'photos', which needs no "
            "download."
        )

    def what(self, file: RemoteFile) -> str:
        """What messages call one of its files."""
        return f"{self.title}'s {'binary archive' if self.members else file.name}"

    def addresses(self) -> list[str]:
        """Where its files are fetched from: as the environment says, or as published."""
        named = os.environ.get(self.variable)
        if not named:
            return [file.url for file in self.files]
        if self.members:
            return [named]
        return [f"{named.rstrip('/')}/{file.name}" for file in self.files]


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
    """Where downloads are kept.

    Returns:
        `$SHARPFLOW_CACHE`, or `~/.cache/sharpflow`.

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
    remote: Remote, cache: str | Path | None = None, patience: Patience | None = None
) -> Path:
    """The folder of a dataset's files in the cache, downloaded if it is not whole there.

    A broken download goes on where it ended, also in a later process; processes that ask at the
    same time wait for the one that downloads.

    Args:
        remote: the dataset.
        cache: folder to keep it in; by default `cache_folder()`.
        patience: how long it is tried.

    Returns:
        A folder with the files of `remote.pattern` and their record, `archive.json`.

    Raises:
        DataError: it cannot be had, is not what was published, or is unsafe to unpack.
        SharpflowError: the cache cannot be written.
    """
    cache = cache_folder() if cache is None else Path(cache)
    folder = cache / f"{remote.name}-{remote.files[0].md5[:8]}"
    if _intact(folder, remote):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _intact(folder, remote):
                _fill(folder, remote, patience or Patience())
    except OSError as error:
        raise SharpflowError(_unwritable(cache, remote, error)) from error
    return folder


def _intact(folder: Path, remote: Remote) -> bool:
    try:
        record = json.loads((folder / "archive.json").read_text())
        files = {file.name: sha256_of(file) for file in folder.glob(remote.pattern)}
        return record["md5"] == remote.md5 and record["sha256"] == files
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fill(folder: Path, remote: Remote, patience: Patience) -> None:
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    transfers = [
        _Transfer(remote, file, url, folder.with_name(_part_name(remote, file)), patience)
        for file, url in zip(remote.files, remote.addresses(), strict=True)
    ]
    for transfer in transfers:
        transfer.obtain()
    try:
        files = _contents(transfers, temporary)
        sums = {file.name: sha256_of(file) for file in files}
        urls = " ".join(transfer.url for transfer in transfers)
        write_json(temporary / "archive.json", {"md5": remote.md5, "url": urls, "sha256": sums})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for transfer in transfers:
        transfer.part.unlink(missing_ok=True)


def _part_name(remote: Remote, file: RemoteFile) -> str:
    return f"{remote.name}-{file.md5[:8]}{'.tar' if remote.members else ''}.gz.part"


def _contents(transfers: list["_Transfer"], folder: Path) -> list[Path]:
    """The dataset's files, in a new folder."""
    remote = transfers[0].remote
    if remote.members:
        part = transfers[0].part
        try:
            return unpack(part, folder, remote)
        except DataError:
            part.unlink()
            raise
    folder.mkdir()
    return [shutil.copyfile(t.part, folder / t.file.name) for t in transfers]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5_of(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@dataclass(frozen=True)
class _Transfer:
    """One file on its way to `part`."""

    remote: Remote
    file: RemoteFile
    url: str
    part: Path
    patience: Patience

    def obtain(self) -> None:
        """Bring `part` to the file of that checksum; one that was resumed gets a second chance."""
        remote, md5 = self.remote, self.file.md5
        if not re.fullmatch(r"https?://[!-~]+", self.url):
            raise DataError(f"{remote.variable} = {self.url!r} is not an http or https address.")
        for _ in range(2):
            resumed = _size(self.part) > 0
            if resumed and _md5_of(self.part) == md5:
                return
            resumed |= self._download()
            size, found = _size(self.part), _md5_of(self.part)
            if found == md5:
                return
            self.part.unlink()
            if not resumed:
                break
        raise DataError(
            f"What {self.url} gives ({size} bytes) has the MD5 {found}, not the published {md5}: "
            f"it is not {remote.what(self.file)}. It was deleted. {remote.by_hand}"
        )

    def _say(self, text: str) -> None:
        print(f"{self.remote.name}: {text}", file=sys.stderr, flush=True)

    def _download(self) -> bool:
        """Attempts until one reaches the end; whether any went on from an earlier one's bytes."""
        part, patience = self.part, self.patience
        failures, resumed, furthest = 0, False, _size(part)
        while True:
            resumed |= _size(part) > 0
            try:
                self._attempt()
                return resumed
            except _Broken as error:
                further = _size(part) >= furthest + _PROGRESS
                failures, furthest = 1 if further else failures + 1, max(furthest, _size(part))
                if failures >= patience.attempts:
                    raise DataError(
                        f"{self.remote.title} could not be downloaded from {self.url}: {error}, at "
                        f"the last of {failures} attempts. The next run goes on from what came. "
                        f"{self.remote.by_hand}"
                    ) from error
                wait = min(patience.pause * 2 ** (failures - 1), 60.0)
                self._say(f"{error}; trying again in {wait:g} s")
                time.sleep(wait)

    def _attempt(self) -> None:
        """One request for what `part` lacks.

        Raises:
            _Broken: worth another attempt.
            DataError: not worth one.
        """
        headers = {"User-Agent": "sharpflow", "Accept-Encoding": "identity"}
        if have := _size(self.part):
            headers["Range"] = f"bytes={have}-"
        try:
            request = urllib.request.Request(self.url, headers=headers)
            with urllib.request.urlopen(request, timeout=self.patience.timeout) as response:
                if response.status == 206 and not _goes_on(response.headers, have):
                    self.part.unlink()
                    raise _Broken("the server sent another part than was asked for")
                self._receive(response, have if response.status == 206 else 0)
        except urllib.error.HTTPError as error:
            answer = f"the server answered {error.code} {http.client.responses.get(error.code, '')}"
            if error.code == 416:
                self.part.unlink(missing_ok=True)
            elif error.code not in (408, 425, 429) and error.code < 500:
                raise DataError(
                    f"{self.remote.title} could not be downloaded from {self.url}: {answer}. "
                    f"{self.remote.by_hand}"
                ) from error
            raise _Broken(answer) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            text = str(getattr(reason, "strerror", None) or reason)
            raise _Broken(text if text.isprintable() else repr(text)) from error

    def _receive(self, response: http.client.HTTPResponse, have: int) -> None:
        """Append (or, from byte 0, write) the body to `part`, with progress on standard error."""
        total = have + response.length if response.length is not None else None
        limit, patience = self.remote.download_limit, self.patience
        size, shown = have, -1
        since, since_size = time.monotonic(), have
        try:
            handle = open(self.part, "ab" if have else "wb")  # noqa: SIM115
        except OSError as error:
            raise SharpflowError(_unwritable(self.part, self.remote, error)) from error
        with handle:
            while block := response.read1(_BLOCK):
                size += len(block)
                if max(size, total or 0) > limit:
                    raise DataError(
                        f"What {response.url} gives is larger than {limit // 10**6} MB: it is not "
                        f"{self.remote.what(self.file)}. {self.remote.by_hand}"
                    )
                try:
                    handle.write(block)
                    handle.flush()
                except OSError as error:
                    raise SharpflowError(_unwritable(self.part, self.remote, error)) from error
                if total and (percent := 10 * (10 * size // total)) > shown:
                    self._say(f"{size / 1e6:.1f} of {total / 1e6:.1f} MB ({percent} %)")
                    shown = percent
                if (passed := time.monotonic() - since) > patience.timeout:
                    if size - since_size < patience.slowest * passed:
                        rate = (size - since_size) / passed
                        raise _Broken(f"it came at {rate:.0f} bytes a second")
                    since, since_size = time.monotonic(), size
        if total is not None and size < total:
            raise _Broken(f"the connection ended after {size} of {total} bytes")


def _goes_on(headers: Mapping[str, str], have: int) -> bool:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == have


def _unwritable(path: Path, remote: Remote, error: OSError) -> str:
    return (
        f"{path} could not be written: {error.strerror or error}. Set {CACHE_VARIABLE} to a folder "
        f"with {remote.megabytes} MB of room for {remote.title}."
    )


class _Limited:
    """A decompressed stream that ends in an error past its limit."""

    def __init__(self, stream: gzip.GzipFile, remote: Remote):
        self.stream, self.title, self.left = stream, remote.title, remote.unpacked_limit

    def read(self, size: int) -> bytes:
        """The next bytes."""
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {self.title} does")
        return block


def _write_members(
    members: tarfile.TarFile, folder: Path, remote: Remote, written: list[Path]
) -> None:
    for member in members:
        name = _safe_name(member, remote.member_limit)
        if not (member.isreg() and re.fullmatch(remote.members or "", name)):
            continue
        if folder / name in written:
            raise ValueError(f"{name} stands in it twice")
        content = members.extractfile(member)
        write_bytes(folder / name, content.read() if content else b"")
        written.append(folder / name)


def unpack(archive: str | Path, folder: str | Path, remote: Remote) -> list[Path]:
    """Write a dataset's files from its `.tar.gz` to a folder; nothing else, and nowhere else.

    Args:
        archive: the file.
        folder: where the files are to be, without the archive's own folders.
        remote: says which members are taken, and the limits.

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is truncated or malformed, holds a link, a device or a path that
            leads out of it, exceeds the limits, or has none of the files.
    """
    archive, folder = Path(archive), Path(folder)
    written: list[Path] = []
    try:
        with (
            gzip.open(archive) as stream,
            tarfile.open(fileobj=cast("IO[bytes]", _Limited(stream, remote)), mode="r|") as members,
        ):
            _write_members(members, folder, remote, written)
    except _UNREADABLE as error:
        raise DataError(
            f"{archive.name} cannot be unpacked: {error or type(error).__name__}. {remote.by_hand}"
        ) from error
    if not written:
        raise DataError(f"{archive.name} holds no {remote.pattern}. {remote.by_hand}")
    return sorted(written)


def _safe_name(member: tarfile.TarInfo, limit: int) -> str:
    """The last part of a member's name; ValueError if the archive is not one to unpack."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise ValueError(f"the path {member.name!r} leads out of it")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ValueError(f"{member.name!r} is neither a plain file nor a folder")
    if not 0 <= member.size <= limit:
        raise ValueError(f"{member.name!r} is said to have {member.size} bytes")
    return parts[-1]
