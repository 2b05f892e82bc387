"""The report: one self-contained HTML page with every figure, claim and verdict."""

from sharpflow.report.entries import FigureEntry, TableEntry
from sharpflow.report.explorer import ExplorerData, collect
from sharpflow.report.page import build
from sharpflow.report.run import Stage, build_run, machine, stage
from sharpflow.report.tables import SHARPNESS_NOTE, SHARPNESS_QUANTITIES, sharpness_table
from sharpflow.report.text import settings_digest

__all__ = [
    "SHARPNESS_NOTE",
    "SHARPNESS_QUANTITIES",
    "ExplorerData",
    "FigureEntry",
    "Stage",
    "TableEntry",
    "build",
    "build_run",
    "collect",
    "machine",
    "settings_digest",
    "sharpness_table",
    "stage",
]
