"""The folder that `docs/how-to/extending.md` builds: a part of every kind, and an experiment."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extending.md"
FILES = dict(
    re.findall(
        r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
)


def make(folder: Path) -> Path:
    """Write the folder; the configuration's path."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "config.yaml"
