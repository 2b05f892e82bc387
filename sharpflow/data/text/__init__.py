"""A user's text, for the prediction of each next character."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sharpflow.data.base import Dataset, reason
from sharpflow.errors import DataError
from sharpflow.storage.files import sha256_of


def read_text(path: str) -> str:
    """Read a file in UTF-8, with or without a byte order mark.

    Returns:
        The text.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8: the byte at {error.start} is "
            f"0x{error.object[error.start]:02x}."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Make the dataset of `{source: text, path, length, samples, stride}`.

    Returns:
        `inputs` and `labels` (n, length) int64, places in the vocabulary, with its size as
        `vocabulary` () and `classes` (); and where they come from.

    Raises:
        DataError: the text cannot be read, is too short, or has one character alone.
    """
    path, length = spec["path"], spec["length"]
    stride = spec["stride"] or length
    text = read_text(path)
    needed = ((spec["samples"] or 1) - 1) * stride + length + 1
    if len(text) < needed:
        raise DataError(
            f"{path} has {len(text)} characters, where {spec['samples'] or 1} windows of "
            f"data.length = {length}, {stride} from one to the next, and one character more need "
            f"{needed}."
        )
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    characters, places = np.unique(codes, return_inverse=True)
    if len(characters) < 2:
        raise DataError(f"{path} has one character alone, {text[0]!r}: nothing to predict.")
    windows = np.lib.stride_tricks.sliding_window_view(places, length + 1)[::stride]
    chosen = torch.from_numpy(windows[: spec["samples"]].astype(np.int64))
    size = torch.tensor(len(characters))
    tensors = {
        "inputs": chosen[:, :-1].contiguous(),
        "labels": chosen[:, 1:].contiguous(),
        "classes": size,
        "vocabulary": size.clone(),
    }
    vocabulary = "".join(map(chr, characters.tolist()))
    return tensors, {"source": "text", "vocabulary": vocabulary, "sha256": sha256_of(path)}
