"""What a user's function that builds a network may ask for; light to import."""

OFFERED = ("width", "input_shape", "outputs", "vocabulary")
"""Arguments that it gets where it has parameters for them, of `models.base.Setting`."""
