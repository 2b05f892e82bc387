"""Keep the verdicts of a finished run with its paper, as its folder's `recorded.yaml`.

The page of a smaller run then sets them beside its own. Run it on `claims.csv` of a run at the
paper's scale, and say in a phrase where that was made: `--source "CIFAR-10, n = 1,000"`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sharpflow.config.papers import PAPER_FILE, RECORDED_FILE, is_paper, read_papers
from sharpflow.config.types import Recorded
from sharpflow.errors import ConfigError, exit_status
from sharpflow.report.verdicts import claim_entries, outcome, single_rows
from sharpflow.storage.files import write_bytes


def recorded(claims: pd.DataFrame, source: str) -> dict[str, Any]:
    """Verdict and result of each measurement, by experiment, claim and case; no control.

    Args:
        claims: columns `sharpflow.claims.columns.COLUMNS`, of one paper.
        source: where the run was made, as a phrase.

    Returns:
        A document that `sharpflow.config.types.Recorded` takes.
    """
    verdicts: dict[str, dict[str, dict[str, list[str]]]] = {}
    for row in single_rows(claim_entries(claims)):
        cases = verdicts.setdefault(row["experiment"], {}).setdefault(row["claim"], {})
        cases[row["case"]] = [row["verdict"], outcome(row)]
    return Recorded(source=source, verdicts=verdicts).model_dump(mode="json")


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", type=Path, help="claims.csv of a finished run")
    parser.add_argument("paper", type=Path, help="the paper's folder")
    parser.add_argument("--source", required=True, help="where the run was made, as a phrase")
    options = parser.parse_args()
    return exit_status(lambda: _write(options.claims, options.paper, options.source), OSError)


def _write(claims: Path, folder: Path, source: str) -> None:
    if not is_paper(folder):
        raise ConfigError(f"{folder} has no {PAPER_FILE}, so it is no folder of a paper.")
    ((key, _),) = read_papers(PAPER_FILE, [str(folder)]).items()
    table = pd.read_csv(claims)
    own = table[table["paper"] == key]
    if own.empty:
        raise ConfigError(f"{claims} has no claim of {key}, the paper of {folder}.")
    text = yaml.safe_dump(
        recorded(own, source),
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    head = "# Made by python -m sharpflow.recorded from claims.csv of the run that it names.\n"
    write_bytes(str(folder / RECORDED_FILE), f"{head}{text}".encode())


if __name__ == "__main__":
    sys.exit(main())
