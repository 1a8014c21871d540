"""What sections are made of: headings, tables, tiles, notes, drawings for a desk and a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.report.page.markup import Html, element, joined
from planner.report.page.origins import Source, marked

Align = Literal["text", "number"]
Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True)
class Section:
    """One part of the page, with its place in the list of contents."""

    id: str
    title: str
    lead: str  # what it says, in a sentence
    body: Html


@dataclass(frozen=True)
class Column:
    """One column of a table: numbers stand right, text left."""

    name: str
    align: Align = "number"
    source: Source | None = None  # of all its figures, where they share one (§8)


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    caption: str,
    strong: Iterable[int] = (),
    total: Sequence[str] | None = None,
    name: str | None = None,
) -> Html:
    """Returns a table whose first column names its rows.

    Args:
        columns: from the left.
        rows: cells, as many as there are columns.
        caption: what the table shows; read by screen readers alone.
        strong: numbers of the rows that stand out.
        total: a last row below a line.
        name: of the element, for the script.
    """
    stands_out = set(strong)
    head = [element("th", marked(c.name, c.source), scope="col", class_=_class(c)) for c in columns]
    body = [
        element("tr", _cells(columns, row), class_="strong" if n in stands_out else None)
        for n, row in enumerate(rows)
    ]
    made = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", head)),
        element("tbody", body),
        None if total is None else element("tfoot", element("tr", _cells(columns, total))),
        id=name,
        class_="cards",
    )
    return element("div", made, class_="scroll")  # may be wider than the page: it scrolls by itself


def _cells(columns: Sequence[Column], row: Sequence[str]) -> list[Html]:
    first, *others = zip(columns, row, strict=True)
    name = element("th", first[1], scope="row", class_=_class(first[0]))
    # On a phone a row becomes a card: each cell then says its column, and its origin, by itself.
    cells = [
        element(
            "td",
            element("span", cell),
            class_=_class(column),
            data_name=column.name,
            data_source=None if column.source == column.name.lower() else column.source,
        )
        for column, cell in others
    ]
    return [name, *cells]


def _class(column: Column) -> str | None:
    return "n" if column.align == "number" else None


def bullets(sentences: Iterable[str]) -> Html | None:
    """Returns a list of sentences; None where there is none."""
    items = [element("li", sentence) for sentence in sentences]
    return element("ul", items) if items else None


def entries(texts: Iterable[str]) -> Html:
    """Returns a list on as few lines as there is room for; an entry breaks only where it must."""
    every = list(texts)
    last = len(every) - 1
    return joined(
        joined(element("span", f"{text}{',' if n < last else ''}", class_="entry"), " ")
        for n, text in enumerate(every)
    )


def note(sentence: str) -> Html:
    """Returns a remark below what it is about."""
    return element("p", sentence, class_="note")


def chip(words: str, tone: Tone) -> Html:
    """Returns a short judgement; its tone is also told by its words, never by colour alone."""
    return element("span", words, class_=f"chip {tone}")


def tile(name: str, value: str, more: str) -> Html:
    """Returns one figure that decides, with what belongs to it."""
    return element(
        "div",
        element("dt", name),
        element("dd", element("span", value, class_="value"), element("span", more, class_="more")),
        class_="tile",
    )


def unfolding(summary: str, *children: Html | None) -> Html:
    """Returns what is there for who asks; printed in full."""
    return element("details", element("summary", summary), *children)
