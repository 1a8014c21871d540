"""How a plan is being served, as a person watches it: planned against actual, limits, health."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group

from planner.report.console import RenderableType, heading, indented, line, table
from planner.report.figures import NONE, count, ms, number, percent, share
from planner.runtime.status import ClassStatus, LimitStatus, Status

FAR = 0.02  # a share that is further from the planned one is marked
FEWEST = 200  # ... where so many requests tell it


def status_view(status: Status) -> Group:
    """Returns the picture of one moment; at most 80 columns where names are short."""
    return Group(*_sections(status))


def _sections(status: Status) -> Iterator[RenderableType]:
    yield line(status.title or "Serving", "bold")
    yield line(_conditions(status))
    if status.is_draining:
        yield line("ending: nothing new is taken", "yellow")
    yield from _classes(status)
    yield from _limits(status)
    yield from _troubles(status)
    yield from _instances(status)  # the longest comes last: a small terminal shows the top


def _conditions(status: Status) -> str:
    """Returns what is served, for how long, and how much of it."""
    planned = "" if status.planned_rps is None else f" of {number(status.planned_rps)} planned"
    parts = [
        f"plan {status.plan_hash[:12]}",
        f"up {_duration(status.up_s)}",
        count(status.n_workers, "worker"),
        f"{number(status.rate_rps)} requests/s{planned}",
    ]
    return f"{', '.join(parts)}; recent: the last {status.recent_s:.0f} s"


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}"


def _classes(status: Status) -> Iterator[RenderableType]:
    yield heading("Requests")
    made = table(["class"], ["req/s", "planned", "answered", "failed", "left", "refused", "score"])
    for c in status.classes:
        style = "red" if c.n_error else "yellow" if c.n_refused else ""
        counts = (c.n_ok, c.n_error, c.n_cancelled, c.n_refused)
        rates = number(c.rate_rps), number(c.planned_rps)
        score = NONE if c.score is None else f"{c.score:.3f}"
        made.add_row("", _name(c), *rates, *map(_n, counts), score, style=style)
    yield made
    yield heading("Shares")
    made = table(["class", "pool"], ["planned", "recent", "since start"], [""])
    for c in status.classes:
        for place, pool in enumerate(c.pools):
            is_far = _is_far(c, pool.planned_share, pool.share_since_start)
            made.add_row(
                *("", "" if place else _name(c), pool.pool),
                *(NONE if s is None else share(s) for s in _shares_of(c, place)),
                "off plan" if is_far else "",
                style="yellow" if is_far else "",
            )
    yield made


def _shares_of(c: ClassStatus, place: int) -> tuple[float | None, float | None, float | None]:
    pool = c.pools[place]
    return pool.planned_share, pool.share, pool.share_since_start


def _is_far(c: ClassStatus, planned: float | None, actual: float | None) -> bool:
    known = planned is not None and actual is not None and c.n_since_start >= FEWEST
    return known and abs((planned or 0.0) - (actual or 0.0)) > FAR


def _name(c: ClassStatus) -> str:
    return "(not told)" if c.class_name is None else c.class_name


def _n(value: int) -> str:
    return f"{value:,}" if value else NONE


def _limits(status: Status) -> Iterator[RenderableType]:
    rows: list[tuple[str, LimitStatus]] = [("", each) for each in status.limits]
    rows += [(f" of {c.class_name}", each) for c in status.classes for each in c.limits]
    if not rows:
        return
    yield heading("Limits: recent answers against allowed (ms)")
    made = table(["limit"], ["predicted", "recent", "allowed", "above", "answers"], [""])
    for scope, each in rows:
        made.add_row(
            *("", f"{each.statistic} {each.metric}{scope}"),
            *(ms(each.predicted_ms), ms(each.ms), ms(each.at_most_ms)),
            *(percent(each.above_ratio), _n(each.n_answers)),
            {None: "", True: "met", False: "MISSED"}[each.is_met],
            style="red" if each.is_met is False else "",
        )
    yield made


def _instances(status: Status) -> Iterator[RenderableType]:
    yield heading("Instances")
    made = table(["instance", "state"], ["sent", "runs", "waits", "delay s", "told s"])
    for each in status.instances:
        made.add_row(
            *("", each.instance, each.state, _n(each.n_in_flight)),
            *(f"{each.n_running:.0f}", f"{each.n_waiting:.0f}"),
            *(number(_rounded(each.predicted_delay_s)), number(_rounded(each.telemetry_age_s))),
            style="" if each.up else "red",
        )
    yield made
    yield indented(
        "sent: requests that we have there; runs, waits: in the engine, as it told so long ago; "
        "delay: predicted to the first token of a request that comes now"
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _troubles(status: Status) -> Iterator[RenderableType]:
    """Yields what went wrong since the start."""
    told: Sequence[tuple[str, dict[str, int]]] = (
        ("failed tries", status.retries),
        ("refused", status.refused),
        ("reloads", status.reloads),
        ("log", {"lines lost": status.n_log_lines_lost} if status.n_log_lines_lost else {}),
    )
    known = [(what, counts) for what, counts in told if counts]
    if known:
        yield heading("Since the start")
    for what, counts in known:
        each = ", ".join(f"{name} {n:,}" for name, n in counts.items())
        yield indented(f"{what}: {each}", "  -")
    if status.prices:
        yield heading("Prices (quality per replica-second)")
        yield indented(", ".join(f"{name} {number(p)}" for name, p in status.prices.items()), "  -")
