"""Sizes in pixels that the photographs and their options share; light to import."""

CELL = 48
"""Side of the cells that are dealt out to parts."""
