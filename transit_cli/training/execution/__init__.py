"""Executors of the training step: the same numbers, to rounding, at different speeds."""
