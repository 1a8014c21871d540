"""Damaged result files of every tool: a typed error that names file and fix, or a sound reading."""

import math
import random
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from planner.errors import InputError
from planner.files.results import ResultFiles
from planner.profile.importer import import_results
from planner.profile.runs import FORMATS, read_runs
from planner.profile.sidecar import Known
from planner.spec.pool import Point, PoolSettings

FIXTURES = Path(__file__).parent.parent / "fixtures"
FLAGS = PoolSettings(name="mine", gpu="h100", model_name="m", engine="e", tensor_parallel=1)
SUFFIXES = {".json", ".jsonl", ".csv", ".yaml"}
N_MUTANTS = 360
NO_PROFILES = {"metrics", "lm_eval", "openai_evals", "routerbench"}
"""Folders of recorded files that hold no latencies: pages of metrics, and scores of answers."""
SCALAR = r'"(?:[^"\\\n]|\\.)*"|-?[0-9][-+.0-9eE]*|true|false|null'
JSON_PAIR = re.compile(rf'"(?P<key>[A-Za-z0-9_ .%()-]+)": *(?P<value>{SCALAR})(?P<end>,?)')
YAML_PAIR = re.compile(r"^(?P<key> *[a-z0-9_]+:) +(?P<value>[^\s{\[].*)(?P<end>)$", re.MULTILINE)
OWN = """input_tokens,output_tokens,mode,concurrency,offered_rps,ttft_mean_ms,e2e_p99_ms,source
100,200,closed,4,,12.5,900,by hand
100,200,closed,8,,14.5,1100,by hand
100,200,open,,2.5,17.5,1300,by hand
"""


@cache
def folders() -> dict[str, dict[str, str]]:
    """The texts of the result files in each folder of recorded files, and of our own."""
    found: dict[str, dict[str, str]] = {"own": {"own/points.csv": OWN}}
    for path in sorted(FIXTURES.rglob("*.*")):
        name = path.relative_to(FIXTURES)
        if path.suffix in SUFFIXES and name.parts[0] not in NO_PROFILES:
            texts = found.setdefault(name.parent.as_posix(), {})
            texts[name.as_posix()] = path.read_text(encoding="utf-8")
    return found


def value_to(new: str | Callable[[str], str]) -> Callable[[str, str, random.Random], str]:
    """A mutation that replaces one value, of whatever format, by another text."""

    def mutate(name: str, text: str, rng: random.Random) -> str:
        start, end = place_of_a_value(name, text, rng)
        return text[:start] + (new if isinstance(new, str) else new(text[start:end])) + text[end:]

    return mutate


def place_of_a_value(name: str, text: str, rng: random.Random) -> tuple[int, int]:
    """Where one value stands: of a key in JSON and YAML, a cell below the header in CSV."""
    if name.endswith(".csv"):
        cells = list(re.finditer(r"[^,\n]+", text[text.index("\n") :]))
        cell = rng.choice(cells)
        return cell.start() + text.index("\n"), cell.end() + text.index("\n")
    pairs = list((YAML_PAIR if name.endswith(".yaml") else JSON_PAIR).finditer(text))
    return rng.choice(pairs).span("value")


def without_a_key(name: str, text: str, rng: random.Random) -> str:
    if name.endswith(".csv"):
        place = rng.randrange(text.splitlines()[0].count(",") + 1)
        rows = [line.split(",") for line in text.splitlines()]
        return "\n".join(",".join(row[:place] + row[place + 1 :]) for row in rows)
    pairs = list((YAML_PAIR if name.endswith(".yaml") else JSON_PAIR).finditer(text))
    pair = rng.choice(pairs)
    return text[: pair.start()] + text[pair.end() :]


def key_twice(name: str, text: str, rng: random.Random) -> str:
    if name.endswith(".csv"):
        header, _, rest = text.partition("\n")
        first = header.split(",")[0]
        return f"{header},{first}\n" + rest.replace("\n", ",1\n")
    pairs = list((YAML_PAIR if name.endswith(".yaml") else JSON_PAIR).finditer(text))
    pair = rng.choice(pairs)
    between = "\n" if name.endswith(".yaml") else ", "
    return text[: pair.start()] + pair[0].rstrip(",") + between + text[pair.start() :]


def cut_off(name: str, text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def binary(name: str, text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + "\x00\x01\x7f" + text[at:]


def shuffled_lines(name: str, text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    rng.shuffle(lines)
    return "".join(lines)


def negated(value: str) -> str:
    return f"-{value}" if value[:1].isdigit() else "-1"


MUTATIONS: dict[str, Callable[[str, str, random.Random], str]] = {
    "drop a key": without_a_key,
    "text": value_to('"word"'),
    "list": value_to("[1, [2]]"),
    "object": value_to('{"a": {}}'),
    "null": value_to("null"),
    "true": value_to("true"),
    "NaN": value_to("NaN"),
    "infinite": value_to("-Infinity"),
    "negative": value_to(negated),
    "zero": value_to("0"),
    "huge": value_to("1e300"),
    "endless": value_to("9" * 5000),
    "cut off": cut_off,
    "key twice": key_twice,
    "binary": binary,
    "lines shuffled": shuffled_lines,
    "empty": lambda name, text, rng: "",
    "emptied": value_to(""),
}


def mutants() -> list[tuple[str, str, dict[str, str]]]:
    """Names of a mutation and a file, and the texts of that file's folder with it mutated."""
    rng = random.Random(20)
    made = []
    names = [(folder, name) for folder, texts in folders().items() for name in texts]
    for n in range(N_MUTANTS):
        folder, name = names[n % len(names)]
        kind = rng.choice(list(MUTATIONS))
        texts = folders()[folder]
        made.append((kind, name, {**texts, name: MUTATIONS[kind](name, texts[name], rng)}))
    return made


def assert_sound(point: Point) -> None:
    """What holds for every measurement, whatever was damaged."""
    for metric in ("ttft", "tpot", "itl", "e2e"):
        ranked = [getattr(point, f"{metric}_{p}_ms") for p in ("p50", "p90", "p95", "p99")]
        ranked = [value for value in ranked if value is not None]
        assert all(low <= high * (1 + 1e-9) for low, high in pairwise(ranked))
    if point.ttft_mean_ms is not None and point.e2e_mean_ms is not None:
        assert point.ttft_mean_ms <= point.e2e_mean_ms * (1 + 1e-9)
    if point.n_requests is not None and point.n_failed is not None:
        assert point.n_failed <= point.n_requests
    numbers = [value for _, value in point if isinstance(value, float)]
    assert all(math.isfinite(value) and 0 < value <= 1e15 for value in numbers)
    assert point.source and "\x00" not in point.source


def outcome(texts: dict[str, str]) -> str:
    """What became of a folder: 'fault' or 'read'; anything but InputError goes through."""
    files = ResultFiles(texts, frozenset(), {}, {})
    try:
        found = import_results(files, FLAGS, Known())
    except InputError as error:
        for fault in error.faults:
            assert fault.file in texts or (fault.file, fault.field) in WHOLE, fault
            assert fault.what and fault.fix and len(str(fault)) < 1500, fault
        return "fault"
    for pool in found.pools:
        for point in pool.points:
            assert_sound(point)
    return "read"


WHOLE = {("import", "files")}  # of all files together: no load level in any of them


def test_undamaged_files_are_read_and_sound():
    assert {folder: outcome(texts) for folder, texts in folders().items()} == dict.fromkeys(
        folders(), "read"
    )


def test_damaged_files_of_every_format_are_typed_errors_or_sound_readings():
    outcomes: dict[str, list[str]] = {}
    wrong = []
    made = mutants()
    for n, (kind, name, texts) in enumerate(made):
        try:
            outcomes.setdefault(kind, []).append(outcome(texts))
        except Exception as error:
            wrong.append(f"{n}: {kind} in {name}: {type(error).__name__}: {error}"[:400])
    assert wrong == []
    assert outcomes.keys() == MUTATIONS.keys() and len(made) >= 200
    counted = [one for many in outcomes.values() for one in many]
    assert counted.count("fault") > N_MUTANTS / 4  # the damage is seen,
    assert counted.count("read") > N_MUTANTS / 8  # and what is not needed is not asked for


def test_every_format_is_damaged():
    assert {
        run.format_name for texts in folders().values() for run in read_runs(texts, ()).runs
    } == {form.NAME for form in FORMATS}


@pytest.mark.parametrize("junk", ["\x00", "{", "[" * 3000, '{"a":' * 2000, "\ufeff", "a,b\n", "- "])
def test_no_format_stumbles_over_junk(junk):
    for form in FORMATS:
        for name in ("a.json", "a.csv", "stage_0_lifecycle_metrics.json", "config.yaml"):
            assert form.recognises(name, junk) in (True, False)
            with suppress(InputError):
                assert all(reading.points == [] for reading in form.parse({name: junk}))
