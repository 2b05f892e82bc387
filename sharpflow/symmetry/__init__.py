"""Noether charges and flow, gradient-noise covariances, noise equilibrium in closed form."""

from sharpflow.symmetry.covariance import (
    gradient_covariance,
    noise_trace,
    per_sample_gradients,
    sample_loss,
)
from sharpflow.symmetry.deep_linear import deep_gaussian_gammas, deep_noise_equilibrium
from sharpflow.symmetry.equilibrium import noise_equilibrium, plain_balance, stationary_gammas
from sharpflow.symmetry.find import symmetries_of
from sharpflow.symmetry.generators import (
    Generator,
    dense,
    is_symmetry,
    matrix_symmetry,
    rescaling,
    scale,
    symmetry_deviation,
    weighted,
)
from sharpflow.symmetry.gradient_moments import GradientMoments
from sharpflow.symmetry.noether import (
    NoiseTrace,
    dense_noise_trace,
    noether_charge,
    noether_flow_rate,
    noether_step,
)
from sharpflow.symmetry.path import noether_path
from sharpflow.symmetry.shared_units import Slots, Symmetry
from sharpflow.symmetry.two_layer import (
    alignment,
    gammas,
    gaussian_gammas,
    hessian_trace,
    noise_imbalance,
    population_gradient,
    population_loss,
    residual_gammas,
    two_layer_noise_trace,
    weighted_grams,
)

__all__ = [
    "Generator",
    "GradientMoments",
    "NoiseTrace",
    "Slots",
    "Symmetry",
    "alignment",
    "deep_gaussian_gammas",
    "deep_noise_equilibrium",
    "dense",
    "dense_noise_trace",
    "gammas",
    "gaussian_gammas",
    "gradient_covariance",
    "hessian_trace",
    "is_symmetry",
    "matrix_symmetry",
    "noether_charge",
    "noether_flow_rate",
    "noether_path",
    "noether_step",
    "noise_equilibrium",
    "noise_imbalance",
    "noise_trace",
    "per_sample_gradients",
    "plain_balance",
    "population_gradient",
    "population_loss",
    "rescaling",
    "residual_gammas",
    "sample_loss",
    "scale",
    "stationary_gammas",
    "symmetries_of",
    "symmetry_deviation",
    "two_layer_noise_trace",
    "weighted",
    "weighted_grams",
]
