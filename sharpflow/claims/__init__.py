"""What a claim is, and the claims that many papers share; the others stand in their papers."""
