"""Results in a bucket of a local S3 server: the same bytes, nothing done twice, refusals."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass

import pytest
import small_run
import yaml

from sharpflow.config.places import check_bucket
from sharpflow.errors import ConfigError

boto3 = pytest.importorskip("boto3", reason="tests/storage.txt is not installed")
pytest.importorskip("moto", reason="tests/storage.txt is not installed")
pytest.importorskip("snakemake_storage_plugin_s3", reason="tests/storage.txt is not installed")

BUCKET, FOLDER = "lab", "mine"


@dataclass(frozen=True)
class Store:
    """An S3 server of this machine."""

    address: str

    def client(self):
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return boto3.client("s3", endpoint_url=self.address, region_name="us-east-1", **keys)

    def objects(self) -> dict[str, bytes]:
        """Contents of all objects, by name."""
        client = self.client()
        listed = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        names = [entry["Key"] for entry in listed]
        return {n: client.get_object(Bucket=BUCKET, Key=n)["Body"].read() for n in names}

    def check_keys_after(self, actions: str) -> None:
        """Accept any key for that many actions, and only known ones then."""
        asked = urllib.request.Request(
            f"{self.address}/moto-api/reset-auth",
            actions.encode(),
            {"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(asked).close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("store") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOTO")}
    with (
        open(log, "w", encoding="utf-8") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=environment) as server,
    ):
        try:
            store = Store(f"http://127.0.0.1:{port}")
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{store.address}/moto-api/")
                    break
                except OSError:
                    time.sleep(0.1)
            store.client().create_bucket(Bucket=BUCKET)
            yield store
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return small_run.small_project(tmp_path_factory.mktemp("stored"))


def run(project, store, *arguments, prefix=f"s3://{BUCKET}/{FOLDER}", address=None):
    return small_run.run(
        project, "--cores", "2", "--workflow-profile", "profiles/s3",
        "--default-storage-prefix", prefix,
        "--storage-s3-endpoint-url", address or store.address,
        *arguments,
        SNAKEMAKE_STORAGE_S3_ACCESS_KEY="key",
        SNAKEMAKE_STORAGE_S3_SECRET_KEY="secret",
    )  # fmt: skip


def refused(done, *words):
    """One paragraph with some words, and no job."""
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.stdout[-3000:]
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout


@pytest.fixture(scope="module")
def stored(project, store):
    """What the bucket holds after one run."""
    done = run(project, store)
    assert done.returncode == 0, done.stdout[-3000:]
    return store.objects()


def test_results_in_a_bucket_are_those_of_a_local_run(stored, project, tree):
    root = f"{FOLDER}/results/{small_run.NAME}/"
    found = {n.removeprefix(root): c for n, c in stored.items() if n.startswith(root)}
    assert stored.keys() - {root + name for name in found} == {f"{FOLDER}/.keep"}
    small_run.compare(found, tree.results)
    vouched = json.loads(found["manifest.json"])["sha256"]
    assert vouched == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in found.items()
        if name != "manifest.json" and not name.startswith(("logs", "benchmarks"))
    }
    assert not (project.root / "results").exists()


def test_a_second_run_has_nothing_to_do_even_after_a_refusal(stored, project, store):
    elsewhere = f"s3://{BUCKET}x/{FOLDER}"
    refused(run(project, store, prefix=elsewhere), elsewhere, "NoSuchBucket")
    store.check_keys_after("0")
    refused(run(project, store), store.address, "InvalidAccessKeyId", "SNAKEMAKE_STORAGE_S3")
    store.check_keys_after("inf")
    done = run(project, store)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Nothing to be done" in done.stdout
    assert store.objects() == stored


def test_a_store_that_does_not_answer_and_an_address_that_is_none(project, store):
    nowhere = "http://127.0.0.1:9"
    refused(run(project, store, "--storage-s3-retries", "0", address=nowhere), nowhere, "connect")
    refused(run(project, store, prefix="lab/mine"), "'lab/mine'", "s3://bucket/folder")


def test_files_of_the_user_are_read_where_they_lie(project, store):
    rows = "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(20))
    (project.root / "points.csv").write_text("a,b,c\n" + rows)
    file = project.root / "config" / "small.yaml"
    before = file.read_text()
    changed = yaml.safe_load(before)
    changed["results"] = "results/own"
    changed["overrides"]["linear"]["data"] = {
        "source": "table", "path": "points.csv", "target": "c", "task": "regression", "samples": 20,
    }  # fmt: skip
    try:
        file.write_text(yaml.safe_dump(changed))
        done = run(project, store, "-n", "--printshellcmds")
    finally:
        file.write_text(before)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "points.csv" in done.stdout
    assert "points.csv (" not in done.stdout, "a file of the user is looked for in the bucket"


def test_a_key_that_may_only_read_is_refused(store):
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    reach = {"endpoint_url": store.address, "region_name": "us-east-1"}
    iam = boto3.client("iam", **reach, **keys)
    iam.create_user(UserName="reader")
    statement = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=policy)
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    store.client().create_bucket(Bucket="empty")
    reader = boto3.client(
        "s3",
        **reach,
        aws_access_key_id=made["AccessKeyId"],
        aws_secret_access_key=made["SecretAccessKey"],
    )
    store.check_keys_after("0")
    try:
        assert reader.list_objects_v2(Bucket="empty")["KeyCount"] == 0
        with pytest.raises(ConfigError, match=r"refuses s3://empty/mine: .*AccessDenied"):
            check_bucket(reader, "s3://empty/mine")
    finally:
        store.check_keys_after("inf")
    check_bucket(store.client(), "s3://empty/mine")
    listed = store.client().list_objects_v2(Bucket="empty")
    assert [entry["Key"] for entry in listed["Contents"]] == ["mine/.keep"]
    assert "Uploads" not in store.client().list_multipart_uploads(Bucket="empty")
