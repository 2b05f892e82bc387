"""What Snakemake prints, kept to lines that can be read."""

import logging

SHOWN = 3
LONGEST = 200
_LISTS = ("input", "output", "log")


def _few(items: list[str]) -> list[str]:
    """The first items, and how many there are beside them; their text is of bounded length."""
    shown = list(items[:SHOWN])
    while len(shown) > 1 and sum(map(len, shown)) > LONGEST:
        shown.pop()
    more = len(items) - len(shown)
    return [*shown, f"and {more:,} more"] if more else shown


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} …"


def shorten(record: logging.LogRecord) -> bool:
    """Shorten the lists of files and the reason of a job, of which a sweep's have thousands.

    A filter for Snakemake's logger; it lets every record pass.
    """
    for name in _LISTS:
        items = getattr(record, name, None)
        if isinstance(items, (list, tuple)):
            setattr(record, name, _few([str(item) for item in items]))
    if reason := getattr(record, "reason", None):
        setattr(record, "reason", _cut(str(reason)))  # noqa: B010 (not an attribute of every record)
    return True
