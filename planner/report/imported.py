"""What an import understood: which tool wrote which file, who says what of the pool, the points."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from rich.console import Console

from planner.profile.doubles import load_as_set
from planner.profile.importer import Imported, PoolImport
from planner.profile.runs import Run
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.data import as_data
from planner.report.figures import count, ms, number
from planner.spec.pool import CapacityPoint, Point

_TITLES = {
    "model_name": "model",
    "gpu": "GPU",
    "tensor_parallel": "tensor parallel",
    "pipeline_parallel": "pipeline parallel",
    "data_parallel": "data parallel",
    "engine": "engine",
    "engine_version": "engine version",
    "max_num_seqs": "at most running",
    "n_replicas": "replicas measured",
}
_USUALLY_ONE = ("pipeline_parallel", "data_parallel")
_MODES = {  # mode -> its title, what its loads are in words, and above a column
    "closed": ("Closed loop", "in flight", "in flight"),
    "batch": ("Batch", "at once", "at once"),
    "open": ("Open loop", "requests/s", "offered /s"),
}
_COLUMNS: tuple[tuple[str, ...], ...] = (  # of each group the first that was measured is shown
    ("input_tokens",),
    ("output_tokens",),
    ("achieved_rps",),
    ("output_tokens_per_s",),
    ("ttft_mean_ms", "ttft_p50_ms"),
    ("ttft_p95_ms", "ttft_p99_ms", "ttft_p90_ms"),
    ("tpot_mean_ms", "itl_mean_ms", "tpot_p50_ms", "itl_p50_ms"),
    ("e2e_mean_ms", "e2e_p50_ms"),
)
_COLUMN_TITLES = {
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
    "achieved_rps": "answered /s",
    "output_tokens_per_s": "tokens /s",
}
_FIRST_TO_GO = (2, 5, 0, 1)  # groups of _COLUMNS, where the terminal is narrow
_MOST_LOADS = 6  # a longer list is told by its ends
_MOST_NAMES = 5
_MOST_ROWS = 30
_FIGURE = re.compile(r"(?<![\w.-])[0-9][0-9.,]*(?![\w-])")  # not the 100 of a100


def render_imported(imported: Imported, console: Console) -> None:
    """Writes each pool: its facts and who says them, its files, what is to know, its points."""
    for place, pool in enumerate(imported.pools):
        show([line("")] if place else [], console)
        show(_sections(pool, console.width), console)


def left_out(names: Sequence[str]) -> str | None:
    """Returns one sentence on files that are no results, None where there are none."""
    if not names:
        return None
    listed = ", ".join(names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"left out, not a result file: {listed}{more}"


def grouped(notes: Sequence[str]) -> list[str]:
    """Returns remarks with those that say the same of several files, but for figures, as one."""
    about: dict[str, dict[str, str]] = {}  # alike but for figures -> file -> what is said of it
    for note in dict.fromkeys(notes):
        name, colon, body = note.partition(": ")
        name, body = (name, body) if colon else ("", note)
        alike = _FIGURE.sub("#", body) if colon else note
        about.setdefault(alike, {}).setdefault(name, body)
    told = []
    for said in about.values():
        (name, body), n_more = next(iter(said.items())), len(said) - 1
        other = " with other figures" if len(set(said.values())) > 1 else ""
        more = f" and {n_more} more{other}" if n_more else ""
        told.append(f"{name}{more}: {body}" if name else body)
    return told


def imported_data(imported: Imported, written: Sequence[Sequence[str]]) -> dict[str, object]:
    """Returns an import as data; `written` are the paths of the files of each pool."""
    return {
        "pools": [
            _pool_data(pool) | {"written": list(paths)}
            for pool, paths in zip(imported.pools, written, strict=True)
        ],
        "left_out": list(imported.left_out),
        "notes": list(imported.notes),
    }


def _pool_data(pool: PoolImport) -> dict[str, object]:
    return {
        "pool": as_data(pool.pool),
        "facts": as_data(pool.facts),
        "runs": [
            {
                "files": list(run.files),
                "format": run.format_name,
                "n_points": len(run.reading.points) + len(run.reading.capacity),
                "model_id": run.reading.model_id,
                "engine": run.reading.engine,
                "engine_version": run.reading.engine_version,
                "gpu": run.reading.gpu,
                "tensor_parallel": run.reading.tensor_parallel,
                "notes": list(run.reading.notes),
            }
            for run in pool.runs
        ],
        "points": as_data(pool.points),
        "capacity": as_data(pool.capacity),
        "notes": list(pool.notes),
    }


def _sections(pool: PoolImport, width: int) -> Iterator[RenderableType]:
    yield line(pool.pool.name, "bold")
    facts = table(["", "", "said by"], [])
    facts.show_header = False
    for key, title in _TITLES.items():
        for fact in pool.facts:
            if fact.key == key and (fact.value != 1 or key not in _USUALLY_ONE):
                facts.add_row("", title, str(fact.value), fact.said_by)
    yield facts
    yield heading(f"Understood ({count(len(pool.runs), 'run')})")
    yield _files(pool.runs)
    if pool.notes:
        yield heading("To know")
        yield from (bullet(note) for note in grouped(pool.notes))
    yield from _points(pool.points, width)
    yield from _capacity(pool.capacity)


def _files(runs: Sequence[Run]) -> RenderableType:
    """Returns the files with their loads, below the tool that wrote them."""
    made = table(["file"], [], ["loads"])
    names = [run.files[0].split("/") for run in runs]
    levels = zip(*(name[:-1] for name in names), strict=False)
    n_common = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    before = ""
    for run, name in zip(runs, names, strict=True):
        if run.format_name != before:
            made.add_row("", run.format_name)
        before = run.format_name
        short = "/".join(name[n_common:][-2:])  # no folder that all share, and one at the most
        n_more = len(run.files) - 1
        made.add_row("", f"  {short}{f' + {n_more}' if n_more else ''}", _loads(run))
    return made


def _loads(run: Run) -> str:
    """Returns the loads of a run, e.g. '1, 2, 4 in flight', by mode where there are several."""
    reading = run.reading
    if reading.capacity:
        return f"capacity only ({count(len(reading.capacity), 'request shape')})"
    texts = []
    for mode, (_, unit, _) in _MODES.items():
        points = [point for point in reading.points if point.mode == mode]
        if points:
            texts.append(_listed([load_as_set(point) for point in points], unit))
    return "; ".join(texts) or "all met in another file"


def _listed(loads: Sequence[float], unit: str) -> str:
    """Returns loads in short, and how many were measured where that is not plain to see."""
    different = sorted(set(loads))
    if len(different) > _MOST_LOADS:
        text = f"{number(different[0])} to {number(different[-1])} {unit}"
    else:
        text = f"{', '.join(map(number, different))} {unit}"
        if len(loads) == len(different):
            return text
    return f"{text} ({count(len(loads), 'point')})"


def _points(points: Sequence[Point], width: int) -> Iterator[RenderableType]:
    """Yields the means of the points, a table per way of loading; a file has every figure."""
    for mode, (how, _, load) in _MODES.items():
        own = [point for point in points if point.mode == mode]
        if not own:
            continue
        columns = {load: [number(load_as_set(point)) for point in own[:_MOST_ROWS]]}
        groups = list(_COLUMNS)
        for spare in (None, *(_COLUMNS[n] for n in _FIRST_TO_GO)):
            groups = [group for group in groups if group is not spare]
            shown = columns | dict(_measured(groups, own))
            if 3 + sum(_width(title, cells) + 2 for title, cells in shown.items()) <= width:
                break
        yield heading(f"{how}, {count(len(own), 'load level')} of one replica (latencies in ms)")
        made = table([], list(shown))
        for column, cells in zip(made.columns[1:], shown.values(), strict=True):
            column.no_wrap, column.width = False, _width(str(column.header), cells)
        for row in zip(*shown.values(), strict=True):
            made.add_row("", *row)
        yield made
        if len(own) > _MOST_ROWS:
            yield bullet(f"{len(own) - _MOST_ROWS} more are in points.csv, and in --json")


def _measured(
    groups: Sequence[Sequence[str]], points: Sequence[Point]
) -> Iterator[tuple[str, list[str]]]:
    """Yields title and cells of the first column of each group that any point measured."""
    for group in groups:
        field = next((f for f in group if any(getattr(p, f) for p in points)), None)
        if field is not None:
            metric, _, statistic = field.removesuffix("_ms").partition("_")
            title = _COLUMN_TITLES.get(field, f"{metric.upper()} {statistic}")
            text = ms if field.endswith("_ms") else number
            yield title, [text(getattr(p, field)) for p in points[:_MOST_ROWS]]


def _width(title: str, cells: Sequence[str]) -> int:
    """Returns the width of a column: its title may break between words, a figure may not."""
    return max(map(len, [*title.split(), *cells]))


def _capacity(capacity: Sequence[CapacityPoint]) -> Iterator[RenderableType]:
    if not capacity:
        return
    yield heading(f"Capacity of one replica ({count(len(capacity), 'request shape')})")
    made = table([], ["input tokens", "output tokens", "requests/s"], ["source"])
    for entry in capacity[:_MOST_ROWS]:
        figures = (entry.input_tokens, entry.output_tokens, entry.max_rps)
        made.add_row("", *(number(value) for value in figures), entry.source)
    yield made
    if len(capacity) > _MOST_ROWS:
        yield bullet(f"{len(capacity) - _MOST_ROWS} more are in capacity.csv, and in --json")
