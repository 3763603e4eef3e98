"""An evaluation as one HTML file: tables, plots, and the queries that went worst with what they found."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from ringfence.evaluation import plots
from ringfence.evaluation.measures import MEASURES, NDCG
from ringfence.evaluation.runner import ModeResult, QueryRow, Result

_WORST = 20
_HITS = 5


def html(result: Result) -> str:
    """The report; every text of the collection in it is escaped."""
    pages = Environment(
        loader=PackageLoader("ringfence.evaluation", "templates"), autoescape=select_autoescape(["html"])
    )
    modes = result.modes
    drawn = [
        plots.bars("Means over the reported half", MEASURES, [(one.mode, _values(one)) for one in modes]),
        plots.curves("nDCG@10 of each query, sorted", [(one.mode, one.values()) for one in modes], bottom="queries"),
    ]
    return pages.get_template("report.html").render(
        result=result,
        measures=MEASURES,
        # Made by us from numbers and escaped names.
        plots=[Markup(plot) for plot in drawn],  # noqa: S704
        worst=[(one.mode, worst(one)) for one in modes],
        hits=_HITS,
    )


def worst(mode: ModeResult) -> list[QueryRow]:
    """The queries with the lowest nDCG@10, the worst first; of equals, those whose first relevant hit comes later."""
    ordered = sorted(mode.queries, key=lambda query: (query.scores[NDCG], query.scores["mrr"], query.query))
    return [query for query in ordered[:_WORST] if query.scores[NDCG] < 1]


def write(result: Result, path: Path) -> None:
    """Write the report."""
    path.write_text(html(result), encoding="utf-8")


def _values(mode: ModeResult) -> list[float]:
    return [mode.report[name] for name in MEASURES]
