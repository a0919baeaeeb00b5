"""Tuning: which batch the machine can take, which is best, and a larger one without the memory for it."""
