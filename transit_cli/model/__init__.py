"""Networks by name (two-branch, astronet, plugins', the user's own), saved networks and faster execution of layers."""
