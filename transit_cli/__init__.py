"""transit: train and vet exoplanet-transit classifiers on the machine you have."""

__version__ = "0.1.0"
