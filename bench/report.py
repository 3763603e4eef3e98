"""Write docs/benchmarks.md and a plot for each benchmark from the results."""

from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from bench.harness import RESULTS, ROOT, Goal, Result, Series

PAGE = ROOT / "docs" / "benchmarks.md"
_SEARCH = ("tenant-recall", "tenant-latency", "isolation-tax", "tail-ingest", "cost", "lexical", "hybrid")
_ORDER = (
    "chunk",
    "chunk-tokens",
    "loop-lag",
    "insert",
    "ingest-e2e",
    "embed",
    "ingest-memory",
    "enumeration",
    *_SEARCH,
    "stream-cpu",
    "ttft",
    "login-storm",
    "beside-streams",
)
_HEAD = """# Benchmarks

Written by `make bench` from the files in [bench/results](../bench/results/); change those, not this page.

Contestants take turns, round by round, on the same machine. Figures are medians over the rounds; a ratio is the median
of the ratios within each round. Absolute figures are one machine's; the ratios are what is to be compared.
"""
_WIDTH = 760
_LABELS = 330
_BAR = 18
_ROW = 26


def write(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page, and `<benchmark>.svg` beside each result."""
    found = load(results)
    for result in found:
        (results / f"{result.benchmark}.svg").write_text(svg(result), encoding="utf-8")
    page.write_text(markdown(found), encoding="utf-8")


def load(results: Path = RESULTS) -> list[Result]:
    """The results there are, in the order of the page."""
    paths = [results / f"{name}.json" for name in _ORDER]
    return [Result.from_json(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def markdown(results: list[Result]) -> str:
    """The page."""
    return "\n".join([_HEAD, *map(_section, results)])


def _section(result: Result) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    parts = [
        f"## `{result.benchmark}`\n",
        f"`{result.command}` at {result.at}, commit `{result.commit}`; {machine}.\n",
        *(f"- {note}" for note in result.notes),
        f"\n![{result.benchmark}](../bench/results/{result.benchmark}.svg)\n",
        "| goal | wanted | measured | |\n|---|---|---|---|",
        *map(_goal_row, result.goals),
        "\n| what | who | median | rounds | least to most |\n|---|---|---|---|---|",
        *map(_series_row, result.series),
    ]
    return "\n".join(parts) + "\n"


def _goal_row(goal: Goal) -> str:
    sign = "≥" if goal.least else "≤"
    verdict = "met" if goal.met else "**not met**"
    return f"| {goal.text} | {sign} {goal.bound:g} | {number(goal.got)} | {verdict} |"


def _series_row(series: Series) -> str:
    spread = f"{number(min(series.values))} to {number(max(series.values))}"
    return (
        f"| {series.group} | {series.name} | {number(series.median)} {series.unit} | {len(series.values)} | {spread} |"
    )


def number(value: float) -> str:
    """Three digits that count, never in scientific form."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"


def svg(result: Result) -> str:
    """Bars of the medians, a block for each group with a scale of its own."""
    body: list[str] = []
    y = 8
    for group, members in groupby(result.series, key=lambda series: series.group):
        rows = list(members)
        body.append(f'<text x="8" y="{y + 16}" font-weight="bold">{escape(group)}, {escape(rows[0].unit)}</text>')
        y += _ROW
        largest = max(series.median for series in rows) or 1.0
        for series in rows:
            body += _bar(series, y, series.median / largest)
            y += _ROW
        y += 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" '
        'font-family="sans-serif" font-size="12" role="img">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>', *body, "</svg>\n"])


def _bar(series: Series, y: int, share: float) -> list[str]:
    width = max(1, round(share * (_WIDTH - _LABELS - 90)))
    colour = "#1f6f50" if series.name.startswith(("Ringfence", "books")) else "#8a94a0"
    return [
        f'<text x="{_LABELS - 8}" y="{y + 14}" text-anchor="end">{escape(series.name)}</text>',
        f'<rect x="{_LABELS}" y="{y}" width="{width}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_LABELS + width + 6}" y="{y + 14}">{number(series.median)}</text>',
    ]
