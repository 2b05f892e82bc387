"""Measurements along a run; one a folder, named in the configuration."""
