"""Typed configuration: what the Snakefile and the command line read.

Nothing here is imported by a job, and nothing here imports torch, numpy or pandas.
"""

from sharpflow.config.load import Settings, load
from sharpflow.config.numbers import canonical
from sharpflow.config.plan import Plan, Shard, make_plan

__all__ = ["Plan", "Settings", "Shard", "canonical", "load", "make_plan"]
