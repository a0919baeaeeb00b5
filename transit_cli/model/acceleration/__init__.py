"""Faster implementations of layers that leave a network's parameters unchanged."""
