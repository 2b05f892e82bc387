"""What a wheel needs beyond its files: the commit that it was built from."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Writes the commit into the wheel, where `sharpflow.version.commit` reads it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit, and say where in the wheel it goes."""
        if version == "editable":
            return  # the clone is there to be asked
        known = runpy.run_path(str(Path(self.root) / "sharpflow" / "version.py"))
        path = Path(self.directory) / "COMMIT"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(known["commit_of"](Path(self.root)) + "\n", encoding="utf-8")
        build_data["force_include"][str(path)] = f"sharpflow/{known['COMMIT_FILE']}"
