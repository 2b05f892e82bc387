"""The report: one self-contained HTML page with every figure, claim and verdict."""

from sharpflow.report.explorer import ExplorerData, collect
from sharpflow.report.page import FigureEntry, TableEntry, build
from sharpflow.report.tables import SHARPNESS_NOTE, SHARPNESS_QUANTITIES, sharpness_table
from sharpflow.report.text import settings_digest

__all__ = [
    "SHARPNESS_NOTE",
    "SHARPNESS_QUANTITIES",
    "ExplorerData",
    "FigureEntry",
    "TableEntry",
    "build",
    "collect",
    "settings_digest",
    "sharpness_table",
]
