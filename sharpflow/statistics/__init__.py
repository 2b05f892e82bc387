"""Intervals over seeds, and the verdict of an interval against a band."""
