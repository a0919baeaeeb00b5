"""What MPS would do with a network, from the tables of PyTorch and known rules, without a Mac."""
