"""Which operators MPS has, runs on the CPU, refuses or computes wrongly, and a fallback for those it refuses."""
