"""How the figures here name a case and its threshold."""

from sharpflow.figures import base
from sharpflow.results import tables as results


def factor(network: results.Network) -> float:
    """The stability threshold times η: 38 for Adam at β₁ = 0.9."""
    return network.threshold * network.learning_rate


def named(network: results.Network, others: list[results.Network]) -> str:
    """A case with its momentum, and its threshold as a number over η."""
    parts = [base.name(network, others)]
    for key, symbol in (("momentum", "β"), ("beta1", "β₁")):
        if (value := network.setting(f"optimiser.{key}")) is not None:
            parts.append(f"{symbol} = {base.number(value)}")
    return f"{', '.join(parts)}: {base.number(factor(network))}/η"
