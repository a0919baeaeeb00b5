"""HTML pages of one file: figures embedded, no network access, for small screens and dark mode too."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transit_cli.results import Table

STYLE = """
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
figure { margin: 0; padding: .5rem; background: #fff; color: #1c2430; border: 1px solid var(--line);
  border-radius: .5rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .85rem; padding: .25rem .4rem; color: #47505e; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
table { margin: .5rem 0 1rem; } td:first-child { white-space: normal; min-width: 8rem; }
pre { white-space: pre-wrap; padding: .7rem .9rem; background: var(--card); border-radius: .5rem; }
figure.plain { background: var(--card); color: var(--ink); } figure.plain figcaption { color: var(--ink); }
.badge { display: inline-block; padding: 0 .5rem; border-radius: .6rem; border: 2px solid; font-weight: 600; }
.badge.good { border-color: #009e73; } .badge.bad { border-color: #d55e00; border-style: dashed; }
.badge.doubt { border-color: #b58900; border-style: dotted; } .badge.none { border-color: var(--line); }
a { color: inherit; } a:focus-visible, button:focus-visible, summary:focus-visible { outline: 3px solid #0072b2; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button::after { content: " \\2195"; color: var(--dim); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: var(--ink); }
th[aria-sort=descending] button::after { content: " \\2193"; color: var(--ink); }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: 1rem 0; }
.filters label { font-size: .85rem; color: var(--dim); } .filters input, .filters select, .filters button {
  display: block; font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: .35rem; padding: .3rem .5rem; max-width: 100%; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A section of a page, shown in the order of its fields. Texts are plain and are escaped.

    Attributes:
        title: heading; "" for none.
        text: paragraphs.
        tables: the tables.
        plots: pairs of an SVG element and a caption.
        wide: use fewer, wider columns for the plots.
        code: preformatted text.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[tuple[str, str]] = ()
    wide: bool = False
    code: str = ""


def page(
    title: str,
    about: Sequence[str],
    sections: Sequence[Section],
    *,
    cards: Sequence[tuple[str, str, str]] = (),
    warning: str = "",
    style: str = "",
) -> str:
    """An HTML document.

    Args:
        title: heading of the page.
        about: lines below the heading.
        sections: the content.
        cards: key figures above the sections: name, value, text below the value.
        warning: text of the warning banner; "" for none.
        style: rules besides those that all pages share.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f'<p class="dim">{escape(line)}</p>' for line in about)]
    if warning:
        parts.append(f'<p class="note">{escape(warning)}</p>')
    parts.append(cards_of(cards))
    parts += [_section(section) for section in sections]
    return opening(title, style) + "\n".join(parts) + closing()


def opening(title: str, style: str = "") -> str:
    """The beginning of a document, up to the content of its body.

    Args:
        title: of the document.
        style: rules besides those that all pages share.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
    )


def closing(script: str = "") -> str:
    """The end of a document, with a script of its own if one is given."""
    return (f"\n<script>{script}</script>" if script else "") + "\n</body></html>\n"


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
    parts += [table(item) for item in section.tables]
    if section.plots:
        figures = "".join(
            f"<figure>{_described(svg, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
            for svg, caption in section.plots
        )
        parts.append(f'<div class="plots{" wide" if section.wide else ""}">{figures}</div>')
    if section.code:
        parts.append(f"<pre>{escape(section.code)}</pre>")
    return f"<section>{''.join(parts)}</section>"


def _described(svg: str, caption: str) -> str:
    """An SVG element with its caption for screen readers."""
    if not caption or 'role="img"' in svg:
        return svg
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)


def table(content: Table) -> str:
    """A table as HTML, with its title above and its note below."""
    head = "".join(f"<th>{escape(name)}</th>" for name in content.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in content.rows)
    note = f'<p class="dim">{escape(content.note)}</p>' if content.note else ""
    title = f"<p><b>{escape(content.title)}</b></p>" if content.title else ""
    return f'{title}<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{note}'
