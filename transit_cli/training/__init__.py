"""Training: the one step that every command runs, and the loop, checkpoints and metrics around it."""
