"""Fused CUDA kernels in Triton for convolutions, poolings, the head, the loss and the optimizer."""
