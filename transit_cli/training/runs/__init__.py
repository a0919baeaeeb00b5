"""A run's folder: checkpoints, metrics, progress, signals, the finished network."""
