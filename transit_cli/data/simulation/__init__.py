"""Simulated light curves and the signals that a pipeline would report on them."""
