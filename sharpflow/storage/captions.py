"""What the captions of figures say beyond themselves."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sharpflow.errors import IntegrityError
from sharpflow.storage.seal import read_json


def failures(root: str | Path, names: Iterable[str]) -> dict[str, str]:
    """Why which figure could not be drawn, by the name of its caption.

    Args:
        root: the results folder.
        names: of the captions, from `root` on; one that is missing or altered is passed over, for
            others tell that.
    """
    found: dict[str, str] = {}
    for name in names:
        with suppress(IntegrityError):
            found[name] = read_json(Path(root) / name).get("failed", "")
    return {name: reason for name, reason in found.items() if reason}
