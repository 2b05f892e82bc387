"""Distributions of initial weights; one a folder."""
