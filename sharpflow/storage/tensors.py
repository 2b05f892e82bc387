"""Named tensors in sealed safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sharpflow.errors import IntegrityError
from sharpflow.storage.seal import BLANK, check, read_as, sealed_path

if TYPE_CHECKING:  # a second that a job which reads no tensor does not need
    from torch import Tensor

_KEY = "sharpflow"  # one metadata entry: safetensors writes several in no fixed order
_ERRORS = (SafetensorError, KeyError, TypeError, ValueError)


def write_tensors(
    path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors and JSON-able metadata atomically, sealed."""
    arrays = {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}
    text = json.dumps({"metadata": dict(metadata or {})}, sort_keys=True)
    with sealed_path(path) as temporary:
        try:  # the seal first: it has to be near the file's beginning
            save_file(arrays, temporary, metadata={_KEY: f"{BLANK} {text}"})
        except SafetensorError as error:  # a full disk is one too
            raise OSError(str(error)) from error


def _metadata(handle: safe_open) -> dict[str, Any]:
    _, _, text = handle.metadata()[_KEY].partition(" ")
    return json.loads(text)["metadata"]


class TensorFile:
    """A sealed safetensors file, checked when it is opened, whose tensors are read one at a time.

    It stays open: what takes its place later is not read.

    Raises:
        IntegrityError: the file is missing, truncated, altered or not one of ours.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        check(self.path)
        with read_as("safetensors", path, *_ERRORS):
            self._handle = safe_open(self.path, framework="pt")
            self.metadata = _metadata(self._handle)

    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._handle.keys())

    def read(self, names: list[str] | None = None) -> "dict[str, Tensor]":
        """The named tensors, all by default.

        Raises:
            IntegrityError: there is none of that name.
        """
        wanted = self.names() if names is None else names
        try:
            return {name: self._handle.get_tensor(name) for name in wanted}
        except SafetensorError as error:
            raise IntegrityError(f"{self.path} cannot be read: {error}.") from error


def metadata_of(path: str | Path, key: str) -> Any:
    """A value of a file's metadata; the file's seal has been checked and its tensors are not read.

    Raises:
        IntegrityError: the file is not one of ours, or has no such value.
    """
    with read_as("safetensors", path, *_ERRORS):
        return _metadata(safe_open(path, framework="numpy"))[key]


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """All tensors of a file, and its metadata."""
    file = TensorFile(path)
    return file.read(), file.metadata
