"""The one file that all benchmarks write their parts to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPORT = Path("results/benchmarks.json")


def record(parts: Mapping[str, Any], path: Path = REPORT) -> None:
    """Write parts of the report over those of the same name; the others stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | dict(parts), indent=2) + "\n", encoding="utf-8")
