"""Memory: what is used, what is left, and when the system starts to suffer."""
