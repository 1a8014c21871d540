"""Reading benchmark results: which tool wrote each file, its points, and every fault at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from planner.errors import Fault, InputError
from planner.profile.fields import Fields, Reading, base_name, plain_text, shown
from planner.profile.formats import own_csv, vllm_bench
from planner.spec.base import worst_origin
from planner.spec.pool import Point, Pool

FileFormat = Literal["vllm-bench", "points-csv"]

_PARSERS: dict[FileFormat, Callable[[str, str], Reading]] = {
    "vllm-bench": vllm_bench.parse,
    "points-csv": own_csv.parse,
}
_MODES = ("closed", "open", "batch")


@dataclass(frozen=True)
class PoolSettings:
    """What the user says of the pool that was measured; it wins over what the files say."""

    pool: str
    gpu: str
    tensor_parallel: int = 1
    model_name: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    max_num_seqs: int | None = None


@dataclass(frozen=True)
class ImportResult:
    """The points of all files by load, what they served, and remarks for the reader."""

    points: tuple[Point, ...]
    model_id: str | None
    engine: str | None
    notes: tuple[str, ...]


def import_points(texts: Mapping[str, str], settings: PoolSettings | None = None) -> ImportResult:
    """Returns the points (ms, requests/s, tokens/s) of texts by file name, sorted by load.

    Equal loads are all kept, and the order of the files does not matter. Raises InputError with
    the faults of all files together.
    """
    readings: dict[str, Reading] = {}
    faults: list[Fault] = []
    notes: list[str] = []
    for name in sorted(texts):
        if name.endswith(".pytorch.json"):
            notes.append(f"{base_name(name)}: left out, it repeats the figures of another file")
            continue
        try:
            readings[name] = _PARSERS[detect(name, texts[name])](name, texts[name])
        except InputError as error:
            faults += error.faults
    model_id = settings.model_name if settings else None
    engine = settings.engine if settings else None
    if model_id is None:
        model_ids = {name: reading.model_id for name, reading in readings.items()}
        model_id = _only(model_ids, "model_id", faults)
    if engine is None:
        engine = _only({name: r.engine for name, r in readings.items()}, "engine", faults)
    points = [point for reading in readings.values() for point in reading.points]
    if not points and not faults:
        what = f"no measured load level, got {len(texts)} files with none"
        faults.append(Fault("import", "files", what, "name at least one result file"))
    if faults:
        raise InputError(faults)
    notes += [note for reading in readings.values() for note in reading.notes]
    return ImportResult(tuple(sorted(points, key=_by_load)), model_id, engine, tuple(notes))


def make_pool(settings: PoolSettings, result: ImportResult) -> Pool:
    """Returns the pool that was measured: settings first, then what the files say.

    A model id such as org/name becomes name. Raises InputError with every setting that is wrong.
    """
    model_name = settings.model_name
    if model_name is None and result.model_id is not None:
        model_name = base_name(result.model_id)
    fields = Fields("options", {})
    if model_name is None:
        what = "no file names the model, got nothing"
        fields.fault("model_name", what, "say which it is with --model-name")
    try:
        pool = Pool(
            name=settings.pool,
            model_name=model_name or "unknown",
            gpu=settings.gpu,
            tensor_parallel=settings.tensor_parallel,
            engine=settings.engine or result.engine,
            engine_version=settings.engine_version,
            max_num_seqs=settings.max_num_seqs,
            origin=worst_origin(*(point.origin for point in result.points)),
            source="; ".join(dict.fromkeys(p.source for p in result.points))[:2000],
        )
    except ValidationError as error:
        fields.reject(error, "use letters, digits, '.', '_', '+' and '-' in names")
    if fields.faults:
        raise InputError(fields.faults)
    return pool


def detect(name: str, text: str) -> FileFormat:
    """Returns the format of a text by its content; raises InputError when none fits."""
    start = plain_text(name, text).lstrip()[:4000]
    if start.startswith(("{", "[")):
        return "vllm-bench"
    header = {cell.strip() for cell in start.splitlines()[0].split(",")}
    if name.lower().endswith(".csv") or {"input_tokens", "output_tokens"} <= header:
        return "points-csv"
    what = f"neither JSON of `vllm bench serve` nor our points.csv, got {shown(start[:30])}"
    raise InputError.single(name, "content", what, "give a result file of one of these two")


def _only(by_file: Mapping[str, str | None], field: str, faults: list[Fault]) -> str | None:
    """Returns the value that the files name, None if none does; keeps a fault if they differ."""
    first: tuple[str, str] | None = None
    for name, value in by_file.items():
        if value is None:
            continue
        if first is None:
            first = (name, value)
        elif value != first[1]:
            what = f"{base_name(first[0])} says {shown(first[1])}, got {shown(value)}"
            option = {"model_id": "--model-name", "engine": "--engine"}[field]
            fix = f"import them apart, or say which it is with {option}"
            faults.append(Fault(name, field, what, fix))
    return first[1] if first else None


def _by_load(point: Point) -> tuple[int, float, float, float, str, str]:
    """Returns the sort key of a point: kind of run, load, lengths, then all that tells apart."""
    rate_rps = point.offered_rps or point.achieved_rps
    load = rate_rps if point.mode == "open" else point.concurrency
    return (
        _MODES.index(point.mode),
        load or 0.0,
        point.input_tokens,
        point.output_tokens,
        point.source,
        point.model_dump_json(),
    )
