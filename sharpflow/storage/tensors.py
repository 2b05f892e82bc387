"""Named tensors in sealed safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from sharpflow.errors import IntegrityError
from sharpflow.storage.seal import BLANK, check, read_as, sealed_path

_KEY = "sharpflow"  # one metadata entry: safetensors writes several in no fixed order


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON-able metadata atomically, sealed."""
    arrays = {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}
    text = json.dumps({"metadata": dict(metadata or {})}, sort_keys=True)
    with sealed_path(path) as temporary:
        try:  # the seal first: it has to be near the file's beginning
            save_file(arrays, temporary, metadata={_KEY: f"{BLANK} {text}"})
        except SafetensorError as error:  # a full disk is one too
            raise OSError(str(error)) from error


class TensorFile:
    """A sealed safetensors file, checked when it is opened, whose tensors are read one at a time.

    It stays open: what takes its place later is not read.

    Raises:
        IntegrityError: the file is missing, truncated, altered or not one of ours.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        check(self.path)
        with read_as("safetensors", path, SafetensorError, KeyError, TypeError, ValueError):
            self._handle = safe_open(self.path, framework="pt")
            _, _, text = self._handle.metadata()[_KEY].partition(" ")
            self.metadata: dict[str, Any] = json.loads(text)["metadata"]

    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._handle.keys())

    def read(self, names: list[str] | None = None) -> dict[str, Tensor]:
        """The named tensors, all by default.

        Raises:
            IntegrityError: there is none of that name.
        """
        wanted = self.names() if names is None else names
        try:
            return {name: self._handle.get_tensor(name) for name in wanted}
        except SafetensorError as error:
            raise IntegrityError(f"{self.path} cannot be read: {error}.") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file, and its metadata."""
    file = TensorFile(path)
    return file.read(), file.metadata
