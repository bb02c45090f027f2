"""Puts a report's tables into a page, between two marks."""

from pathlib import Path

BEGIN = "<!-- relay: written by `make bench ARGS=--document`, from here -->"
END = "<!-- relay: to here -->"


def insert(page: str, tables: str) -> str:
    """`page` with `tables` in the place of what was between its marks.

    Raises ValueError unless each mark is there once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs the marks {BEGIN!r} and {END!r}, once each, in order")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{after}"


def document(page: Path, tables: str) -> None:
    """Rewrite the file. Raises ValueError as `insert`, OSError."""
    page.write_text(insert(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
