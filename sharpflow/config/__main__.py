"""`python -m sharpflow.config check FILE`, `schema` or `reference`."""

import argparse
import sys

from sharpflow.config import load, make_plan
from sharpflow.config.reference import readme, schema, shipped
from sharpflow.errors import SharpflowError


def main() -> int:
    """Run one command; 1 if a configuration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m sharpflow.config", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="validate a configuration and count its jobs")
    check.add_argument("file", nargs="?", default="config/config.yaml")
    commands.add_parser("schema", help="print the JSON schema")
    commands.add_parser("reference", help="print config/README.md")
    options = parser.parse_args()
    if options.command != "check":
        made = schema if options.command == "schema" else readme
        print(made(shipped()), end="")
        return 0
    try:
        plan = make_plan(load(options.file))
    except SharpflowError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.file}: {len(plan.settings)} experiments, {len(plan.datasets)} datasets, "
        f"{len(plan.shards)} shards, {len(plan.figures)} figures"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
