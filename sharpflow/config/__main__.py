"""`python -m sharpflow.config check FILE`, `schema [FILE]` or `reference [FILE]`."""

import argparse
import sys
from pathlib import Path

from sharpflow.config import load, make_plan
from sharpflow.config.alone import configuration_of, is_experiment
from sharpflow.config.home import default
from sharpflow.config.load import settings_of
from sharpflow.config.reference import readme, schema, shipped
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import exit_status


def checked(file: str | Path | None = None) -> str:
    """What a configuration, the default one, or an experiment alone asks for; a line.

    Raises:
        ConfigError: it is wrong.
    """
    file = Path(file or default())
    top = read_yaml(file)
    settings = settings_of(configuration_of(file), file) if is_experiment(top) else load(file)
    plan = make_plan(settings)
    others = settings.configuration.leave_out
    left = f" ({', '.join(others)} left out)" if others else ""
    return (
        f"{file}: {_many(len(plan.settings), 'experiment')}{left}, "
        f"{_many(len(plan.datasets), 'dataset')}, {_many(len(plan.shards), 'shard')}, "
        f"{_many(len(plan.figures), 'figure')}\n"
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _run(command: str, file: str | None) -> str:
    """What a command prints."""
    if command == "check":
        return checked(file)
    types = load(file).types if file else shipped()
    return schema(types) if command == "schema" else readme(types)


def main() -> int:
    """Run one command; 1 if a configuration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m sharpflow.config", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("check", "validate a configuration and count its jobs"),
        ("schema", "print the JSON schema, with the parts of the papers that FILE lists"),
        ("reference", "print config/README.md, likewise"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("file", nargs="?", metavar="FILE", help="a configuration")
    options = parser.parse_args()
    return exit_status(lambda: print(_run(options.command, options.file), end=""))


if __name__ == "__main__":
    sys.exit(main())
