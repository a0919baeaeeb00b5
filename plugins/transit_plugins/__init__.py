"""The commands that come with transit: one small module each, found through entry points like anyone else's."""
