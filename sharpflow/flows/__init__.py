"""Gradient flow, central flow and other theories that run beside training."""
