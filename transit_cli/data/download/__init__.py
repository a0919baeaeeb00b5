"""Light curves from the public archive."""
