"""The /metrics page of `rb serve`, read, and what was counted between two of them.

    line      name{label="value",...} value [time] [# exemplar]     Prometheus and OpenMetrics text
    series    a name with its labels, `worker` among them; what several workers count adds up

A worker whose start is another one counts from zero: it is a new one, or has taken another plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from planner.errors import InputError

STARTS, SCRAPES, PLAN = "rb_start_time_seconds", "rb_scrape_time_seconds", "rb_plan_info"
WANTED = "rb_", "gen_ai_server_"
MOST_SERIES = 200_000

# Nothing that was matched is tried another way, so that no line takes long.
_LINE = re.compile(
    r"(?P<name>[A-Za-z_:][\w:]*+)"
    r'(?:\{(?P<labels>(?:[^"}]++|"(?:[^"\\\n]++|\\.)*+")*+)\})?'
    r"[ \t]++(?P<value>[^\s{}]++)"
)
_LABELS = re.compile(r'([A-Za-z_]\w*+)="((?:[^"\\\n]++|\\.)*+)"')
_ESCAPED = re.compile(r"\\(.)")
_COUNTS = re.compile(r"_(total|bucket|count|sum)$")

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


@dataclass(frozen=True)
class Page:
    """What one look at a page shows, or what was counted between two looks."""

    values: Mapping[Series, float]
    plan_hashes: tuple[str, ...]  # of its workers: several only in the middle of a reload
    seconds: float  # in which it was counted, by one worker on average
    source: str

    def samples(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Yields the labels and the value of every series of that name."""
        for (found, labels), value in self.values.items():
            if found == name:
                yield dict(labels), value


def read_page(text: str, source: str) -> Page:
    """Returns what a page shows of the time since its workers started.

    Args:
        text: the page.
        source: where it comes from, for messages.

    Raises:
        InputError: it is no page of `rb serve`, or of one that has counted for no time at all.
    """
    values: dict[Series, float] = {}
    for series, value in _read(text):
        values[series] = values.get(series, 0.0) + value
        if len(values) > MOST_SERIES:
            raise _refused(source, f"has more than {MOST_SERIES} series")
    hashes = sorted({dict(labels).get("plan_hash", "") for _, labels in _named(values, PLAN)})
    starts, scrapes = _by_worker(values, STARTS), _by_worker(values, SCRAPES)
    if not any(hashes) or not scrapes or starts.keys() != scrapes.keys():
        raise _refused(source, "is no page of metrics of rb serve")
    page = Page(values, tuple(hashes), 0.0, source)
    return _over(page, {worker: scrapes[worker] - starts[worker] for worker in starts})


def since(page: Page, earlier: Page) -> Page:
    """Returns what was counted between two looks at the same workers.

    Raises:
        InputError: the page is not later than the earlier one.
    """
    starts, scrapes = _by_worker(page.values, STARTS), _by_worker(page.values, SCRAPES)
    before = _by_worker(earlier.values, STARTS)
    kept = {worker for worker, start_s in starts.items() if before.get(worker) == start_s}
    looked = _by_worker(earlier.values, SCRAPES)
    begins = {w: looked[w] if w in kept else max(starts[w], min(looked.values())) for w in starts}
    values = {
        (name, labels): max(value - earlier.values.get((name, labels), 0.0), 0.0)
        if _COUNTS.search(name) and dict(labels).get("worker", "") in kept
        else value
        for (name, labels), value in page.values.items()
    }
    between = Page(values, page.plan_hashes, 0.0, page.source)
    return _over(between, {worker: scrapes[worker] - begins[worker] for worker in starts})


def _over(page: Page, seconds: Mapping[str, float]) -> Page:
    """Returns a page with the mean time that its workers counted, each a like part of traffic."""
    mean_s = sum(seconds.values()) / len(seconds)
    if mean_s <= 0:
        raise _refused(page.source, "covers no time: it must be later than what it is held against")
    return Page(page.values, page.plan_hashes, mean_s, page.source)


def _refused(source: str, what: str) -> InputError:
    fix = "give the /metrics page of rb serve, or a file with one"
    return InputError.single(source, "", what, fix)


def _read(text: str) -> Iterator[tuple[Series, float]]:
    """Yields the series of interest and their values; other lines are nobody's fault."""
    for line in text.split("\n"):
        found = _LINE.match(line) if line.startswith(WANTED) else None
        value = None if found is None else _number(found["value"])
        if found is not None and value is not None:
            told = found["labels"] or ""
            labels = _LABELS.findall(told)
            if "\\" in told:
                labels = [(key, _plain(each)) for key, each in labels]
            yield (found["name"], tuple(sorted(labels))), value


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _named(values: Iterable[Series], name: str) -> list[Series]:
    return [series for series in values if series[0] == name]


def _by_worker(values: Mapping[Series, float], name: str) -> dict[str, float]:
    return {dict(series[1]).get("worker", ""): values[series] for series in _named(values, name)}
