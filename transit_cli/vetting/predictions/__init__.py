"""What `transit predict` reports."""
