"""Plots as SVG, written here so that a report needs no other file and no script. All text is escaped."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 240, 44, 34, 26
_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")

type Series = Sequence[tuple[str, Sequence[float]]]
"""Names, and values from 0 to 1."""


def bars(title: str, groups: Sequence[str], series: Series) -> str:
    """Groups of bars, one for each series, on a scale from 0 to 1."""
    room = (_WIDTH - _LEFT) / max(len(groups), 1)
    width = room * 0.8 / max(len(series), 1)
    parts = []
    for number, (name, values) in enumerate(series):
        for group, value in enumerate(values):
            x = _LEFT + group * room + room * 0.1 + number * width
            parts.append(
                f'<rect x="{x:.1f}" y="{_y(value):.1f}" width="{width * 0.92:.1f}" height="{_y(0) - _y(value):.1f}" '
                f'fill="{_colour(number)}"><title>{escape(name)}: {value:.3f}</title></rect>'
                f'<text x="{x + width * 0.46:.1f}" y="{_y(value) - 3:.1f}" class="v">{value:.2f}</text>'
            )
    for group, name in enumerate(groups):
        x = _LEFT + (group + 0.5) * room
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" class="c">{escape(name)}</text>')
    return _figure(title, [name for name, _ in series], parts)


def curves(title: str, series: Series, *, bottom: str) -> str:
    """Each series' values, sorted: what share of the queries scores at most so much."""
    parts = []
    for number, (_, values) in enumerate(series):
        ordered = sorted(values)
        step = (_WIDTH - _LEFT - 10) / max(len(ordered) - 1, 1)
        points = " ".join(f"{_LEFT + place * step:.1f},{_y(value):.1f}" for place, value in enumerate(ordered))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="2"/>')
    parts.append(f'<text x="{(_WIDTH + _LEFT) / 2}" y="{_HEIGHT - _BOTTOM + 16}" class="c">{escape(bottom)}</text>')
    return _figure(title, [name for name, _ in series], parts)


def _y(value: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(max(value, 0.0), 1.0))


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _figure(title: str, names: Sequence[str], parts: Sequence[str]) -> str:
    grid = [
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(value):.1f}" y2="{_y(value):.1f}" class="g"/>'
        f'<text x="{_LEFT - 6}" y="{_y(value) + 4:.1f}" class="s">{value:.2f}</text>'
        for value in (0, 0.25, 0.5, 0.75, 1)
    ]
    legend = [
        f'<rect x="{_LEFT + place * 150}" y="{_HEIGHT - 11}" width="10" height="10" fill="{_colour(place)}"/>'
        f'<text x="{_LEFT + place * 150 + 14}" y="{_HEIGHT - 2}">{escape(name)}</text>'
        for place, name in enumerate(names)
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text x="{_LEFT}" y="14" class="t">{escape(title)}</text>{"".join([*grid, *parts, *legend])}</svg>'
    )
