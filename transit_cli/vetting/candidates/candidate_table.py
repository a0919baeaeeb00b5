"""candidates.csv: values and errors in the columns of the NASA Exoplanet Archive's TOI table, and the verdicts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Columns with the name of the TOI table, and what they hold: a measured value, its error, or a star's property.
TOI_COLUMNS = {
    "pl_tranmid": "epoch_bjd",
    "pl_orbper": "period_days",
    "pl_trandurh": "duration_hours",
    "pl_trandep": "depth_ppm",
    "pl_rade": "radius_earth",
    "pl_insol": "insolation_earth",
    "pl_eqt": "equilibrium_temperature_k",
}
ERRORS = {
    "pl_tranmid": "epoch_error_days",
    "pl_orbper": "period_error_days",
    "pl_trandurh": "duration_error_hours",
    "pl_trandep": "depth_error_ppm",
    "pl_rade": "radius_error_earth",
}
STAR_COLUMNS = {"st_tmag": "tmag", "st_teff": "teff", "st_logg": "logg", "st_rad": "radius"}
#: Names of the tests, in the order of their columns.
TESTS = (
    *("odd_even", "secondary", "shape", "depth_consistency", "uniqueness", "sine_wave", "centroid"),
    *("aperture_depth", "period_alias", "gaps", "segments", "duration", "radius"),
)


def columns() -> list[str]:
    """The header."""
    names = ["star", "toi", "tid", "mission", "disposition"]
    for name in TOI_COLUMNS:
        names += [name, f"{name}err1", f"{name}err2"] if name in ERRORS else [name]
    names += [*STAR_COLUMNS, "snr", "transits", "radius_ratio", "radius_ratio_error", "impact", "impact_error"]
    names += ["probability", "probability_spread", "probability_of"]
    for test in TESTS:
        names += [f"{test}_verdict", f"{test}_value"]
    return [*names, "catalog_label", "catalog_period_days", "reasons", "warnings", "source"]


def line(row: Mapping[str, Any]) -> str:
    """One signal as a line of CSV; unknown values are empty."""
    measured, star = row["measured"], row["star_properties"]
    number = row["star"].partition(" ")
    cells: dict[str, Any] = {
        "star": row["star"],
        "toi": row["signal"],
        "tid": number[2] if number[0] == "TIC" else "",
        "mission": row["mission"],
        "disposition": row["disposition"],
    }
    for name, key in TOI_COLUMNS.items():
        cells[name] = _digits(measured.get(key), 12 if name in {"pl_tranmid", "pl_orbper"} else 6)
        if name in ERRORS:
            error = _digits(measured.get(ERRORS[name]), 3)
            cells |= {f"{name}err1": error, f"{name}err2": f"-{error}" if error else ""}
    cells |= {name: _digits(star.get(key), 6) for name, key in STAR_COLUMNS.items()}
    for name in ("snr", "transits", "radius_ratio", "radius_ratio_error", "impact", "impact_error"):
        cells[name] = _digits(measured.get(name), 5)
    for label, (value, spread) in row.get("probabilities", {}).items():
        cells |= {"probability": f"{value:.5f}", "probability_spread": f"{spread:.5f}", "probability_of": label}
        break
    for test in row["tests"]:
        cells |= {f"{test['name']}_verdict": test["verdict"], f"{test['name']}_value": _digits(test["value"], 5)}
    cells |= {
        "catalog_label": row["label"],
        "catalog_period_days": _digits(row["catalog"]["period_days"], 10),
        "reasons": " | ".join(row["reasons"]),
        "warnings": " | ".join(row["warnings"]),
        "source": row.get("source", ""),
    }
    return text([cells.get(name, "") for name in columns()])


def text(cells: Sequence[Any]) -> str:
    """Cells as a line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"
