"""Named tensors in safetensors files that carry a checksum of their contents."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from sharpflow.errors import IntegrityError
from sharpflow.storage.files import atomic_path

_KEY = "sharpflow"  # one metadata entry: safetensors writes several in no fixed order


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous()
    header = f"{data.dtype} {tuple(data.shape)} ".encode()
    raw = data.reshape(-1).view(torch.uint8).numpy() if data.numel() else b""
    return hashlib.sha256(header + bytes(raw)).hexdigest()


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON-able metadata atomically, with a SHA-256 of each and of them all."""
    contents = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    record = {
        "metadata": dict(metadata or {}),
        "sha256": {name: _digest(t) for name, t in contents.items()},
    }
    text = json.dumps(record, sort_keys=True)
    with atomic_path(path) as temporary:
        try:
            arrays = {name: t.numpy() for name, t in contents.items()}  # may share memory
            save_file(arrays, temporary, metadata={_KEY: f"{_sha256(text)} {text}"})
        except SafetensorError as error:  # a full disk is one too
            raise OSError(str(error)) from error


class TensorFile:
    """A safetensors file whose tensors are read, and checked, one at a time.

    Raises:
        IntegrityError: the file is missing, truncated, not one of ours, or a tensor differs
            from what was written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with safe_open(self.path, framework="pt") as handle:
                digest, _, text = (handle.metadata() or {})[_KEY].partition(" ")
                names = set(handle.keys())
            if _sha256(text) != digest:
                raise ValueError("its description differs from its checksum")
            record = json.loads(text)
            self.metadata: dict[str, Any] = record["metadata"]
            self._sha256: dict[str, str] = record["sha256"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{self.path} is not a whole tensor file of sharpflow ({error}); "
                "delete it and it will be made again."
            ) from error
        if names != set(self._sha256):
            raise IntegrityError(f"{self.path} lacks or adds tensors; delete it to remake it.")

    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._sha256)

    def read(self, names: list[str] | None = None) -> dict[str, Tensor]:
        """The named tensors (all by default), each verified against its checksum."""
        wanted = self.names() if names is None else names
        try:
            with safe_open(self.path, framework="pt") as handle:
                tensors = {name: handle.get_tensor(name) for name in wanted}
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{self.path} cannot be read: {error}.") from error
        for name, tensor in tensors.items():
            if _digest(tensor) != self._sha256[name]:
                raise IntegrityError(
                    f"{self.path}: tensor {name!r} differs from its checksum; "
                    "delete the file and it will be made again."
                )
        return tensors


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file, verified, and its metadata."""
    file = TensorFile(path)
    return file.read(), file.metadata
