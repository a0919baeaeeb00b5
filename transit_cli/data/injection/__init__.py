"""Signals injected into real light curves, and false alarms of their noise, as labelled view sets."""
