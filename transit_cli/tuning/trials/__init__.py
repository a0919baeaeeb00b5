"""Trials: training steps of one batch size in a process of their own."""
