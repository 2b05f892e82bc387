"""The exact versions of all packages that those of the requirements bring along: `make lock`."""

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LISTS = (
    "requirements.txt",
    "tests/peers.txt",
    "tests/storage.txt",
    "tests/browser.txt",
    "docs/requirements.txt",
)
"""Lists of packages that are installed with what they ask for."""


def listed() -> Iterator[Requirement]:
    """What the lists name themselves."""
    for name in LISTS:
        for line in (ROOT / name).read_text().splitlines():
            line = line.partition("#")[0].strip()
            if line and not line.startswith("-"):
                yield Requirement(line)


def brought(wanted: Iterable[Requirement]) -> dict[str, str]:
    """Versions of what is wanted, and of what that asks for in turn, as they are installed here."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(each.name, extra) for each in wanted for extra in ("", *each.extras)]
    while waiting:
        name, extra = waiting.pop()
        name = canonicalize_name(name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package.version.partition("+")[0]
        for text in package.requires or ():
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": extra}):
                waiting += [(asked.name, each) for each in ("", *asked.extras)]
    return found


def lines() -> Iterator[str]:
    """The lines of `constraints.txt`, as this environment would have them."""
    yield "# What the lists of packages bring along, in the versions that are tested (`make lock`)."
    for name, number in sorted(brought(listed()).items()):
        yield f"{name}=={number}"


if __name__ == "__main__":
    print("\n".join(lines()))
