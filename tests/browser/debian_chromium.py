"""Finds Debian's Chromium, or installs it where that can be done."""

import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def found() -> str:
    """The program's path, or nothing."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


def why_not() -> str:
    """Why no browser can be started on this machine; nothing if one can."""
    if found():
        return ""
    if not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        return "there is no Chromium, which is installed with apt-get on Debian alone"
    if os.geteuid() != 0:
        return "there is no Chromium, and installing Debian's needs root"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    steps = (
        ("apt-get", "update", "-qq"),
        ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"),
    )
    for step in steps:
        done = subprocess.run(step, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return f"{' '.join(step[:2])} failed: {last}"
    return "" if found() else "apt-get installed chromium, which is not on the path"
