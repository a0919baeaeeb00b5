"""Devices: one protocol over the CPU, CUDA and Apple's MPS. `torch.cuda` and `torch.mps` are named only in here."""
