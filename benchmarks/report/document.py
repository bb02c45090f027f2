"""Puts a report into a page, between two marks, and its data and plots beside the page."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.charts import Plot, plots
from benchmarks.report.markdown import to_markdown
from benchmarks.report.results import Results, to_json

BEGIN = "<!-- figures: written by `make bench`, from here -->"
END = "<!-- figures: to here -->"
_DATA = "benchmark.json"


def write(results: Results, folder: Path) -> Path:
    """The report as a page of its own with everything beside it; the page."""
    made = plots(results.taken)
    _write_data(results, made, folder)
    page = folder / "benchmark.md"
    page.write_text(to_markdown(results, _references(made, "")), encoding="utf-8")
    return page


def document(results: Results, page: Path) -> None:
    """Put the report into a page; data and plots go into a folder beside it of the page's name.

    Raises ValueError as `insert`, OSError.
    """
    folder = page.with_suffix("")
    made = plots(results.taken)
    text = to_markdown(results, _references(made, f"{folder.name}/"))
    page.write_text(insert(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    _write_data(results, made, folder)


def insert(page: str, text: str) -> str:
    """`page` with `text` in the place of what was between its marks.

    Raises ValueError unless each mark is there once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs the marks {BEGIN!r} and {END!r}, once each, in order")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def _write_data(results: Results, made: Sequence[Plot], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DATA).write_text(to_json(results), encoding="utf-8")
    for plot in made:
        (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")


def _references(made: Sequence[Plot], prefix: str) -> list[tuple[str, str]]:
    return [(plot.chart.title, f"{prefix}{plot.name}.svg") for plot in made]
