"""Members and folds that train at the same time, each in a process with one thread."""
