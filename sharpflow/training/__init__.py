"""Training of an ensemble of runs: batches, steps, checkpoints."""

from sharpflow.training.problem import Problem
from sharpflow.training.streams import BLOCK, generator
from sharpflow.training.train import Trajectory, stored_steps, train

__all__ = ["BLOCK", "Problem", "Trajectory", "generator", "stored_steps", "train"]
