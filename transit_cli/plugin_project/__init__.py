"""Projects of plugins, for `transit plugins new`."""
