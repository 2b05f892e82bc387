"""Functional networks whose parameters carry a leading *run* dimension."""

from sharpflow.models.activations import ACTIVATIONS, Activation
from sharpflow.models.base import Model, Parameters, build
from sharpflow.models.losses import LOSSES, Loss

__all__ = ["ACTIVATIONS", "LOSSES", "Activation", "Loss", "Model", "Parameters", "build"]
