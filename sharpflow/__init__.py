"""sharpflow: how noise and step size shape the sharpness of neural networks."""

import sys
from importlib import import_module

if hasattr(sys.modules["__main__"], "__real_file__"):  # of a job that Snakemake started
    import_module("sharpflow.forkserver").hand_over()


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: no job depends on it."""
    if name == "__version__":
        return import_module("sharpflow.version").VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
