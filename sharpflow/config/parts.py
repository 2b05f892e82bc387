"""Into which parts the table of an experiment is cut."""

from collections.abc import Iterable
from typing import TypeVar

from sharpflow.storage.files import fingerprint

SHARDS = 64
"""Shards of a part on average, above which a table is cut in two: a part is one job."""

_Item = TypeVar("_Item")


def in_parts(shards: Iterable[tuple[tuple[str, ...], _Item]]) -> dict[str, list[_Item]]:
    """Shards by the part that their rows go to, in order.

    All shards of a network share a part, for its summary is over all of its seeds. Which part that
    is depends on the network's key and the number of parts, a power of two; so another network
    changes its own part alone, unless the table has grown enough to be cut anew.

    Args:
        shards: each with the key of its network.

    Returns:
        Lists of shards by the part's name, `2-of-4` say; a part without a shard is left out.
    """
    listed = list(shards)
    count = 1
    while count * SHARDS < len(listed):
        count *= 2
    found: dict[str, list[_Item]] = {}
    for key, shard in listed:
        place = int(fingerprint(*key)[:8], 16) % count
        found.setdefault(f"{place + 1}-of-{count}", []).append(shard)
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition("-")[0])))
