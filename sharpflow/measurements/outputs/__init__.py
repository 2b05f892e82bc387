"""The network's outputs for a few samples."""

import torch

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values


class Outputs(Measurement):
    """Outputs of rows that are spread evenly; index: row after row, output after output."""

    def __init__(self, samples: int):
        self.samples = samples

    def measure(self, snapshot: Snapshot) -> Values:
        """The outputs at one state."""
        outputs = snapshot.outputs
        count = min(self.samples, len(outputs))
        rows = torch.linspace(0, len(outputs) - 1, count).round().long()
        return {"output": outputs[rows].flatten().cpu().numpy()}


def build(options: Options) -> Outputs:
    """The measurement of `{every, samples}`."""
    return Outputs(options["samples"])
