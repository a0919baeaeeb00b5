"""One signal's sheet: verdict, numbers with errors, tests and plots, as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from transit_cli.plotting import html
from transit_cli.results import Table
from transit_cli.vetting.candidates.disposition import DISPOSITIONS

#: The frame of a disposition's badge, and of a test's verdict.
FRAMES = {"PC": "good", "FP": "bad", "FA": "bad", "": "none"}
VERDICTS = {"pass": "good", "warn": "doubt", "fail": "bad", "not made": "none"}
#: Rows of the table of numbers: title, key, key of the error, digits after the point, unit.
NUMBERS = (
    ("period", "period_days", "period_error_days", "d"),
    ("epoch", "epoch_days", "epoch_error_days", "d"),
    ("duration", "duration_hours", "duration_error_hours", "h"),
    ("depth", "depth_ppm", "depth_error_ppm", "ppm"),
    ("Rp/R*", "radius_ratio", "radius_ratio_error", ""),
    ("impact parameter", "impact", "impact_error", ""),
    ("planet radius", "radius_earth", "radius_error_earth", "R⊕"),
    ("S/N", "snr", "", ""),
    ("observed transits", "transits", "", ""),
    ("dip off the catalog's epoch", "epoch_offset_hours", "", "h"),
    ("noise in one duration", "noise_ppm_per_duration", "", "ppm"),
    ("a/R*", "a_over_rstar", "", ""),
    ("equilibrium temperature", "equilibrium_temperature_k", "", "K"),
)


def disposition_badge(code: str) -> str:
    """A disposition as a framed word."""
    return html.badge(DISPOSITIONS[code], FRAMES[code])


def sheet(anchor: str, row: Mapping[str, Any], pictures: str) -> str:
    """The sheet of a signal, closed; a signal without tests has its reason only."""
    name = escape(f"{row['star']} {row['signal']}".strip())
    period = row["measured"].get("period_days", row["catalog"]["period_days"])
    facts = f"P = {period:.6g} d" if _known(period) else ""
    parts = [
        (
            f'<details class="sheet" id="{anchor}"><summary><b>{name}</b> '
            f"{disposition_badge(row['disposition'])} {facts}{_probabilities(row)}</summary>"
        ),
        _sentences("Because" if row["disposition"] != "PC" else "Worth a look", row["reasons"]),
        _sentences("Warnings", row["warnings"]),
        _sentences("Notes of the readers", row.get("notes", ())),
    ]
    later = f'<div class="pictures">{pictures}</div>' if pictures else ""
    if row["tests"]:
        later += f'<div class="numbers"><div>{_numbers(row)}</div><div>{_tests(row["tests"])}</div></div>'
    elif row["measured"] or _known(period):
        later += _numbers(row)
    # As text until the sheet is opened: the elements of hundreds of sheets would take the browser seconds.
    parts.append(f'<script type="text/html" class="later">{later}</script>' if later else "")
    return "".join(parts) + "</details>"


def _known(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _sentences(title: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f"<p><b>{title}:</b> " + "<br>".join(escape(text) for text in texts) + "</p>"


def _probabilities(row: Mapping[str, Any]) -> str:
    found = row.get("probabilities", {})
    shown = [f"{escape(name)} {value:.3f} ± {spread:.3f}" for name, (value, spread) in found.items()]
    why = escape(str(row.get("no_probability", "")))
    return f" · network: {', '.join(shown)}" if shown else f" · no network score{f' ({why})' if why else ''}"


def _numbers(row: Mapping[str, Any]) -> str:
    measured, star, given = row["measured"], row["star_properties"], row["catalog"]
    keys = {"period_days", "duration_hours", "depth_ppm"}
    rows = [
        (
            title,
            f"{value_with_error(measured.get(key), measured.get(error))} {unit}".strip(),
            _catalog(given, key, keys),
        )
        for title, key, error, unit in NUMBERS
        if _known(measured.get(key))
    ]
    if not measured.get("period_days"):
        rows += [
            (title, "-", _catalog(given, key, keys))
            for title, key, _, _ in NUMBERS
            if key in keys and _known(given.get(key))
        ]
    rows += [
        (title, f"{star[key]:.4g} {unit}".strip(), "")
        for title, key, unit in (("star's radius", "radius", "R☉"), ("log g", "logg", ""), ("Teff", "teff", "K"))
        if _known(star.get(key))
    ]
    system = measured.get("time_system", given.get("time_system", ""))
    note = f"Epoch in {system}. Star: {star['source']}." if star.get("source") else f"Epoch in {system}."
    return html.table(Table(("quantity", "measured", "catalog"), rows, "Numbers", note))


def _catalog(given: Mapping[str, Any], key: str, keys: set[str]) -> str:
    return f"{given[key]:.7g}" if key in keys and _known(given.get(key)) else ""


def value_with_error(value: float | None, error: float | None) -> str:
    """A value with its error, to two digits of the error: "3.52471 ± 0.00012"."""
    if not _known(value):
        return "-"
    assert value is not None
    if error is None or not _known(error) or error <= 0:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _tests(tests: Sequence[Mapping[str, Any]]) -> str:
    names = ("test", "verdict", "value", "limit", "found", "paper")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = "".join(
        f"<tr><td>{escape(test['title'])}</td><td>{html.badge(test['verdict'], VERDICTS[test['verdict']])}</td>"
        f'<td class="tight">{_value(test)}</td><td class="tight">{_limit(test)}</td>'
        f'<td class="found">{escape(test["reason"])}</td>'
        f'<td class="dim">{escape(test["paper"])}</td></tr>'
        for test in tests
    )
    return f"<p><b>Tests</b></p>{html.scrolling(f'<table><tr>{head}</tr>{lines}</table>', 'tests')}"


def _value(test: Mapping[str, Any]) -> str:
    return f"{test['value']:.3g}" if _known(test["value"]) else "-"


def _limit(test: Mapping[str, Any]) -> str:
    sign = "&lt;" if test["above"] else "&gt;"
    return f"{sign} {test['threshold']:.3g} {escape(test['unit'])}" if _known(test["threshold"]) else "-"
