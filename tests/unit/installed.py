"""sharpflow as a wheel, and an environment in which that is installed."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ("Snakefile", "environment.yml", "config", "papers", "profiles", "rules", "scripts")
"""What of the project's top level travels with the package."""

BUILT_BY = (".gitignore", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")


def done(command: list[str | Path]) -> None:
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def wheel(folder: Path) -> Path:
    """Build the wheel below a folder, from a clone of what it is made of in `source`."""
    source = folder / "source"
    for name in ("sharpflow", *WORKFLOW, *BUILT_BY):
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    git = ["git", "-C", source, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        done([*git, *words])
    done([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source])
    (found,) = folder.glob("*.whl")
    return found


def environment(folder: Path) -> Path:
    """The programs of a new environment with the wheel, and with the packages of this one."""
    built = wheel(folder / "wheel")
    place = folder / "environment"
    done([sys.executable, "-m", "venv", "--without-pip", place])
    purelib = sysconfig.get_path("purelib")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "lib" / version / "site-packages" / "here.pth").write_text(purelib)
    python = place / "bin" / "python"
    done([python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed", built])
    return place / "bin"
