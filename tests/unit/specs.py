"""Plain specifications of jobs, as a configuration makes them, and small shards."""

from pathlib import Path
from typing import Any

from sharpflow.config.papers import shipped_papers
from sharpflow.config.types import BY_KEY, TAGS, Training, Types
from sharpflow.parts.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PAPERS = {key: paper.folder for key, paper in shipped_papers().items()}
TYPES = Types(Registry(PAPERS))


def part(kind: str, name: str, **options: Any) -> dict[str, Any]:
    """The plain options of a part, with its defaults."""
    chosen = TYPES.options(kind)[name]
    tag = {} if kind in BY_KEY else {TAGS.get(kind, "kind"): name}
    return chosen.model_validate(tag | options).model_dump(mode="json")


def measurements(**chosen: Any) -> dict[str, dict[str, Any]]:
    """The plain options of measurements by name."""
    return {name: part("measurements", name, **options) for name, options in chosen.items()}


def spec(
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    *,
    optimiser: dict[str, Any] | None = None,
    schedule: dict[str, Any] | None = None,
    loss: str | dict[str, Any] = "mse",
    **changes: Any,
) -> dict[str, Any]:
    """A shard's specification: three seeds of a small dense network, in float64, by default."""

    def chosen(kind: str, options: dict[str, Any] | None, default: str) -> dict[str, Any]:
        options = dict(options or {})
        return part(kind, options.pop("kind", default), **options)

    plain = {
        "stream": "test",
        "seeds": [0, 1, 2],
        "width": 7,
        "learning_rate": 0.05,
        "dtype": "float64",
        "device": "cpu",
        "model": chosen("models", model, "mlp"),
        "loss": chosen("losses", {"kind": loss} if isinstance(loss, str) else loss, "mse"),
        "optimiser": chosen("optimisers", optimiser, "sgd"),
        "schedule": chosen("schedules", schedule, "constant"),
        "training": Training.model_validate({"steps": 20} | (training or {})).model_dump(
            mode="json"
        ),
    }
    return plain | changes
