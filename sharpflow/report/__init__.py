"""The report: one self-contained HTML page with every figure, claim and verdict."""

from sharpflow.report.page import FigureEntry, build
from sharpflow.report.tables import sharpness_table
from sharpflow.report.text import settings_digest

__all__ = ["FigureEntry", "build", "settings_digest", "sharpness_table"]
