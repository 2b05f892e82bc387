"""Curvature of a loss: operators of a model, their spectra, and sharpness along its training."""

from sharpflow.curvature.basis import Storage
from sharpflow.curvature.batch_sharpness import BatchSharpnessResult, batch_sharpness
from sharpflow.curvature.density import SpectralDensity, spectral_density
from sharpflow.curvature.diagonal import DiagonalEstimate, diagonal
from sharpflow.curvature.differences import DifferenceOperator
from sharpflow.curvature.effective_rank import (
    effective_dimension,
    participation_ratio,
    stable_rank,
)
from sharpflow.curvature.eigen import (
    EigenResult,
    bottom_eigenpairs,
    eigenpairs_above,
    top_eigenpairs,
)
from sharpflow.curvature.estimators import Estimate, frobenius_norm, trace
from sharpflow.curvature.linear_operator import LinearOperator, NonFiniteError, OperatorProduct
from sharpflow.curvature.measure import SharpnessTracker, sharpness
from sharpflow.curvature.model_curvature import ModelCurvature
from sharpflow.curvature.monitor import SharpnessMonitor, SharpnessRecord, evaluation_mode
from sharpflow.curvature.operators import (
    GaussNewtonOperator,
    flatten_parameters,
    gauss_newton_operator,
    hessian_operator,
)
from sharpflow.curvature.preconditioning import Preconditioning, preconditioning
from sharpflow.curvature.spectrum_ends import (
    MagnitudeResult,
    SpectralNorm,
    SpectrumEnds,
    both_ends,
    largest_magnitude_eigenpairs,
    spectral_norm,
)

__all__ = [
    "BatchSharpnessResult",
    "DiagonalEstimate",
    "DifferenceOperator",
    "EigenResult",
    "Estimate",
    "GaussNewtonOperator",
    "LinearOperator",
    "MagnitudeResult",
    "ModelCurvature",
    "NonFiniteError",
    "OperatorProduct",
    "Preconditioning",
    "SharpnessMonitor",
    "SharpnessRecord",
    "SharpnessTracker",
    "SpectralDensity",
    "SpectralNorm",
    "SpectrumEnds",
    "Storage",
    "batch_sharpness",
    "both_ends",
    "bottom_eigenpairs",
    "diagonal",
    "effective_dimension",
    "eigenpairs_above",
    "evaluation_mode",
    "flatten_parameters",
    "frobenius_norm",
    "gauss_newton_operator",
    "hessian_operator",
    "largest_magnitude_eigenpairs",
    "participation_ratio",
    "preconditioning",
    "sharpness",
    "spectral_density",
    "spectral_norm",
    "stable_rank",
    "top_eigenpairs",
    "trace",
]
