"""Scores of new signals: the table, the result, and prediction in shards."""
