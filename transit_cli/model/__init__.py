"""Networks by name: the two-branch network of the M4 guide, the AstroNet of its paper, and a person's own."""
