"""Search of light curves for transits: templates over a grid of period, epoch and duration, on any device."""
