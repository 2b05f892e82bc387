"""The report: one self-contained HTML page with every figure, claim and verdict."""

from sharpflow.report.page import FigureEntry, build, settings_digest
from sharpflow.report.tables import sharpness_table

__all__ = ["FigureEntry", "build", "settings_digest", "sharpness_table"]
