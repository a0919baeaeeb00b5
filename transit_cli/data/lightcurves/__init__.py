"""Light curves: readers, stitching, time references, downloads."""
