"""Ways of running the one training step: the same numbers, to rounding, at different speeds."""
