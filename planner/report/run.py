"""A profile run as a person follows it: each level as it ends, time left, a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from planner.profile.load.driver import Progress as LoadProgress
from planner.profile.load.level import FEWEST_FOR
from planner.profile.load.probe import Probed
from planner.profile.load.ramp import Measured, Saturation
from planner.profile.load.session import Next, Stop
from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    plain,
    show,
    table,
)
from planner.report.data import as_data
from planner.report.figures import count, ms, number, percent
from planner.spec.pool import Pool
from planner.spec.run import Step


@dataclass(frozen=True)
class RunSummary:
    """Everything that `rb profile run` says at its end; stop is None after an interrupt."""

    pool: Pool
    measured: tuple[Measured, ...]
    saturation: Saturation | None
    stop: Stop | None
    band_ratio: float | None
    max_error_ratio: float

    @property
    def is_too_wide(self) -> bool:
        """Returns whether the run has ended without an error band as narrow as wanted.

        Given loads that have no band, such as open loops alone, are not judged.
        """
        if self.band_ratio is None:
            return self.stop is not None and self.stop.reason != "given"
        return self.band_ratio > self.max_error_ratio


class RunProgress:
    """Follows a run on a terminal or in a log; a context manager around it."""

    def __init__(
        self, console: Console, time_budget_s: float, n_kept: int, quiet: bool = False
    ) -> None:
        self._quiet = quiet
        self._console = console
        self._budget_s = time_budget_s
        self._n_kept = n_kept
        self._elapsed_s = 0.0
        self._level: Next | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> RunProgress:
        """Returns the follower; a pipe gets lines instead of a bar."""
        if self._console.is_terminal and not self._quiet:
            self._task = self._bar.add_task("looking at the endpoint", total=None, left="")
            self._bar.start()
        if self._n_kept:
            self._say(f"going on after {count(self._n_kept, 'level')} of an earlier call")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the bar."""
        if self._task is not None:
            self._bar.stop()

    def probed(self, found: Probed) -> None:
        """Says what is worth knowing of the endpoint."""
        if found.state is not None:
            kv = found.state.kv_capacity_tokens
            room = f", KV cache of {kv:,} tokens" if kv else ""
            self._say(f"engine {found.state.engine}{room}")
        for note in found.notes:
            self._say(f"note: {note}")

    def started(self, level: Next, n_done: int, elapsed_s: float) -> None:
        """Shows the level that begins."""
        self._level, self._elapsed_s = level, elapsed_s
        if self._task is not None:
            text = f"level {n_done + 1}: {load_words(level.step)} ({level.why})"
            self._bar.update(self._task, description=text, total=self._budget_s)
            self._show_left(elapsed_s)
            self._bar.refresh()

    def moved(self, progress: LoadProgress) -> None:
        """Moves the bar."""
        if self._task is not None:
            self._show_left(self._elapsed_s + progress.elapsed_s)

    def finished(self, done: Measured, notes: Sequence[str]) -> None:
        """Says what a level has given."""
        self._say(f"{step_words(done.step)}: {_given(done)}")
        for note in notes:
            self._say(f"note: {note}", indent=2)

    def _show_left(self, elapsed_s: float) -> None:
        assert self._task is not None
        left_s = max(self._budget_s - elapsed_s, 0.0)
        n_left = self._level.n_left if self._level else 0
        left = f"{time_words(left_s)} left, {count(n_left, 'level')}"
        self._bar.update(self._task, completed=min(elapsed_s, self._budget_s), left=left)

    def _say(self, text: str, indent: int = 0) -> None:
        """Writes a paragraph: wrapped on a terminal, one line in a log."""
        if self._quiet:
            return
        if self._console.is_terminal:
            self._console.print(Padding(plain(text), (0, 0, 0, indent)))
        else:
            self._console.print(" " * indent + plain(text), soft_wrap=True)


def render_run(summary: RunSummary, console: Console) -> None:
    """Writes the levels of a run, where the replica is full, and why the run has ended."""
    show(_sections(summary), console)


def run_data(summary: RunSummary) -> dict[str, object]:
    """Returns the summary of a run as data."""
    full = summary.saturation
    stop = summary.stop
    return {
        "pool": as_data(summary.pool),
        "complete": stop is not None and not summary.is_too_wide,
        "saturation": as_data(full),
        "band_ratio": summary.band_ratio,
        "max_error_ratio": summary.max_error_ratio,
        "stopped_because": "interrupted" if stop is None else stop.reason,
        "would_be_next": as_data(stop.would_be_next) if stop and stop.would_be_next else None,
        "levels": [as_data(m) for m in summary.measured],
    }


def load_words(step: Step) -> str:
    """Returns a load in words."""
    closed = step.mode == "closed"
    return f"{step.load:g} in flight" if closed else f"{number(step.load)} requests/s"


def step_words(step: Step) -> str:
    """Returns a load and its request shape in words."""
    return f"{load_words(step)}, {step.input_tokens:.0f} in, {step.output_tokens:.0f} out"


def time_words(seconds: float) -> str:
    """Returns a time as minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _given(done: Measured) -> str:
    point = done.point
    if point is None:
        return "no request was answered"
    noise = done.level.noise_ratio
    sure = f" +-{percent(noise)}" if noise is not None else ""
    given = [f"{number(point.output_tokens_per_s)} tokens/s{sure}"]
    if point.ttft_mean_ms is not None:
        given.append(f"TTFT {ms(point.ttft_mean_ms)} ms")
    if point.tpot_mean_ms is not None:
        given.append(f"TPOT {number(point.tpot_mean_ms)} ms")
    return ", ".join(given)


def _sections(summary: RunSummary) -> Iterator[RenderableType]:
    yield line(summary.pool.name, "bold")
    yield heading("Measured, one replica")
    yield _table(summary.measured)
    yield indented(
        "load: requests in flight, or sent per second (/s); +-: 95 % interval of tokens/s; "
        "TTFT, its p95, TPOT and E2E in ms: means, unless marked, of the answers in the steady part"
    )
    yield heading("Found")
    yield from (bullet(text) for text in _findings(summary))


def _table(measured: Sequence[Measured]) -> RenderableType:
    """Returns one row per level: at most 80 columns for the figures of any engine."""
    made = table([], ["load", "in/out", "req/s", "tokens/s", "+-", "TTFT", "p95", "TPOT", "E2E"])
    for m in sorted(measured, key=_by_shape_and_load):
        load = f"{m.step.load:g}" if m.step.mode == "closed" else f"{number(m.step.load)}/s"
        shape = f"{m.step.input_tokens:.0f}/{m.step.output_tokens:.0f}"
        made.add_row("", load, shape, *_figures(m))
    return made


def _by_shape_and_load(m: Measured) -> tuple[float, float, str, float, int]:
    step = m.step
    return step.input_tokens, step.output_tokens, step.mode, step.load, step.repeat


def _figures(m: Measured) -> list[str]:
    """Returns what was measured of a level, as it stands in the table."""
    p = m.point
    if p is None:
        return ["-"] * 7
    return [
        number(p.achieved_rps),
        number(p.output_tokens_per_s),
        percent(m.level.noise_ratio, 0),
        ms(p.ttft_mean_ms),
        ms(p.ttft_p95_ms),
        number(p.tpot_mean_ms),
        ms(p.e2e_mean_ms),
    ]


def _findings(summary: RunSummary) -> Iterator[str]:
    full = summary.saturation
    if full is None:
        given = summary.stop is not None and summary.stop.reason == "given"
        yield f"saturation was not {'looked for: the loads were given' if given else 'reached'}"
    else:
        how = "run together, more wait" if full.queue_seen else "in flight fill it"
        yield f"full at {number(full.max_rps)} requests/s; {full.concurrency} {how}"
    band = summary.band_ratio
    if band is not None:
        yield (f"widest error band +-{percent(band)}, wanted +-{percent(summary.max_error_ratio)}")
    yield from _blanks(summary.measured)
    if summary.stop is not None:
        after = summary.stop.would_be_next
        more = f"; next would be {step_words(after)}" if after else ""
        yield f"ended: {summary.stop.why}{more}"


def _blanks(measured: Sequence[Measured]) -> Iterator[str]:
    """Yields which percentiles too few answers were measured for."""
    points = [m.point for m in measured if m.point is not None]
    missing = {
        name: sum((p.n_requests or 0) - (p.n_failed or 0) < FEWEST_FOR[name] for p in points)
        for name in ("p95", "p99")
    }
    for name, n in missing.items():
        if n:
            yield (
                f"{name} is blank for {n} of {count(len(points), 'level')}: fewer than "
                f"{FEWEST_FOR[name]} answers; a longer --time-budget gives more"
            )
