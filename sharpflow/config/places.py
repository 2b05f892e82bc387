"""Where results go and what jobs run in, where that is not this machine: looked at before work."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sharpflow.errors import ConfigError

MARK = ".keep"
"""Object that keeps a bucket from being empty: the plugin deletes a bucket that it empties."""


def check_bucket(client: Any, prefix: str | None) -> None:
    """See that objects below a prefix can be listed and written.

    The right to write is asked for by an upload that is begun and abandoned. A bucket without any
    object gets an empty one.

    Args:
        client: of S3, as boto3 makes it.
        prefix: `s3://bucket/folder`, under which all results go.

    Raises:
        ConfigError: one paragraph with the address and what the store said.
    """
    from botocore.exceptions import (  # pyright: ignore[reportMissingImports]
        BotoCoreError,
        ClientError,
    )

    address = urlsplit(prefix or "")
    bucket, folder = address.netloc, address.path.strip("/")
    if address.scheme != "s3" or not bucket:
        raise ConfigError(
            f"default-storage-prefix is {prefix!r}; write s3://bucket/folder, the bucket and "
            "folder that results go to."
        )
    mark = f"{folder}/{MARK}".lstrip("/")
    try:
        found = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
        begun = client.create_multipart_upload(Bucket=bucket, Key=mark)
        client.abort_multipart_upload(Bucket=bucket, Key=mark, UploadId=begun["UploadId"])
        if not found.get("KeyCount"):
            client.put_object(Bucket=bucket, Key=mark, Body=b"")
    except (BotoCoreError, ClientError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"The object store at {client.meta.endpoint_url} refuses {prefix}: {said}. Look at "
            "default-storage-prefix (the bucket must exist), storage-s3-endpoint-url and "
            "storage-s3-region in the profile, and at SNAKEMAKE_STORAGE_S3_ACCESS_KEY and "
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY (or AWS's own variables and files) in the "
            "environment. Nothing was computed; the same command goes on from what is stored."
        ) from error


def check_image(image: Any, wanted: bool) -> str | None:
    """The address of the image that jobs run in; None if they run in none.

    Args:
        image: what `--config container=…` says: a file, or an address such as docker://….
        wanted: whether Snakemake was told to use containers.

    Raises:
        ConfigError: one paragraph: no image was named, or its file is not there.
    """
    if not wanted:
        return None
    if not isinstance(image, str) or not image:
        raise ConfigError(
            "--sdm apptainer needs an image: build one as containers/ says, and name it with "
            "--config container=path/to/sharpflow.sif (or an address such as docker://…)."
        )
    if "://" in image:
        return image
    if not Path(image).is_file():
        raise ConfigError(
            f"container = {image!r} is not a file; build it with `apptainer build {image} "
            "containers/sharpflow.def`, or give an address such as docker://…."
        )
    return str(Path(image).absolute())
