"""Datasets: a source a folder."""
