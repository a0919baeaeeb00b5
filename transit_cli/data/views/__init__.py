"""From a light curve and a signal to views: detrend, fold, bin, measure."""
