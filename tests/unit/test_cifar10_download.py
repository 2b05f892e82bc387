"""CIFAR-10 from its source, against servers on this machine that misbehave in every way."""

import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sharpflow.data import cifar10, download, generate
from sharpflow.data.download import Patience, fetch, unpack
from sharpflow.errors import DataError, SharpflowError

QUICK = Patience(attempts=3, timeout=20.0, pause=0.01)
IMPATIENT = Patience(attempts=3, timeout=0.3, pause=0.01)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(download.URL_VARIABLE, raising=False)


def batch(seed, records=20):
    """Records of CIFAR-10's form: labels 0 to 9 in turn, random pixels."""
    content = np.random.default_rng(seed).integers(0, 256, (records, 3073), dtype=np.uint8)
    content[:, 0] = np.arange(records) % 10
    return content.tobytes()


BATCHES = {f"data_batch_{i}.bin": batch(i) for i in (1, 2)}


def member(name, content=b"", **changes):
    """A tar header and its content."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def official():
    """Members as in the official archive."""
    folder = "cifar-10-batches-bin"
    return [
        member(folder, type=tarfile.DIRTYPE, mode=0o755),
        *(member(f"{folder}/{name}", content) for name, content in BATCHES.items()),
        member(f"{folder}/readme.html", b"<p>"),
        member(f"{folder}/test_batch.bin", batch(9)),
    ]


def packed(members):
    """The bytes of a `.tar.gz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def md5(content):
    """Hexadecimal MD5."""
    return hashlib.md5(content).hexdigest()


ARCHIVE = packed(official())


class Answer(BaseHTTPRequestHandler):
    """Whole or partial content, as a well-behaved server gives it."""

    content = ARCHIVE
    seen: list

    def start(self):
        """Send status and headers; the part of the content that is to follow."""
        asked = self.headers.get("Range")
        self.seen.append(asked)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if first >= len(self.content):
            self.send_error(416)
            return b""
        self.send_response(206 if asked else 200)
        if asked:
            last = len(self.content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{last + 1}")
        body = self.content[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def do_GET(self):
        self.wfile.write(self.start())

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler=Answer, **changes):
    """A server of that handler, with the ranges it was asked for."""
    seen = []
    kind = type("Handler", (handler,), {"seen": seen, **changes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz", seen
    finally:
        server.shutdown()
        server.server_close()


def assert_whole(folder):
    """The folder holds the batches and their record, and the cache nothing half-done."""
    assert {p.name: p.read_bytes() for p in folder.glob("*.bin")} == BATCHES
    assert sorted(p.name for p in folder.iterdir()) == ["archive.json", *sorted(BATCHES)]
    assert sorted(p.name for p in folder.parent.iterdir()) == [".lock", folder.name]


def refusal(url, cache, checksum=None, kind=DataError, patience=QUICK):
    """The message of a fetch that must fail: one paragraph, and no batch in the cache."""
    with pytest.raises(kind) as caught:
        fetch(url, checksum or md5(ARCHIVE), cache, patience)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not list(cache.rglob("*.bin"))
    return message


def assert_by_hand(message):
    """The message says how to get the data without this machine's network."""
    assert download.URL in message
    assert download.MD5 in message
    assert "data.path" in message
    assert "photos" in message


# --- a good server


def test_good_archive_is_unpacked_once_and_only_its_batches(tmp_path, capsys):
    with serving() as (url, seen):
        folder = fetch(url, md5(ARCHIVE), tmp_path)
        assert fetch(url, md5(ARCHIVE), tmp_path) == folder
    assert seen == [None]
    assert_whole(folder)
    progress = capsys.readouterr()
    assert "(100 %)" in progress.err
    assert progress.out == ""


def test_published_archive_is_the_default(tmp_path, monkeypatch):
    assert download.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert download.MD5 == "c32a1d4ab5d03f1284b67883e8d87530"
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "named"))
    with serving() as (url, _):
        monkeypatch.setenv(download.URL_VARIABLE, url)
        folder = fetch(md5=md5(ARCHIVE), patience=QUICK)
        with pytest.raises(DataError, match=f"not the published {download.MD5}"):
            fetch(patience=QUICK)
    assert folder.parent == tmp_path / "named"
    monkeypatch.delenv(download.CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".cache" / "sharpflow"


@pytest.mark.parametrize("damage", ["altered", "missing", "no record", "extra"])
def test_spoilt_cache_is_downloaded_again(tmp_path, damage):
    with serving() as (url, seen):
        folder = fetch(url, md5(ARCHIVE), tmp_path)
        first = folder / "data_batch_1.bin"
        if damage == "altered":
            first.write_bytes(first.read_bytes()[:-1] + b"?")
        elif damage == "extra":
            (folder / "data_batch_3.bin").write_bytes(batch(3))
        else:
            (first if damage == "missing" else folder / "archive.json").unlink()
        assert fetch(url, md5(ARCHIVE), tmp_path) == folder
    assert len(seen) == 2
    assert_whole(folder)


def test_several_processes_download_once(tmp_path):
    class Slow(Answer):
        def do_GET(self):
            body = self.start()
            time.sleep(0.2)
            self.wfile.write(body)

    with serving(Slow) as (url, seen):
        ask = partial(fetch, url, md5(ARCHIVE), tmp_path)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 1
    assert_whole(ask())


@pytest.mark.parametrize("path", [None, "folder"])
def test_dataset_says_whether_its_archive_was_verified(tmp_path, monkeypatch, path):
    with serving() as (url, _):
        get = partial(fetch, url, md5(ARCHIVE), tmp_path)
        monkeypatch.setattr(cifar10, "fetch", get)
        folder = get()
        spec = {"source": "cifar10", "samples": 8, "classes": None, "scaling": "unit"}
        tensors, provenance = generate(spec | {"path": str(folder) if path else None})
    assert tensors["inputs"].shape == (8, 3, 32, 32)
    assert provenance["archive_verified"] is (path is None)
    expected = {n: hashlib.sha256(c).hexdigest() for n, c in BATCHES.items()}
    assert provenance["sha256"] == expected
    assert str(tmp_path) not in json.dumps(provenance)


# --- resume


def test_broken_download_goes_on_where_it_ended(tmp_path, capsys):
    class Breaks(Answer):
        def do_GET(self):
            body = self.start()
            self.wfile.write(body if len(self.seen) > 2 else body[: len(body) // 2])

    with serving(Breaks) as (url, seen):
        folder = fetch(url, md5(ARCHIVE), tmp_path, QUICK)
    half = len(ARCHIVE) // 2
    assert seen[:2] == [None, f"bytes={half}-"]
    assert int(seen[2].removeprefix("bytes=").removesuffix("-")) > half
    assert_whole(folder)
    assert f"ended after {half} of {len(ARCHIVE)} bytes; trying again" in capsys.readouterr().err


def part_file(cache, content):
    """What an earlier, killed process left."""
    part = cache / f"cifar10-{md5(ARCHIVE)[:8]}.tar.gz.part"
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (ARCHIVE[:1000], ["bytes=1000-"]),
        (ARCHIVE, []),
        (b"?" * 1000, ["bytes=1000-", None]),
        (b"?" * len(ARCHIVE), [f"bytes={len(ARCHIVE)}-", None]),
    ],
    ids=["half", "whole", "wrong", "wrong and long"],
)
def test_what_a_killed_process_left_is_used_or_replaced(tmp_path, left, asked):
    part_file(tmp_path, left)
    with serving() as (url, seen):
        assert_whole(fetch(url, md5(ARCHIVE), tmp_path, QUICK))
    assert seen == asked


def test_servers_without_ranges_or_with_wrong_ones_start_over(tmp_path):
    class Ignores(Answer):
        def do_GET(self):
            del self.headers["Range"]
            self.wfile.write(self.start())

    class Wrong(Answer):
        def do_GET(self):
            if "Range" not in self.headers:
                self.wfile.write(self.start())
                return
            self.seen.append("wrong")
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 7-{len(ARCHIVE) - 1}/{len(ARCHIVE)}")
            self.send_header("Content-Length", str(len(ARCHIVE) - 7))
            self.end_headers()

    for name, handler in (("a", Ignores), ("b", Wrong)):
        (tmp_path / name).mkdir()
        part_file(tmp_path / name, ARCHIVE[:1000])
        with serving(handler) as (url, _):
            assert_whole(fetch(url, md5(ARCHIVE), tmp_path / name, QUICK))


# --- bad servers


def test_wrong_checksum_is_refused_and_deleted(tmp_path):
    with serving() as (url, seen):
        message = refusal(url, tmp_path, "0" * 32)
    assert seen == [None]
    assert f"({len(ARCHIVE)} bytes) has the MD5 {md5(ARCHIVE)}" in message
    assert_by_hand(message)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


class Errs(Answer):
    """Server errors, then what is wanted."""

    codes: tuple

    def do_GET(self):
        if len(self.seen) < len(self.codes):
            self.seen.append("error")
            self.send_error(self.codes[len(self.seen) - 1])
        else:
            self.wfile.write(self.start())


def test_server_errors_are_tried_again(tmp_path, capsys):
    with serving(Errs, codes=(500, 503)) as (url, seen):
        assert_whole(fetch(url, md5(ARCHIVE), tmp_path, QUICK))
    assert seen == ["error", "error", None]
    assert "the server answered 500 Internal Server Error; trying" in capsys.readouterr().err


def test_lasting_server_errors_are_a_message(tmp_path):
    with serving(Errs, codes=(500,) * 9) as (url, seen):
        message = refusal(url, tmp_path)
    assert len(seen) == QUICK.attempts
    assert "500 Internal Server Error, at the last of 3 attempts" in message
    assert_by_hand(message)


@pytest.mark.parametrize("code", [403, 404])
def test_refusals_of_the_server_are_not_tried_again(tmp_path, code):
    with serving(Errs, codes=(code,) * 9) as (url, seen):
        message = refusal(url, tmp_path)
    assert len(seen) == 1
    assert f"the server answered {code}" in message
    assert_by_hand(message)


@pytest.mark.parametrize("kind", ["silent", "before headers", "drips"])
def test_slow_server_is_given_up(tmp_path, kind):
    stop = threading.Event()

    class Slow(Answer):
        def do_GET(self):
            if kind == "before headers":
                self.seen.append(None)
            body = self.start() if kind != "before headers" else b""
            while kind == "drips" and body and not stop.is_set():
                try:
                    self.wfile.write(body[:1])
                except OSError:
                    return
                body = body[1:]
                stop.wait(0.05)
            stop.wait(10)

    with serving(Slow) as (url, seen):
        message = refusal(url, tmp_path, patience=IMPATIENT)
        stop.set()
    assert len(seen) == QUICK.attempts
    assert ("bytes a second" if kind == "drips" else "timed out") in message
    assert_by_hand(message)


def test_slow_but_steady_server_is_waited_for(tmp_path):
    class Steady(Answer):
        def do_GET(self):
            body = self.start()
            for at in range(0, len(body), len(body) // 20):
                self.wfile.write(body[at : at + len(body) // 20])
                time.sleep(0.07)

    with serving(Steady) as (url, seen):
        patience = Patience(attempts=1, timeout=1.0, pause=0.01, slowest=1000)
        assert_whole(fetch(url, md5(ARCHIVE), tmp_path, patience))
    assert seen == [None]


def test_no_network_is_a_message(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x"
        message = refusal(url, tmp_path)
    assert "Connection refused, at the last of 3 attempts" in message
    assert_by_hand(message)


def test_a_server_of_no_http_is_a_message(tmp_path):
    class Babble(Answer):
        def do_GET(self):
            self.wfile.write(b"\0\1\2 not http\r\n")

    with serving(Babble) as (url, _):
        assert_by_hand(refusal(url, tmp_path))


def test_endless_answers_are_cut_off(tmp_path, monkeypatch):
    class Endless(Answer):
        def do_GET(self):
            self.send_response(200)
            if self.announced:
                self.send_header("Content-Length", str(10**15))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(10_000))
            except OSError:
                return

    monkeypatch.setattr(download, "ARCHIVE_LIMIT", 10**6)
    for announced in (True, False):
        with serving(Endless, announced=announced) as (url, _):
            assert "is larger than 1 MB" in refusal(url, tmp_path)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "x", "http://h/a b", "https://"]
)
def test_addresses_that_are_not_of_the_web_are_refused(tmp_path, url):
    assert f"{download.URL_VARIABLE} = {url!r}" in refusal(url, tmp_path)


def test_a_cache_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refusal("http://127.0.0.1:9/x", tmp_path / "file", kind=SharpflowError)
    assert "could not be written" in message
    assert download.CACHE_VARIABLE in message


# --- bad archives

OUT = "../../escaped/data_batch_7.bin"
EVIL = {
    "path that climbs": (member(OUT, batch(7)), "leads out"),
    "path that climbs inside": (member("a/../data_batch_7.bin", batch(7)), "leads out"),
    "absolute path": (member("/tmp/data_batch_7.bin", batch(7)), "leads out"),
    "symbolic link": (
        member("data_batch_7.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "neither a plain file",
    ),
    "link to a folder": (
        member("cifar-10-batches-bin", type=tarfile.SYMTYPE, linkname="/tmp"),
        "neither a plain file",
    ),
    "hard link": (
        member("data_batch_7.bin", type=tarfile.LNKTYPE, linkname="../outside"),
        "neither a plain file",
    ),
    "device": (member("data_batch_7.bin", type=tarfile.CHRTYPE), "neither a plain file"),
    "pipe": (member("data_batch_7.bin", type=tarfile.FIFOTYPE), "neither a plain file"),
    "twice": (member("b/data_batch_1.bin", batch(7)), "twice"),
}


@pytest.mark.parametrize("kind", EVIL)
def test_unsafe_archive_is_refused_whole(tmp_path, kind):
    info, reason = EVIL[kind]
    cache = tmp_path / "deep" / "cache"
    archive = packed([*official(), info])
    with serving(content=archive) as (url, _):
        message = refusal(url, cache, md5(archive))
    assert reason in message
    assert_by_hand(message)
    assert [p.name for p in cache.iterdir()] == [".lock"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", "cache", "deep"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_archive_is_refused(tmp_path, share):
    archive = ARCHIVE[: int(share * len(ARCHIVE))]
    with serving(content=archive) as (url, _):
        assert "not the published" in refusal(url, tmp_path) if archive else True
        message = refusal(url, tmp_path, md5(archive)) if archive else "cannot be unpacked"
    assert "cannot be unpacked" in message
    (tmp_path / "a.tar.gz").write_bytes(archive)
    with pytest.raises(DataError, match=r"a\.tar\.gz (cannot be unpacked|holds no)"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_archive_without_batches_is_refused(tmp_path):
    archive = packed([member("cifar-10-batches-bin/test_batch.bin", batch(1))])
    with serving(content=archive) as (url, _):
        assert "holds no data_batch_*.bin" in refusal(url, tmp_path, md5(archive))


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed([*official(), member("padding", bytes(10**6))]))
    assert len(unpack(path, tmp_path / "out")) == 2
    with pytest.raises(DataError, match="unpacks to more than CIFAR-10 does"):
        unpack(path, tmp_path / "out", limit=10**6)
    info, _ = member("data_batch_1.bin", size=download.MEMBER_LIMIT + 1)
    path.write_bytes(packed([]))
    with tarfile.open(path, "w:gz") as archive:
        archive.fileobj.write(info.tobuf())
    with pytest.raises(DataError, match="is said to have 64000001 bytes"):
        unpack(path, tmp_path / "out")


def test_unpacked_files_are_plain_and_owned_by_the_user(tmp_path):
    members = official()
    for info, _ in members:
        info.mode, info.uid, info.gid = 0o6777, 12345, 12345
    (tmp_path / "a").write_bytes(packed(members))
    for path in unpack(tmp_path / "a", tmp_path / "out"):
        status = path.stat()
        assert status.st_uid == os.getuid()
        assert not status.st_mode & 0o6111
