"""HTML pages of one file: figures embedded, no network access, for small screens and dark mode too.

A page says when, by what and with which command it was made. Tables of five rows or more sort by a click on a heading.
"""

from __future__ import annotations

import datetime as dt
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from transit_cli import __version__
from transit_cli.plotting import svg
from transit_cli.plotting.page_script import SCRIPT

if TYPE_CHECKING:
    from transit_cli.results import Table

#: Rows from which a table can be sorted; characters from which the text of a cell is broken into lines.
SORTED, LONG = 5, 40
STYLE = (
    """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5b6472; --paper: #fff; --card: #f3f5f8; --line: #d6dbe3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --dim: #a3acba; --paper: #14181f; --card: #1e242e; --line: #39424f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; } .dim { color: var(--dim); }
.note { border-left: 4px solid #c2550c; padding: .5rem .8rem; background: var(--card); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.2; } .card span { color: var(--dim); font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .75rem; }
.plots.wide { grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; padding: .5rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
figure.wide { grid-column: 1 / -1; }
.pair { display: grid; grid-template-columns: 1fr 1fr; } figcaption { font-size: .85rem; padding: .25rem .4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
table { margin: .5rem 0 1rem; } td:first-child { white-space: normal; min-width: 8rem; }
td.long { white-space: normal; min-width: 16rem; }
pre { white-space: pre-wrap; padding: .7rem .9rem; background: var(--card); border-radius: .5rem; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .5rem; font-size: .85rem; }
code { font-size: .95em; }
.badge { display: inline-block; padding: 0 .5rem; border-radius: .6rem; border: 2px solid; font-weight: 600; }
.badge.good { border-color: #009e73; } .badge.bad { border-color: #d55e00; border-style: dashed; }
.badge.doubt { border-color: #b58900; border-style: dotted; } .badge.none { border-color: var(--line); }
a { color: inherit; } a:focus-visible, button:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid #0072b2; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button::after { content: " \\2195"; color: var(--dim); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--ink); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--ink); }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: 1rem 0; }
.filters label { font-size: .85rem; color: var(--dim); } .filters input, .filters select, .filters button {
  display: block; font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: .35rem; padding: .3rem .5rem; max-width: 100%; }
@media (max-width: 45rem) { figure.wide svg { width: 52rem; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } .filters, th button::after { display: none; } }
"""
    + svg.STYLE
)


@dataclass(frozen=True)
class Section:
    """A section of a page, shown in the order of its fields. Texts are plain and are escaped.

    Attributes:
        title: heading; "" for none.
        text: paragraphs.
        tables: the tables.
        plots: pairs of an SVG element, or two of them to show side by side, and a caption.
        wide: use fewer, wider columns for the plots.
        code: preformatted text.
        badges: frames of cells with these texts; see `badge`.
        search: the tables have a search by text, and a choice of the values of each of these columns.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[tuple[str, str]] = ()
    wide: bool = False
    code: str = ""
    badges: Mapping[str, str] = field(default_factory=dict)
    search: Sequence[str] | None = None


def page(
    title: str,
    about: Sequence[str],
    sections: Sequence[Section],
    *,
    cards: Sequence[tuple[str, str, str]] = (),
    warning: str = "",
    wide: bool = False,
) -> str:
    """An HTML document.

    Args:
        title: heading of the page.
        about: lines below the heading.
        sections: the content.
        cards: key figures above the sections: name, value, text below the value.
        warning: text of the warning banner; "" for none.
        wide: use a large screen, for tables of many columns.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f'<p class="dim">{escape(line)}</p>' for line in about)]
    if warning:
        parts.append(f'<p class="note">{escape(warning)}</p>')
    parts.append(cards_of(cards))
    parts += [_section(section) for section in sections]
    return opening(title, "body { max-width: 96rem; }" if wide else "") + "\n".join(parts) + closing()


def opening(title: str, style: str = "") -> str:
    """The beginning of a document, up to the content of its body.

    Args:
        title: of the document.
        style: rules besides those that all pages share.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n<main>\n"
    )


def closing(script: str = "") -> str:
    """The end of a document: how it was made, and the scripts.

    Args:
        script: of this page, after the one that all pages share.
    """
    return (
        f"\n</main>\n<footer>{''.join(f'<p>{line}</p>' for line in _made())}</footer>"
        f"\n<script>{SCRIPT}{script}</script>\n</body></html>\n"
    )


def _made() -> list[str]:
    """When, by what and with which command a page was made, as HTML."""
    versions = f"transit {__version__}, torch {metadata.version('torch')}, Python {platform.python_version()}"
    lines = [escape(f"Written on {dt.datetime.now(dt.UTC):%Y-%m-%d at %H:%M} UTC by {versions}.")]
    if Path(sys.argv[0]).name in {"transit", "__main__.py"}:
        lines.append(f"Command: <code>{escape(shlex.join(['transit', *sys.argv[1:]]))}</code>")
    return lines


def cards_of(items: Sequence[tuple[str, str, str]]) -> str:
    """Key figures: name, value and text below the value of each."""
    shown = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for name, value, below in items
    )
    return f'<div class="cards">{shown}</div>' if shown else ""


def badge(text: str, kind: str) -> str:
    """A framed word.

    Args:
        text: the word.
        kind: "good", "bad", "doubt" or "none"; frames differ in style as well as in colour.
    """
    return f'<span class="badge {kind}">{escape(text)}</span>'


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"] if section.title else []
    parts += [f"<p>{escape(text)}</p>" for text in section.text]
    for item in section.tables:
        if section.search is not None and len(item.rows) >= SORTED:
            parts.append(_search(item, section.search))
        parts.append(table(item, section.badges))
    if section.plots:
        figures = "".join(figure(drawn, caption) for drawn, caption in section.plots)
        parts.append(f'<div class="plots{" wide" if section.wide else ""}">{figures}</div>')
    if section.code:
        parts.append(f"<pre>{escape(section.code)}</pre>")
    return f"<section>{''.join(parts)}</section>"


def figure(drawn: str, caption: str) -> str:
    """A plot with its caption; a wide one takes a row of its own, and scrolls on a small screen."""
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    if svg.is_wide(drawn):
        return f'<figure class="wide">{above}{scrolling(drawn, caption or "plot")}</figure>'
    return f"<figure>{above}{f'<div class=pair>{drawn}</div>' if drawn.count('<svg') > 1 else drawn}</figure>"


def scrolling(content: str, name: str) -> str:
    """A part that scrolls sideways, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(name)}">{content}</div>'


def _search(content: Table, columns: Sequence[str]) -> str:
    """A form that hides rows of the table after it."""
    choices = ""
    for name in columns:
        place = list(content.columns).index(name)
        values = dict.fromkeys(str(row[place]) for row in content.rows)
        options = "".join(f"<option>{escape(value)}</option>" for value in values if value)
        choices += f'<label>{escape(name)}<select data-column="{place}"><option value="">all</option>{options}</select>'
        choices += "</label>"
    return (
        f'<form class="filters search"><label>text<input type="search"></label>{choices}'
        '<button type="reset">clear</button><span role="status" class="dim"></span></form>'
    )


def table(content: Table, badges: Mapping[str, str] | None = None) -> str:
    """A table as HTML, with its title above and its note below.

    Args:
        content: the table.
        badges: frames of cells with these texts.
    """
    sorts = len(content.rows) >= SORTED and len(content.columns) > 2
    head = "".join(_heading(name, sorts) for name in content.columns)
    rows = "".join("<tr>" + "".join(_cell(str(cell), badges or {}) for cell in row) + "</tr>" for row in content.rows)
    note = f'<p class="dim">{escape(content.note)}</p>' if content.note else ""
    title = f"<p><b>{escape(content.title)}</b></p>" if content.title else ""
    name = content.title or ", ".join(filter(None, content.columns))
    drawn = f"<table{' class=sorts' if sorts else ''}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"{title}{scrolling(drawn, f'table: {name}')}{note}"


def _heading(name: str, sorts: bool) -> str:
    if not name:
        return "<td></td>"
    return f'<th scope="col">{f"<button type=button>{escape(name)}</button>" if sorts else escape(name)}</th>'


def _cell(text: str, badges: Mapping[str, str]) -> str:
    if text in badges:
        return f"<td>{badge(text, badges[text])}</td>"
    return f"<td{' class=long' if len(text) > LONG else ''}>{escape(text)}</td>"
