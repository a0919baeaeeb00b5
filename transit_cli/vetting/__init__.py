"""Room for judging signals: how good a network is (`transit evaluate`), and what it makes of new ones (`predict`)."""
