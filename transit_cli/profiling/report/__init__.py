"""What a profile means and how it is shown."""
