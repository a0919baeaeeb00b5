"""Batches from a view set: in memory or streamed."""
