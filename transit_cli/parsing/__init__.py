"""Text, YAML and JSON from outside as typed values."""
