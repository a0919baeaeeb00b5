"""Panels as inline SVG, written directly: a hundred times as fast as matplotlib, small, and in the colours of the page.

Coordinates are whole numbers. Points are lines of length 0 with round ends, all in one path, so that a page of hundreds
of plots has few elements.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from transit_cli.plotting.panel import COLOURS

if TYPE_CHECKING:
    from transit_cli.plotting.panel import Panel, Series

#: Sizes in units of the drawing; a panel is 360 wide where a page shows it at 360 pixels.
WIDTH, WIDE, HEIGHT = 3600, 11000, 2200
LEFT, RIGHT, TOP, BOTTOM = 620, 60, 60, 400
#: Diameters of points.
SIZES = {1: 22, 2: 44, 3: 64}
#: Styles of all drawings; a page has them once.
STYLE = (
    """
svg.panel { display: block; width: 100%; height: auto; font: 118px system-ui, sans-serif; fill: var(--ink); }
svg.panel .frame { fill: none; stroke: var(--dim); stroke-width: 8; }
svg.panel .tick { stroke: var(--dim); stroke-width: 8; } svg.panel .band { fill: var(--line); opacity: .5; }
svg.panel .rule { stroke: var(--dim); stroke-width: 9; stroke-dasharray: 20 40; fill: none; }
svg.panel path.p { stroke-linecap: round; } svg.panel path { fill: none; }
svg.panel path.d { stroke-dasharray: 90 50; }
svg.panel path.l { stroke-linejoin: round; }
"""
    + "\n".join(f"svg.panel .{name} {{ stroke: {colour}; }}" for name, colour in COLOURS.items())
    + """
@media screen and (prefers-color-scheme: dark) {
  svg.panel .first { stroke: #56b4e9; } svg.panel .second { stroke: #e69f00; }
}
"""
)


def svg(panel: Panel) -> str:
    """A panel as an SVG element with a title for screen readers."""
    width = WIDE if panel.wide else WIDTH
    across, down = width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[n, 2] whole coordinates; values beyond the limits lie a little beyond the frame's edge."""
        (x0, x1), (y0, y1) = panel.xlim, panel.ylim
        at = np.stack([LEFT + (x - x0) / (x1 - x0) * across, TOP + (y1 - y) / (y1 - y0) * down], 1)
        return np.clip(np.nan_to_num(at), [LEFT - 50, TOP - 50], [LEFT + across + 50, TOP + down + 50]).astype(int)

    parts = [
        f'<svg class="panel" role="img" viewBox="0 0 {width} {HEIGHT}"><title>{escape(panel.alt)}</title>',
        *(_band(*place(np.array(band), np.array(panel.ylim[::-1])).ravel()) for band in panel.bands),
    ]
    for x in panel.lines:
        (column, _), *_ = place(np.array([x]), np.array([panel.ylim[0]]))
        parts.append(f'<path class="rule" d="M{column} {TOP}v{down}"/>')
    for series in panel.series:
        inside = (series.x >= panel.xlim[0]) & (series.x <= panel.xlim[1]) & np.isfinite(series.y)
        if inside.any():
            parts.append(_series(series, inside, place))
    marks = place(np.array(panel.marks, float), np.full(len(panel.marks), panel.ylim[0]))
    triangles = "".join(f"M{x} {y - 90}l-45 90h90z" for x, y in marks if LEFT <= x <= LEFT + across)
    parts.append(f'<path class="second l" stroke-width="20" d="{triangles}"/>' if triangles else "")
    parts += [_frame(panel, across, down), _legend(panel), "</svg>"]
    return "".join(parts)


def _band(x0: int, y0: int, x1: int, y1: int) -> str:
    return f'<rect class="band" x="{x0}" y="{min(y0, y1)}" width="{max(x1 - x0, 1)}" height="{abs(y1 - y0)}"/>'


def _series(series: Series, inside: np.ndarray, place: object) -> str:
    at = place(series.x[inside], series.y[inside])  # type: ignore[operator]
    if series.kind in {"line", "dashed"}:
        style = "l d" if series.kind == "dashed" else "l"
        steps = "L".join(f"{x} {y}" for x, y in at)
        return f'<path class="{style} {series.colour}" stroke-width="{16 + 6 * series.size}" d="M{steps}"/>'
    path = "".join(f"M{x} {y}h0" for x, y in at)
    drawn = f'<path class="p {series.colour}" stroke-width="{SIZES[series.size]}" d="{path}"/>'
    if series.kind == "errors" and series.errors is not None:
        errors = series.errors[inside]
        low = place(series.x[inside], series.y[inside] - errors)  # type: ignore[operator]
        high = place(series.x[inside], series.y[inside] + errors)  # type: ignore[operator]
        bars = "".join(f"M{x} {y}V{top}" for (x, y), (_, top) in zip(low, high, strict=True))
        drawn += f'<path class="l {series.colour}" stroke-width="16" d="{bars}"/>'
    return drawn


def _frame(panel: Panel, across: int, down: int) -> str:
    parts = [f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{across}" height="{down}"/>']
    ticks = ""
    for value, label in zip(*nice_ticks(*panel.xlim, 9 if panel.wide else 5), strict=True):
        x = int(LEFT + (value - panel.xlim[0]) / (panel.xlim[1] - panel.xlim[0]) * across)
        ticks += f"M{x} {TOP + down}v40"
        parts.append(f'<text x="{x}" y="{TOP + down + 165}" text-anchor="middle">{label}</text>')
    for value, label in zip(*nice_ticks(*panel.ylim, 4), strict=True):
        y = int(TOP + (panel.ylim[1] - value) / (panel.ylim[1] - panel.ylim[0]) * down)
        ticks += f"M{LEFT} {y}h-40"
        parts.append(f'<text x="{LEFT - 60}" y="{y + 40}" text-anchor="end">{label}</text>')
    parts.append(f'<path class="tick" d="{ticks}"/>')
    middle = LEFT + across // 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 40}" text-anchor="middle">{escape(panel.xlabel)}</text>')
    turn = f'transform="translate(120 {TOP + down // 2}) rotate(-90)"'
    parts.append(f'<text {turn} text-anchor="middle">{escape(panel.ylabel)}</text>')
    return "".join(parts)


def _legend(panel: Panel) -> str:
    named = [series for series in panel.series if series.label]
    x = LEFT + 80
    parts: list[str] = []
    for series in named:
        mark = "h110" if series.kind in {"line", "dashed"} else "m55 0h0"
        size = 24 if series.kind in {"line", "dashed"} else 64
        style = "d" if series.kind == "dashed" else "p"
        parts.append(f'<path class="{style} {series.colour}" stroke-width="{size}" d="M{x} {TOP + 100}{mark}"/>')
        parts.append(f'<text x="{x + 150}" y="{TOP + 140}">{escape(series.label)}</text>')
        x += 260 + 62 * len(series.label)
    return "".join(parts)


def nice_ticks(low: float, high: float, count: int) -> tuple[list[float], list[str]]:
    """About `count` round numbers between two limits, with their labels."""
    span = high - low
    if not np.isfinite(span) or span <= 0:
        return [], []
    raw = span / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next((factor for factor in (1, 2, 5) if factor * power >= raw), 10)
    values = step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    return [float(value) for value in values], [f"{value + 0.0:.{decimals}f}" for value in values.round(decimals)]


def thumbnail(y: np.ndarray, alt: str) -> str:
    """A small line without axes, for a table.

    Args:
        y: [n] evenly spaced values.
        alt: what it shows.
    """
    known = np.nan_to_num(y, nan=float(np.nanmedian(y)) if np.isfinite(y).any() else 0.0)
    low, high = float(known.min()), float(known.max())
    place = 380 - 360 * (known - low) / (high - low or 1)
    points = "L".join(
        f"{x} {int(value)}" for x, value in zip(np.linspace(10, 990, len(y)).astype(int), place, strict=True)
    )
    return (
        f'<svg class="panel thumb" role="img" viewBox="0 0 1000 400"><title>{escape(alt)}</title>'
        f'<path class="l first" stroke-width="22" d="M{points}"/></svg>'
    )
