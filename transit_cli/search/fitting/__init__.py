"""Many signals fitted at once: where a peak of the periodogram lies, and the least-squares fit of a template."""
