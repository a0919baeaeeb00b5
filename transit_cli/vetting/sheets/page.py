"""vetting.html: a table of all signals that sorts and filters, and one sheet per signal, in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from transit_cli.plotting import html
from transit_cli.vetting.candidates.disposition import DISPOSITIONS
from transit_cli.vetting.sheets import sheet
from transit_cli.vetting.sheets.script import SCRIPT

STYLE = """
body { max-width: 96rem; }
#signals td { vertical-align: middle; } svg.thumb { width: 5rem; height: 2rem; }
#signals td:first-child { min-width: 5rem; } #signals td.why { white-space: normal; min-width: 16rem; }
details.sheet { border-top: 2px solid var(--line); padding: .4rem 0; content-visibility: auto;
  contain-intrinsic-size: auto 2.6rem; }
details.sheet > summary { cursor: pointer; font-size: 1.05rem; padding: .3rem 0; }
details.sheet h3 { font-size: 1rem; margin: 1rem 0 .2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .6rem; }
.numbers { display: grid; grid-template-columns: minmax(20rem, 2fr) 5fr; gap: 0 1.5rem; }
.numbers td { white-space: normal; overflow-wrap: normal; padding-right: .6rem; }
.numbers > div { min-width: 0; }
.numbers table { width: 100%; } .numbers td:first-child { min-width: 0; }
.badge, td.tight { white-space: nowrap !important; }
@media (max-width: 92rem) { .narrow { display: none; } }
.numbers td.found { min-width: 14rem; }
@media (max-width: 60rem) { .numbers { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 45rem) {
  #signals td.why { min-width: 10rem; } svg.thumb { width: 3.6rem; }
}
@media print {
  @page { size: A4; margin: 9mm; }
  body { font-size: 7.4pt; padding: 0; } .filters, th button::after { display: none; }
  body:has(details.sheet[open]) > :not(.sheets), .sheets > h2, details.sheet:not([open]) { display: none; }
  details.sheet { break-inside: avoid; border: 0; padding: 0; content-visibility: visible; zoom: .93; }
  details.sheet + details.sheet[open] { break-before: page; } details.sheet > summary { list-style: none; }
  .pictures { grid-template-columns: repeat(3, 1fr); gap: 1mm; }
  .numbers { grid-template-columns: 2fr 7fr; gap: 0 3mm; } .numbers td.found { min-width: 0; }
  details.sheet > summary { font-size: 9pt; padding: 0; } .numbers td { padding-right: 1.5mm; } h1 { font-size: 12pt; }
  figure { padding: .5mm; } figcaption { padding: 0; font-size: 6.6pt; }
  table { font-size: 6pt; margin: .5mm 0; } .scroll { overflow: visible; }
  td, th { padding: .1mm 1mm .1mm 0; line-height: 1.15; } .badge { padding: 0 1mm; border-width: 1px; }
  h3, p { margin: .4mm 0; }
}
"""
#: Columns of the table: title, class and whether the cells are numbers.
COLUMNS = (
    ("transit", "", False),
    ("signal", "", False),
    ("verdict", "", False),
    ("network", "", True),
    ("period (d)", "", True),
    ("depth (ppm)", "", True),
    ("duration (h)", "narrow", True),
    ("S/N", "", True),
    ("transits", "narrow", True),
    ("radius (R⊕)", "narrow", True),
    ("because", "", False),
)


@dataclass(frozen=True)
class About:
    """Where the signals are from, and the network."""

    catalog: str
    light_curves: str
    network: str
    trained_on: str


def page(rows: Callable[[], Iterable[tuple[dict[str, Any], str, str]]], about: About) -> Iterator[str]:
    """The document, piece by piece.

    Args:
        rows: gives every signal with its plots and its thumbnail; called three times.
        about: the input.
    """
    counts = Counter(row["disposition"] for row, _, _ in rows())
    total = sum(counts.values())
    yield html.opening("Vetting", STYLE)
    yield f"<h1>Vetting of {total:,} signals</h1>"
    lines = (
        f"Signals: {about.catalog}. Light curves: {about.light_curves}.",
        (
            f"Network: {about.network}, trained on {about.trained_on}. Its probability is shown beside the classical "
            "tests and does not enter the verdict."
        ),
    )
    yield "".join(f'<p class="dim">{escape(line)}</p>' for line in lines)
    explained = {
        "PC": "no test failed",
        "FP": "an eclipse, but not of a planet here",
        "FA": "no transit",
        "": "see the reason",
    }
    yield html.cards_of([(name, f"{counts[code]:,}", explained[code]) for code, name in DISPOSITIONS.items()])
    yield _filters()
    yield '<div class="scroll" tabindex="0" role="group" aria-label="signals">'
    yield '<table id="signals" class="sorts"><thead><tr>'
    for title, kind, _ in COLUMNS:
        head = f'<button type="button">{escape(title)}</button>' if title != "transit" else escape(title)
        yield f'<th scope="col" class="{kind}">{head}</th>'
    yield "</tr></thead><tbody>"
    for number, (row, _, small) in enumerate(rows()):
        yield _line(number, row, small)
    yield '</tbody></table></div><div class="sheets"><h2>Sheets</h2>'
    for number, (row, picture, _) in enumerate(rows()):
        yield sheet.sheet(f"s{number}", row, picture)
    yield f"</div>{html.closing(SCRIPT)}"


def _filters() -> str:
    options = "".join(
        f'<option value="{code or "none"}">{escape(name)}</option>' for code, name in DISPOSITIONS.items()
    )
    return (
        '<form class="filters" id="filters"><label>text<input type="search" id="text" placeholder="star or reason">'
        f'</label><label>verdict<select id="verdict"><option value="">all</option>{options}</select></label>'
        '<label>S/N from<input type="number" id="snr" min="0" step="any" size="5"></label>'
        '<label>network from<input type="number" id="network" min="0" max="1" step="any" size="5"></label>'
        '<button type="reset">clear</button><span id="count" role="status" class="dim"></span></form>'
    )


def _line(number: int, row: dict[str, Any], small: str) -> str:
    measured, given = row["measured"], row["catalog"]
    name = escape(f"{row['star']} {row['signal']}".strip() or f"row {number + 1}")
    probability = next(iter(row.get("probabilities", {}).values()), (None,))[0]
    values = (
        probability,
        measured.get("period_days", given["period_days"]),
        measured.get("depth_ppm", given["depth_ppm"]),
        measured.get("duration_hours", given["duration_hours"]),
        measured.get("snr"),
        measured.get("transits"),
        measured.get("radius_earth"),
    )
    digits = (".3f", ".6g", ",.0f", ".2f", ".1f", ".0f", ".1f")
    kinds = [kind for _, kind, numeric in COLUMNS if numeric]
    cells = "".join(
        f'<td class="{kind}" data-v="{value}">{value:{form}}</td>'
        if value is not None and value == value  # noqa: PLR0124 - NaN
        else f'<td class="{kind}">-</td>'
        for value, form, kind in zip(values, digits, kinds, strict=True)
    )
    code = row["disposition"]
    first = escape(row["reasons"][0]) if row["reasons"] else ""
    more = f" (+{len(row['reasons']) - 1})" if len(row["reasons"]) > 1 else ""
    return (
        f'<tr data-code="{code or "none"}"><td>{small}</td>'
        f'<td data-v="{name}"><a href="#s{number}">{name}</a></td>'
        f'<td data-v="{code or "Z"}">{sheet.disposition_badge(code)}</td>'
        f'{cells}<td class="why" data-v="{first}">{first}{more}</td></tr>'
    )
