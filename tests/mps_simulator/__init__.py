"""A device called "mps" on a machine without one, for tests; README.md says what it proves and what it does not."""
