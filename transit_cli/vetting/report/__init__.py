"""Output of `transit evaluate`: the page, plots, scores.csv, metrics.json, and the tables in the terminal."""
