"""`python -m sharpflow.verify [--repair] [PATH]`: is a tree, or a file, what jobs wrote?

A results folder is compared with its manifest, every byte; a file with the seal that it carries.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sharpflow.errors import IntegrityError, exit_status
from sharpflow.storage.files import BY_SEED, CLAIMS, VOUCHED, is_leftover, sha256_of
from sharpflow.storage.seal import AlteredError, check, read_json

_ALTERED, _MISSING, _UNKNOWN = "altered", "missing", "not in the manifest"


def _difference(path: Path, digest: str) -> str | None:
    try:
        if path.is_file():
            return None if sha256_of(path) == digest else _ALTERED
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return _MISSING


def _present(root: Path) -> Iterator[Path]:
    """Files in the folders that jobs write to."""
    for folder in VOUCHED:
        yield from (path for path in (root / folder).rglob("*") if path.is_file())


def _found(root: Path) -> dict[str, str]:
    """What is wrong with which file, by name."""
    if not (root / "manifest.json").exists():
        raise IntegrityError(f"{root} holds no manifest.json: is it a finished results folder?")
    try:
        manifest = read_json(root / "manifest.json")
        expected = dict(manifest["sha256"].items())
        failed = dict(manifest.get("failed", {}).items())
    except (IntegrityError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{root}/manifest.json is not what a run wrote ({error})") from error
    with ThreadPoolExecutor() as pool:
        reasons = pool.map(lambda item: _difference(root / item[0], item[1]), expected.items())
        found = dict(zip(expected, reasons, strict=True))
    for path in _present(root):
        name = str(path.relative_to(root))
        if name not in expected and not is_leftover(path):
            found[name] = _UNKNOWN
    for name, reason in failed.items():
        found[name] = found.get(name) or f"its figure could not be drawn ({reason})"
    return {name: reason for name, reason in sorted(found.items()) if reason}


def differences(results: str | Path) -> list[str]:
    """One line for each file that is missing, altered or not in `manifest.json`, sorted by name.

    Temporary files of killed jobs are passed over: the next run that ends removes them.

    Raises:
        IntegrityError: there is no readable manifest.
    """
    root = Path(results)
    return [f"{root}/{name}: {reason}" for name, reason in _found(root).items()]


def repair(results: str | Path) -> list[str]:
    """Delete what the manifest, or where there is none the seals, say is not what jobs wrote.

    A file that is whole and not in the manifest, of an interrupted run or of an older
    configuration, stays. Nothing outside the folder is touched.

    Returns:
        One line for each file that was deleted, or that something else is wrong with.

    Raises:
        IntegrityError: there is no results folder.
    """
    root = Path(results)
    if not root.is_dir():
        raise IntegrityError(f"{root} is not a folder.")
    try:
        found = _found(root)
    except IntegrityError:
        tops = (root / name for name in ("manifest.json", "claims.parquet", CLAIMS, BY_SEED))
        there = [path for path in tops if path.is_file()]
        found = {str(p.relative_to(root)): _UNKNOWN for p in (*there, *_present(root))}
    lines = []
    for name, reason in found.items():
        path = root / name
        inside = path.resolve().is_relative_to(root.resolve())
        if inside and (reason == _ALTERED or (reason == _UNKNOWN and not _whole(path))):
            path.unlink()
            lines.append(f"{path}: {reason}, deleted")
        elif reason != _UNKNOWN:
            lines.append(f"{path}: {reason}")
    for path in [path for path in _present(root) if is_leftover(path)]:
        path.unlink()
        lines.append(f"{path}: left by a killed job, deleted")
    return lines


def _whole(path: Path) -> bool:
    try:
        check(path)
    except AlteredError:
        return False
    except IntegrityError:
        return True  # it cannot be read, which says nothing on what it holds
    return True


def main() -> int:
    """Print what differs; 1 if anything does."""
    parser = argparse.ArgumentParser(prog="python -m sharpflow.verify", description=__doc__)
    parser.add_argument("path", nargs="?", default="results", type=Path)
    parser.add_argument("--repair", action="store_true", help="delete what differs")
    options = parser.parse_args()
    return exit_status(lambda: told(options.path, options.repair))


def told(path: Path, repairing: bool) -> bool:
    """Print what differs, and delete it where repairing, after which a run makes it again.

    Args:
        path: a results folder, or one file.
        repairing: whether to delete what differs.

    Returns:
        Whether something differs; of a repair False.

    Raises:
        IntegrityError: there is no manifest, or the file is not what its job wrote.
    """
    if path.is_file():
        check(path)
        print(f"{path} is what its job wrote")
        return False
    if repairing:
        lines = repair(path)
        again = "Run the same configuration again: what is missing is made."
        print("\n".join([*lines, again]) if lines else f"{path}: there is nothing to repair")
        return False
    lines = differences(path)
    if not lines:
        print(f"{path}: every file is as the manifest says")
        return False
    again = "--repair deletes what differs, and a run of the same configuration makes it again."
    print("\n".join([*lines, again]))
    return True


if __name__ == "__main__":
    sys.exit(main())
