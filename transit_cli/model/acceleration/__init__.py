"""Faster ways of computing the same layers, without touching a network's parameters."""
