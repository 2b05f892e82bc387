"""Which data a network was trained on, for figures that have panels for each."""

from sharpflow.figures import base, ensemble
from sharpflow.results import tables as results

GAUSSIAN = "Gaussian data"
WORDS = {"gaussian": GAUSSIAN, "photos": "photographs", "cifar10": "CIFAR-10"}


def data(network: results.Network) -> str:
    """What figures call the network's data."""
    source = network.setting("data.source") or "gaussian"
    return WORDS.get(source, base.spelled(source))


def by_data(tables: results.Tables, *quantities: str) -> list[tuple[str, list[results.Network]]]:
    """Networks that recorded all of the quantities, by what their data are called.

    Gaussian data come first, as in the paper. The words are empty where all have the same data.
    """
    groups: dict[str, list[results.Network]] = {}
    for network in ensemble.networks(tables, *quantities):
        groups.setdefault(data(network), []).append(network)
    ordered = sorted(groups.items(), key=lambda item: item[0] != GAUSSIAN)
    return ordered if len(ordered) > 1 else [("", networks) for _, networks in ordered]


def titled(words: str, text: str) -> str:
    """A panel's title: its text, after the words for its data if there are several."""
    return f"{words}: {text}" if words else text
