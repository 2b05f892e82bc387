"""Curvature of the loss: Hessian and Gauss-Newton operators, top eigenpairs, trace, sharpness."""

from sharpflow.curvature.compression import DenseInputs, compress_inputs, prepare_inputs
from sharpflow.curvature.conv_net import ConvNet
from sharpflow.curvature.dense_net import DenseNet, gauss_newton_matrix
from sharpflow.curvature.density import SpectralDensity, spectral_density
from sharpflow.curvature.eigen import (
    EigenResult,
    bottom_eigenpairs,
    eigenpairs_above,
    top_eigenpairs,
)
from sharpflow.curvature.estimators import Estimate, trace
from sharpflow.curvature.linear_operator import LinearOperator, NonFiniteError
from sharpflow.curvature.measure import SharpnessTracker, sharpness
from sharpflow.curvature.operators import (
    GaussNewtonOperator,
    flatten_parameters,
    gauss_newton_operator,
    hessian_operator,
)
from sharpflow.curvature.preconditioning import Preconditioning, preconditioning
from sharpflow.curvature.reference import dense_hessian, dense_jacobian
from sharpflow.curvature.warm_start import WarmStart

__all__ = [
    "ConvNet",
    "DenseInputs",
    "DenseNet",
    "EigenResult",
    "Estimate",
    "GaussNewtonOperator",
    "LinearOperator",
    "NonFiniteError",
    "Preconditioning",
    "SharpnessTracker",
    "SpectralDensity",
    "WarmStart",
    "bottom_eigenpairs",
    "compress_inputs",
    "dense_hessian",
    "dense_jacobian",
    "eigenpairs_above",
    "flatten_parameters",
    "gauss_newton_matrix",
    "gauss_newton_operator",
    "hessian_operator",
    "preconditioning",
    "prepare_inputs",
    "sharpness",
    "spectral_density",
    "top_eigenpairs",
    "trace",
]
