"""Datasets from their source, against servers on this machine that misbehave in every way."""

import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import specs

from sharpflow.data import cifar10, cifar100, download, fashion_mnist, mnist
from sharpflow.data.base import generate
from sharpflow.data.download import Patience, Remote, RemoteFile, unpack
from sharpflow.errors import DataError, SharpflowError

PUBLISHED = cifar10.REMOTE
REMOTES = [module.REMOTE for module in (cifar10, cifar100, fashion_mnist, mnist)]
QUICK = Patience(attempts=3, timeout=20.0, pause=0.01)
IMPATIENT = Patience(attempts=3, timeout=0.3, pause=0.01)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for remote in REMOTES:
        monkeypatch.delenv(remote.variable, raising=False)


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


def edition(checksum, **changes):
    """CIFAR-10 with an archive of another checksum."""
    file = RemoteFile(PUBLISHED.files[0].url, checksum)
    return replace(PUBLISHED, files=(file,), **changes)


def fetch(url, checksum, cache, patience=None, **changes):
    """CIFAR-10 from an address, if its archive has that checksum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PUBLISHED.variable, url)
        return download.fetch(edition(checksum, **changes), cache, patience)


def assert_whole(folder):
    """The folder holds the batches and their record, and the cache nothing half-done."""
    assert {p.name: p.read_bytes() for p in folder.glob("*.bin")} == BATCHES
    assert sorted(p.name for p in folder.iterdir()) == ["archive.json", *sorted(BATCHES)]
    assert sorted(p.name for p in folder.parent.iterdir()) == [".lock", folder.name]


def refusal(url, cache, checksum=None, kind=DataError, patience=QUICK, **changes):
    """The message of a fetch that must fail: one paragraph, and no batch in the cache."""
    with pytest.raises(kind) as caught:
        fetch(url, checksum or md5(ARCHIVE), cache, patience, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not list(cache.rglob("*.bin"))
    return message


def assert_by_hand(message):
    """The message says how to get the data without this machine's network."""
    assert f"{PUBLISHED.files[0].url} (MD5 " in message
    assert "the folder that holds data_batch_*.bin" in message
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


def test_cifar10_is_published_where_it_says(tmp_path, monkeypatch):
    (file,) = PUBLISHED.files
    assert file.url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert file.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert PUBLISHED.addresses() == [file.url]
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "named"))
    with serving() as (url, _):
        monkeypatch.setenv("SHARPFLOW_CIFAR10_URL", url)
        folder = download.fetch(edition(md5(ARCHIVE)), patience=QUICK)
        with pytest.raises(DataError, match=f"not the published {file.md5}"):
            download.fetch(PUBLISHED, patience=QUICK)
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


def test_several_processes_download_once(tmp_path, monkeypatch):
    class Slow(Answer):
        def do_GET(self):
            body = self.start()
            time.sleep(0.2)
            self.wfile.write(body)

    with serving(Slow) as (url, seen):
        monkeypatch.setenv(PUBLISHED.variable, url)
        ask = partial(download.fetch, edition(md5(ARCHIVE)), tmp_path)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 1
    assert_whole(ask())


@pytest.mark.parametrize("path", [None, "folder"])
def test_dataset_says_whether_its_archive_was_verified(tmp_path, monkeypatch, path):
    monkeypatch.setattr(cifar10, "REMOTE", edition(md5(ARCHIVE)))
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path))
    with serving() as (url, _):
        folder = fetch(url, md5(ARCHIVE), tmp_path)
    spec = specs.part("data", "cifar10", samples=8, path=str(folder) if path else None)
    tensors, provenance = generate(spec)
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


def test_endless_answers_are_cut_off(tmp_path):
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

    for announced in (True, False):
        with serving(Endless, announced=announced) as (url, _):
            message = refusal(url, tmp_path, download_limit=10**6)
            assert "larger than 1 MB: it is not CIFAR-10's binary archive. To get" in message


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "x", "http://h/a b", "https://"]
)
def test_addresses_that_are_not_of_the_web_are_refused(tmp_path, url):
    assert f"{PUBLISHED.variable} = {url!r}" in refusal(url, tmp_path)


def test_a_cache_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refusal("http://127.0.0.1:9/x", tmp_path / "file", kind=SharpflowError)
    assert "could not be written" in message
    assert f"{download.CACHE_VARIABLE} to a folder with 400 MB of room for CIFAR-10" in message


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
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", PUBLISHED)


def test_archive_without_batches_is_refused(tmp_path):
    archive = packed([member("cifar-10-batches-bin/test_batch.bin", batch(1))])
    with serving(content=archive) as (url, _):
        assert "holds no data_batch_*.bin" in refusal(url, tmp_path, md5(archive))


def test_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed([*official(), member("padding", bytes(10**6))]))
    assert len(unpack(path, tmp_path / "out", PUBLISHED)) == 2
    with pytest.raises(DataError, match="unpacks to more than CIFAR-10 does"):
        unpack(path, tmp_path / "out", replace(PUBLISHED, unpacked_limit=10**6))
    info, _ = member("data_batch_1.bin", size=PUBLISHED.member_limit + 1)
    path.write_bytes(packed([]))
    with tarfile.open(path, "w:gz") as archive:
        archive.fileobj.write(info.tobuf())
    with pytest.raises(DataError, match="is said to have 64000001 bytes"):
        unpack(path, tmp_path / "out", PUBLISHED)


def test_unpacked_files_are_plain_and_owned_by_the_user(tmp_path):
    members = official()
    for info, _ in members:
        info.mode, info.uid, info.gid = 0o6777, 12345, 12345
    (tmp_path / "a").write_bytes(packed(members))
    for path in unpack(tmp_path / "a", tmp_path / "out", PUBLISHED):
        status = path.stat()
        assert status.st_uid == os.getuid()
        assert not status.st_mode & 0o6111


# --- other datasets

ADDRESSES = {
    "cifar100": {
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz": (
            "03b5dce01913d631647c71ecec9e9cb8"
        )
    },
    "mnist": {
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz": (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873"
        ),
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz": (
            "d53e105ee54ea40749a09fcbcd1e9432"
        ),
    },
    "fashion_mnist": {
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz": (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d"
        ),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz": (
            "25c81989df183df01b3e8a0aad5dffbe"
        ),
    },
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_other_datasets_are_published_where_they_say(name):
    (remote,) = (remote for remote in REMOTES if remote.name == name)
    assert {file.url: file.md5 for file in remote.files} == ADDRESSES[name]
    assert remote.addresses() == list(ADDRESSES[name])
    for url, checksum in ADDRESSES[name].items():
        assert f"{url} (MD5 {checksum})" in remote.by_hand
    assert f"the folder that holds {remote.pattern}" in remote.by_hand


def test_each_dataset_has_a_place_and_a_variable_of_its_own():
    for taken in ("name", "variable"):
        assert len({getattr(remote, taken) for remote in REMOTES}) == len(REMOTES)
    assert len({file.md5[:8] for remote in REMOTES for file in remote.files}) == 6


def test_cifar100_is_one_large_member_of_its_archive(tmp_path, monkeypatch):
    record = bytes([3, 42]) + bytes(3072)
    archive = packed([member(f"cifar-100-binary/{n}.bin", record) for n in ("test", "train")])
    file = RemoteFile(cifar100.REMOTE.files[0].url, md5(archive))
    remote = replace(cifar100.REMOTE, files=(file,))
    with serving(content=archive) as (url, _):
        monkeypatch.setenv("SHARPFLOW_CIFAR100_URL", url)
        folder = download.fetch(remote, tmp_path, QUICK)
    assert folder.name == f"cifar100-{md5(archive)[:8]}"
    assert sorted(p.name for p in folder.iterdir()) == ["archive.json", "train.bin"]
    assert (folder / "train.bin").read_bytes() == record
    assert remote.member_limit >= 50_000 * 3074


def idx(content, *sizes):
    """The bytes of a gzipped IDX file."""
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes)
    return gzip.compress(header + content, mtime=0)


IMAGES = idx(b"".join(bytes([i]) * 784 for i in range(12)), 12, 28, 28)
LABELS = idx(bytes(i % 3 for i in range(12)), 12)


class Folder(Answer):
    """Two files, each at its own address."""

    def start(self):
        self.content = IMAGES if "images" in self.path else LABELS
        return super().start()


def two_files(images=IMAGES, labels=LABELS) -> Remote:
    """MNIST with other files."""
    urls = [file.url for file in mnist.REMOTE.files]
    files = tuple(RemoteFile(u, md5(c)) for u, c in zip(urls, (images, labels), strict=True))
    return replace(mnist.REMOTE, files=files)


def test_two_files_are_kept_as_they_come(tmp_path, monkeypatch, capsys):
    with serving(Folder) as (url, seen):
        monkeypatch.setenv("SHARPFLOW_MNIST_URL", url + "/")
        folder = download.fetch(two_files(), tmp_path, QUICK)
        assert download.fetch(two_files(), tmp_path, QUICK) == folder
    assert seen == [None, None]
    contents = {path.name: path.read_bytes() for path in folder.glob("*.gz")}
    assert contents == {
        "train-images-idx3-ubyte.gz": IMAGES,
        "train-labels-idx1-ubyte.gz": LABELS,
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", folder.name]
    assert "mnist: " in capsys.readouterr().err


def test_a_file_that_came_whole_is_not_fetched_again_for_another(tmp_path, monkeypatch):
    with serving(Folder) as (url, seen):
        monkeypatch.setenv("SHARPFLOW_MNIST_URL", url)
        with pytest.raises(DataError) as caught:
            download.fetch(two_files(labels=b"others"), tmp_path, QUICK)
        message = str(caught.value)
        assert f"{url}/train-labels-idx1-ubyte.gz gives" in message
        assert "it is not MNIST's train-labels-idx1-ubyte.gz. It was deleted." in message
        assert [p.name for p in tmp_path.rglob("*.gz")] == []
        download.fetch(two_files(), tmp_path, QUICK)
    assert seen == [None, None, None]


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_spoilt_file_is_fetched_again(tmp_path, monkeypatch, damage):
    with serving(Folder) as (url, seen):
        monkeypatch.setenv("SHARPFLOW_MNIST_URL", url)
        folder = download.fetch(two_files(), tmp_path, QUICK)
        spoilt = folder / "train-labels-idx1-ubyte.gz"
        spoilt.unlink() if damage == "missing" else spoilt.write_bytes(b"?")
        download.fetch(two_files(), tmp_path, QUICK)
    assert len(seen) == 4
    assert spoilt.read_bytes() == LABELS


def test_mnist_is_made_of_what_was_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "REMOTE", two_files())
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path))
    keys = {"samples": 4, "classes": [2, 0], "scaling": "unit", "targets": "one_hot"}
    with serving(Folder) as (url, _):
        monkeypatch.setenv("SHARPFLOW_MNIST_URL", url)
        tensors, provenance = generate(specs.part("data", "mnist", **keys))
    assert (255 * tensors["inputs"][:, 0, 0, 0]).round().tolist() == [2, 5, 0, 3]
    assert tensors["labels"].tolist() == [0, 0, 1, 1]
    assert provenance["archive_verified"] is True
