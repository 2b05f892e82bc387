"""Set what a publication shows beside what the tables of a finished run hold, as Markdown.

The published values are a YAML file (see papers/li2022/published.yaml); a case stands for the
network whose name it begins with.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sharpflow.config import load, make_plan
from sharpflow.errors import exit_status
from sharpflow.report.markdown import replace_below
from sharpflow.results.description import describe
from sharpflow.results.runs import runs_of
from sharpflow.statistics.variance import variance_shares
from sharpflow.storage.parts import read_parts

Published = dict[str, Any]
Cases = Mapping[str, Mapping[str, Any]]


def rows(published: Published, table: pd.DataFrame, cases: Cases) -> Iterator[str]:
    """Lines of the table: one a network, case and quantity, none left out."""
    yield "| network | quantity | published | case | ours: mean | spread | distance in spreads |"
    yield "|---|---|---|---|---|---|---|"
    runs = list(runs_of(table, cases))
    for network, shown in published["networks"].items():
        own = [case for case in cases if case == network or case.startswith(f"{network}_")]
        found = {
            case: [
                describe(run, shown["shown"], published["loss_at"])
                for run in runs
                if run.case == case
            ]
            for case in own
        }
        for quantity, value in shown["values"].items():
            for case, described in found.items():
                values = np.array([each[quantity] for each in described])
                yield _row(network, quantity, value, case, values)


def _row(network: str, quantity: str, value: float, case: str, values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    missing = f" ({len(values) - len(known)} of {len(values)} have none)"
    mean = known.mean() if known.size else np.nan
    spread = known.std(ddof=1) if known.size > 1 else np.nan
    distance = "–" if not spread > 0 else f"{(value - mean) / spread:+.1f}"
    ours = f"{mean:.4g}" + (missing if known.size < values.size else "")
    return f"| {network} | {quantity} | {value:g} | `{case}` | {ours} | {spread:.2g} | {distance} |"


def shares(published: Published, table: pd.DataFrame, settings: Cases) -> Iterator[str]:
    """What the draw of the data and the start explain, where cases are draws and seeds starts."""
    runs = list(runs_of(table, settings))
    network = next(iter(published["networks"].values()))
    cases, seeds = sorted({run.case for run in runs}), sorted({run.seed for run in runs})
    described = {
        (run.case, run.seed): describe(run, network["shown"], published["loss_at"]) for run in runs
    }
    yield "| quantity | mean | data | start | rest |"
    yield "|---|---|---|---|---|"
    for quantity in network["values"]:
        cells = {place: values[quantity] for place, values in described.items()}
        grid = np.array([[cells[case, seed] for seed in seeds] for case in cases])
        if not np.all(np.isfinite(grid)):
            yield f"| {quantity} | – | – | – | – |"
            continue
        found = variance_shares(grid)
        parts = (found.rows, found.columns, found.rest)
        percent = [f"{100 * part:.0f} %" if np.isfinite(part) else "–" for part in parts]
        yield f"| {quantity} | {grid.mean():.4g} | {' | '.join(percent)} |"


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", required=True, type=Path, help="the published values")
    parser.add_argument("--configfile", required=True, help="the configuration that was run")
    parser.add_argument("--experiment", required=True, help="its experiment that has the networks")
    parser.add_argument("--crossed", help="an experiment whose cases are draws of the data")
    parser.add_argument("output", type=Path, help="the file; what is above its marker stays")
    options = parser.parse_args()

    def write() -> None:
        settings = load(options.configfile, {})
        plan = make_plan(settings)
        published = yaml.safe_load(options.published.read_text(encoding="utf-8"))
        tables = Path(settings.configuration.results) / "tables"

        def read(experiment: str) -> tuple[pd.DataFrame, Cases]:
            parts = plan.parts_of(experiment)
            table = read_parts([tables / experiment / "runs" / f"{p}.parquet" for p in parts])
            return table, plan.settings[experiment]["cases"]

        lines = [*rows(published, *read(options.experiment))]
        if options.crossed:
            lines += ["", "## Data or start", ""]
            lines += shares(published, *read(options.crossed))
        replace_below(options.output, lines)

    return exit_status(write, OSError)


if __name__ == "__main__":
    sys.exit(main())
