"""Noether charges and flow, gradient-noise covariances, noise equilibrium in closed form."""

from sharpflow.symmetry.adam import (
    AdamSums,
    adam_charge_step,
    adam_equilibrium_charge,
    adam_relaxation_steps,
    adam_squares,
    adam_sums,
)
from sharpflow.symmetry.adam_balance import AdamBalance, AdamNoise, adam_balance
from sharpflow.symmetry.balance import NoiseBalance, noise_balance
from sharpflow.symmetry.charge_laws import (
    Sgd,
    SymmetryNoise,
    charge_drift,
    equilibrium_charge,
    relaxation_steps,
    sustained_charge,
)
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
from sharpflow.symmetry.modules import Broken, Symmetries, find_symmetries
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
    "AdamBalance",
    "AdamNoise",
    "AdamSums",
    "Broken",
    "Generator",
    "GradientMoments",
    "NoiseBalance",
    "NoiseTrace",
    "Sgd",
    "Slots",
    "Symmetries",
    "Symmetry",
    "SymmetryNoise",
    "adam_balance",
    "adam_charge_step",
    "adam_equilibrium_charge",
    "adam_relaxation_steps",
    "adam_squares",
    "adam_sums",
    "alignment",
    "charge_drift",
    "deep_gaussian_gammas",
    "deep_noise_equilibrium",
    "dense",
    "dense_noise_trace",
    "equilibrium_charge",
    "find_symmetries",
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
    "noise_balance",
    "noise_equilibrium",
    "noise_imbalance",
    "noise_trace",
    "per_sample_gradients",
    "plain_balance",
    "population_gradient",
    "population_loss",
    "relaxation_steps",
    "rescaling",
    "residual_gammas",
    "sample_loss",
    "scale",
    "stationary_gammas",
    "sustained_charge",
    "symmetries_of",
    "symmetry_deviation",
    "two_layer_noise_trace",
    "weighted",
    "weighted_grams",
]
