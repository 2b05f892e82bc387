"""Losses, with the derivatives that curvature needs; one a folder."""
