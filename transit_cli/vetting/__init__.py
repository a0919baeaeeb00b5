"""Evaluation of trained networks (`transit evaluate`) and scoring of new signals (`transit predict`)."""
