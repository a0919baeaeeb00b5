"""PyTorch's own operator database on a device, as a matrix."""
