"""What stored states say of how they were made."""

from collections.abc import Iterable
from pathlib import Path

from sharpflow.storage.ledger import examine
from sharpflow.storage.tensors import metadata_of


def trained_on(root: str | Path, names: Iterable[str]) -> list[str]:
    """The devices on which states were trained, each once, sorted.

    Args:
        root: the results folder.
        names: of files of states, from `root` on.

    Raises:
        IntegrityError: a file is missing, altered, or does not say.
    """
    examined = examine(root, names)
    for error in examined.wrong.values():
        raise error
    return sorted({metadata_of(Path(root) / name, "device") for name in examined.whole})
