"""Plain specifications of jobs, as a configuration makes them."""

from pathlib import Path
from typing import Any

from sharpflow.config.papers import shipped_papers
from sharpflow.config.types import BY_KEY, TAGS, Training, Types
from sharpflow.parts.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAPERS = {key: paper.folder for key, paper in shipped_papers().items()}
TYPES = Types(Registry(PAPERS))


def part(kind: str, name: str, **options: Any) -> dict[str, Any]:
    """The plain options of a part, with its defaults."""
    tag = {} if kind in BY_KEY else {TAGS.get(kind, "kind"): name}
    return TYPES.options(kind)[name].model_validate(tag | options).model_dump(mode="json")


def shard(
    model: dict[str, Any], width: int, learning_rate: float, dtype: str = "float32", **training: Any
) -> dict[str, Any]:
    """A shard of one run under the squared error and SGD at a constant rate.

    Args:
        training: options of the training.
    """
    return {
        "stream": "benchmark",
        "seeds": [0],
        "width": width,
        "learning_rate": learning_rate,
        "dtype": dtype,
        "device": "cpu",
        "model": model,
        "loss": part("losses", "mse"),
        "optimiser": part("optimisers", "sgd"),
        "schedule": part("schedules", "constant"),
        "training": Training.model_validate(training).model_dump(mode="json"),
    }
