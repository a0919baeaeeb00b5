"""Metal kernels for a network's layers, its loss and its optimizer: the fast path of an Apple GPU."""
