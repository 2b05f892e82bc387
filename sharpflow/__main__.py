"""`sharpflow`, or `python -m sharpflow`: the command line."""

import sys
from importlib.util import find_spec

NEEDED = ("click", "pydantic", "yaml", "snakemake")


def main() -> int:
    """Run the command line; 1, with what to install, where the library alone is there."""
    if sys.argv[1:] == ["--version"]:  # the library alone has one too
        from sharpflow.version import VERSION

        print(f"sharpflow, version {VERSION}")
        return 0
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"Error: the command line needs {', '.join(missing)}; "
            "`pip install 'sharpflow[workflow]'` brings what it needs.",
            file=sys.stderr,
        )
        return 1
    from sharpflow.cli.app import run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
