"""Catalogs of signals and tables of folded views from elsewhere."""
