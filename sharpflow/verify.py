"""`python -m sharpflow.verify [RESULTS]`: does a tree hold what its manifest vouches for?"""

import argparse
import json
import sys
from pathlib import Path

from sharpflow.errors import IntegrityError
from sharpflow.storage.files import sha256_of

VOUCHED = ("data", "runs", "tables", "claims", "figures", "report")


def _difference(path: Path, digest: str) -> str | None:
    try:
        if path.is_file():
            return None if sha256_of(path) == digest else "altered"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "missing"


def differences(results: str | Path) -> list[str]:
    """One line for each file that is missing, altered or not in `manifest.json`, sorted by name.

    Raises:
        IntegrityError: there is no readable manifest.
    """
    root = Path(results)
    try:
        expected = dict(json.loads((root / "manifest.json").read_text())["sha256"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{root}/manifest.json cannot be read ({error}): is {root} a finished results folder?"
        ) from error
    found = {}
    for name, digest in expected.items():
        if reason := _difference(root / name, digest):
            found[name] = reason
    for path in (path for folder in VOUCHED for path in (root / folder).rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and name not in expected:
            found[name] = "not in the manifest"
    return [f"{root}/{name}: {reason}" for name, reason in sorted(found.items())]


def main() -> int:
    """Print the differences; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m sharpflow.verify", description=__doc__)
    parser.add_argument("results", nargs="?", default="results")
    root = parser.parse_args().results
    try:
        lines = differences(root)
    except IntegrityError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines) or f"{root}: every file is as the manifest says")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
