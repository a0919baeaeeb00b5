"""Properties of the stars in a catalog of signals: radius, surface gravity, temperature and magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transit_cli.data.catalogs.tables import read_table_file
from transit_cli.data.catalogs.vocabulary import plain
from transit_cli.data.starlight.properties import StarProperties

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Names of columns, without case and signs (NASA Exoplanet Archive: TOI, KOI, PS and TCE tables; ExoFOP).
COLUMNS = {
    "radius": ("st rad", "koi srad", "tce sradius", "stellar radius r sun", "star radius"),
    "radius_error": ("st raderr1", "koi srad err1", "tce sradius err"),
    "logg": ("st logg", "koi slogg", "tce slogg", "stellar log g cm s 2"),
    "logg_error": ("st loggerr1", "koi slogg err1", "tce slogg err"),
    "teff": ("st teff", "koi steff", "tce steff", "stellar eff temp k"),
    "tmag": ("st tmag", "tess mag", "koi kepmag", "sy tmag", "sy kepmag"),
}


def read(path: Path) -> list[StarProperties]:
    """The star of each row of a catalog; values that are missing or no numbers are NaN."""
    table = read_table_file(path)
    by_name = {plain(name): name for name in reversed(list(table.columns))}
    found: dict[str, Sequence[Any]] = {}
    for key, aliases in COLUMNS.items():
        name = next((by_name[plain(alias)] for alias in aliases if plain(alias) in by_name), None)
        if name is not None:
            found[key] = table.columns[name]
    rows = []
    for row in range(len(table)):
        values = {key: _number(column[row]) for key, column in found.items()}
        known = any(np.isfinite(values.get(key, np.nan)) for key in ("radius", "logg"))
        rows.append(StarProperties(**values, source="catalog" if known else ""))
    return rows


def merged(catalog: StarProperties, header: StarProperties) -> StarProperties:
    """The catalog's values; those of the header where the catalog has none."""
    if not catalog.source:
        values = {key: value for key, value in vars(catalog).items() if key != "source" and np.isfinite(value)}
        return StarProperties(**(vars(header) | values))
    values = {
        key: value
        for key, value in vars(header).items()
        if key != "source" and not key.startswith(("radius", "logg")) and np.isnan(getattr(catalog, key))
    }
    return StarProperties(**(vars(catalog) | values))


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.nan
