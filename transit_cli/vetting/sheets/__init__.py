"""Vetting sheets: the plots and tables of every signal, on one page."""
