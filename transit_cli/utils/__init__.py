"""Small shared tools, one home each: files, packages, child processes, worker processes, the cache."""
