"""The light of a star over all its files, detrended, and whether an ephemeris fits it."""
