"""Signals: where a peak of the periodogram lies, the fit of a template to many at once, and what is said of them."""
