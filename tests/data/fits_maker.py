"""FITS light curves with everything that a test wants to be different."""

import numpy as np
from astropy.io import fits

from transit_cli.data.views.folding import phases

BKJD, BTJD = 2454833, 2457000


def long_cadence(days=90.0, start=131.5, cadence=0.0204336):
    """Times of a quarter, with a day's gap a month."""
    time = np.arange(start, start + days, cadence)
    return time[(time - start) % 30 > 1]


def flux_with(time, signals, depths, *, noise=1e-4, seed=0, level=5000.0):
    """Fluxes of a star that turns in 11 days, with box-shaped transits."""
    flux = 1 + 1e-3 * np.sin(2 * np.pi * time / 11) + np.random.default_rng(seed).normal(0, noise, len(time))
    for signal, depth in zip(signals, depths, strict=True):
        flux -= depth * (np.abs(phases(time, signal)[0]) < signal.duration / 2)
    return level * flux


def write(
    path, time, flux, *, primary=(), table=(), quality=None, column="PDCSAP_FLUX", unit="e-/s", time_unit=None, more=()
):
    """A light curve as the archives write it; `primary` and `table` are header cards as a dict or pairs."""
    columns = [fits.Column("TIME", "D", array=time, unit=time_unit), fits.Column(column, "E", array=flux, unit=unit)]
    if quality is not None:
        columns.append(fits.Column("SAP_QUALITY" if "SAP" in column else "QUALITY", "J", array=quality))
    columns += [fits.Column(name, form, array=array) for name, form, array in more]
    head, body = fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    for header, cards in ((head.header, primary), (body.header, table)):
        for key, value in dict(cards).items():
            header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([head, body]).writeto(path)
    return path


KEPLER = {"MISSION": "Kepler", "TELESCOP": "Kepler", "QUARTER": 3}
TESS = {"TELESCOP": "TESS", "SECTOR": 12}
K2 = {"MISSION": "K2", "TELESCOP": "Kepler", "CAMPAIGN": 5}


def kepler(path, star, time, flux, **changes):
    """A Kepler long-cadence file."""
    primary = KEPLER | {"OBJECT": f"KIC {star}", "KEPLERID": star}
    return write(path, time, flux, primary=primary, table={"BJDREFI": BKJD, "BJDREFF": 0.0}, **changes)
