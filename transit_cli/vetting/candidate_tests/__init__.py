"""Classical tests of one signal: one module per test, each with its number, threshold, verdict and paper."""
