"""sharpflow: how noise and step size shape the sharpness of neural networks."""
