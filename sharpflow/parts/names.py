"""What a name may be: it stands in paths, in Snakemake's wildcards and in names of modules."""

import re
from pathlib import Path

from sharpflow.errors import ConfigError

PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
RULE = "letters A to Z and a to z, digits, '-' and '_', a letter first, at most 100 characters"


def is_name(text: str) -> bool:
    """Whether a text may be a name."""
    return re.fullmatch(PATTERN.rstrip("$"), text) is not None


def name(text: str) -> str:
    """`text`, if it is a name.

    Raises:
        ValueError: it is none; a sentence with what is allowed.
    """
    if not is_name(text):
        raise ValueError(f"a name has {RULE}")
    return text


def name_of(file: Path, kind: str) -> str:
    """The name that a file or folder gives to what it holds, its suffix left out.

    Raises:
        ConfigError: it is no name.
    """
    text = file.stem if file.suffix in (".py", ".yaml") else file.name
    if not is_name(text):
        raise ConfigError(
            f"{str(file)!r}: a file of the kind {kind!r} names what it holds, and {text!r} is no "
            f"name: {RULE}. Rename it."
        )
    return text


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with a suffix, sorted, without hidden ones (`._x`, `.#x`)."""
    try:
        found = sorted(folder.glob(f"*{suffix}"))
    except (OSError, ValueError):  # a name that the system cannot have
        return []
    return [file for file in found if not file.name.startswith(".")]
