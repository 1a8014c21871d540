"""Ways to break a valid plan folder, one at a time, and the file and field that must be named.

Each case gets the root of a private copy that holds plans/demo and profiles (for "check" also the
plan.json and routes.json of plans/demo) and breaks one thing in it. `file` and `field` are parts of
the fault's file and field; an empty `field` means that the fault concerns the file as a whole.
"""

import copy
import csv
import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

QUESTION = "plans/demo/question.yaml"
SCORES = "plans/demo/class_scores.csv"
ARRIVALS = "plans/demo/arrivals.csv"
GPUS = "profiles/gpus.yaml"
MODELS = "profiles/models.yaml"
POOL = "profiles/{pool}/pool.yaml"
POINTS = "profiles/{pool}/points.csv"
PLAN = "plans/demo/plan.json"
ROUTES = "plans/demo/routes.json"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Break = Callable[[Path], None]
Rows = list[list[str]]


@dataclass(frozen=True)
class Case:
    """One broken input, and what the error must name."""

    name: str
    break_it: Break
    file: str
    field: str = ""
    command: Literal["plan", "check"] = "plan"


# ---- Finding things in a valid copy --------------------------------------------------------------


def load(path: Path) -> Any:
    """The data of a YAML file that nobody has broken yet, read by none of our code."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)


def used_pools(root: Path) -> list[str]:
    """The pools that the demo may use: measured, on a GPU in stock, their model scored; sorted."""
    question = load(root / QUESTION)
    with (root / SCORES).open(encoding="utf-8", newline="") as file:
        scored = {row["model_name"] for row in csv.DictReader(file)}
    found = []
    for path in sorted((root / "profiles").glob("*/pool.yaml")):
        pool = load(path)
        if pool["gpu"] in question["stock"] and pool["model_name"] in scored:
            found.append(pool["name"])
    return found


def at(root: Path, file: str) -> Path:
    return root / (file.format(pool=used_pools(root)[0]) if "{pool}" in file else file)


# ---- Ways to break ------------------------------------------------------------------------------


def edit(file: str, change: Callable[[Any], Any]) -> Break:
    """Changes the data of a YAML or JSON file in place, or replaces it by what `change` returns."""

    def break_it(root: Path) -> None:
        path = at(root, file)
        is_json = file.endswith(".json")
        data = json.loads(path.read_text(encoding="utf-8")) if is_json else load(path)
        changed = change(data)
        data = data if changed is None else changed
        new = json.dumps(data) if is_json else yaml.dump(data, Dumper=DUMPER, sort_keys=False)
        path.write_text(new, encoding="utf-8")

    return break_it


def follow(data: Any, keys: str) -> tuple[Any, str | int]:
    """The container that the last of dotted keys lies in, and that key; numbers are indices."""
    parts = [int(key) if key.isdigit() else key for key in keys.split(".")]
    for part in parts[:-1]:
        data = data[part]
    return data, parts[-1]


def put(file: str, keys: str, value: object) -> Break:
    def change(data: Any) -> None:
        container, key = follow(data, keys)
        container[key] = value

    return edit(file, change)


def drop(file: str, keys: str) -> Break:
    def change(data: Any) -> None:
        container, key = follow(data, keys)
        del container[key]

    return edit(file, change)


def csv_edit(file: str, change: Callable[[Rows], object]) -> Break:
    def break_it(root: Path) -> None:
        path = at(root, file)
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        change(rows)
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)

    return break_it


def cell(file: str, column: str, value: str, rows: slice = slice(1, 2)) -> Break:
    """Changes one column of some rows: by default of the first one below the header."""

    def change(table: Rows) -> None:
        place = table[0].index(column)
        for row in table[rows]:
            row[place] = value

    return csv_edit(file, change)


def without_column(file: str, column: str) -> Break:
    def change(rows: Rows) -> None:
        place = rows[0].index(column)
        for row in rows:
            del row[place]

    return csv_edit(file, change)


def only_header(file: str) -> Break:
    def change(rows: Rows) -> None:
        del rows[1:]

    return csv_edit(file, change)


def raw(file: str, change: Callable[[bytes], bytes]) -> Break:
    def break_it(root: Path) -> None:
        path = at(root, file)
        path.write_bytes(change(path.read_bytes()))

    return break_it


def appended(file: str, text: bytes) -> Break:
    return raw(file, lambda old: old.rstrip() + b"\n" + text)


def missing(file: str) -> Break:
    return lambda root: at(root, file).unlink()


def emptied(file: str) -> Break:
    return raw(file, lambda _: b"")


def huge(file: str) -> Break:
    """Grows a file to 100 MB without using the disk."""
    return lambda root: os.truncate(at(root, file), 100_000_000)


def folder_instead(file: str) -> Break:
    def break_it(root: Path) -> None:
        path = at(root, file)
        path.unlink()
        path.mkdir()

    return break_it


def link_to_itself(file: str) -> Break:
    def break_it(root: Path) -> None:
        path = at(root, file)
        path.unlink()
        path.symlink_to(path.name)

    return break_it


# ---- What no single change of a value can express ------------------------------------------------


def length_file_outside(root: Path) -> None:
    """The file exists and is right: only its place is wrong."""
    (root / "outside.csv").write_text("tokens\n10\n20\n", encoding="utf-8")
    put(QUESTION, "classes.0.input_tokens", {"file": "../../outside.csv"})(root)


def absolute_scores(root: Path) -> None:
    put(QUESTION, "class_scores", str((root / SCORES).resolve()))(root)


def two_pools_of_one_name(root: Path) -> None:
    first, second = used_pools(root)[:2]
    put(f"profiles/{second}/pool.yaml", "name", first)(root)


def replicas(bounds: dict[str, object]) -> Break:
    return lambda root: put(QUESTION, "replicas", {used_pools(root)[0]: bounds})(root)


def scores_of_one_model_gone(root: Path) -> None:
    """The question insists on one pool, and nobody scored its model on the first class."""
    name = used_pools(root)[0]
    pool = load(root / "profiles" / name / "pool.yaml")
    first = load(root / QUESTION)["classes"][0]["name"]

    def change(rows: Rows) -> None:
        rows[1:] = [row for row in rows[1:] if row[:2] != [first, pool["model_name"]]]

    put(QUESTION, "pools", [name])(root)
    csv_edit(SCORES, change)(root)


def first_stock(value: object) -> Break:
    def change(data: Any) -> None:
        data["stock"][next(iter(data["stock"]))] = value

    return edit(QUESTION, change)


def swap_first_rows(rows: Rows) -> None:
    rows[1], rows[2] = rows[2], rows[1]


def first_twice(entries: list[Any]) -> None:
    entries.append(copy.deepcopy(entries[0]))  # dumped twice, not as an alias


def half_of_first_share(plan: Any) -> None:
    plan["routing"][0]["share"] *= 0.5


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n".encode()
    for old, new in zip("abcdef", "bcdefg", strict=True)  # 9 ** 7 entries
)
DEEP = b"deep: " + b"[" * 5000 + b"]" * 5000 + b"\n"
CODE = b"keep: !!python/object/apply:os.getcwd []\n"
VERSION = b'"version": 1,'
HEADER = slice(0, 1)  # the header instead of the first row


# ---- The cases ----------------------------------------------------------------------------------


def case(name: str, file: str, break_it: Break, field: str = "") -> Case:
    command: Literal["plan", "check"] = "check" if file in (PLAN, ROUTES) else "plan"
    return Case(name, break_it, Path(file).name, field, command)


def last_key(keys: str) -> str:
    return keys.rsplit(".", 1)[-1]


def value(name: str, file: str, keys: str, wrong: object, field: str | None = None) -> Case:
    """One wrong value; unless told otherwise, the last key must be named."""
    return case(name, file, put(file, keys, wrong), last_key(keys) if field is None else field)


def absent(name: str, file: str, keys: str) -> Case:
    return case(name, file, drop(file, keys), last_key(keys))


def in_cell(name: str, file: str, column: str, wrong: str) -> Case:
    return case(name, file, cell(file, column, wrong), f"line 2.{column}")


FILE_CASES = [
    case("question missing", QUESTION, missing(QUESTION)),
    case("question empty", QUESTION, emptied(QUESTION)),
    case("question huge", QUESTION, huge(QUESTION)),
    case("question is a folder", QUESTION, folder_instead(QUESTION)),
    case("question links to itself", QUESTION, link_to_itself(QUESTION)),
    case("question not utf-8", QUESTION, raw(QUESTION, lambda b: b + b"# \xff\xfe")),
    case("question utf-16", QUESTION, raw(QUESTION, lambda b: b.decode().encode("utf-16"))),
    case("question holds a NUL", QUESTION, raw(QUESTION, lambda b: b + b"\x00")),
    case("question with a tab", QUESTION, appended(QUESTION, b"keep:\n\tplan: x\n"), "line"),
    case("question with a YAML bomb", QUESTION, appended(QUESTION, BOMB), "line"),
    case("question nested deeply", QUESTION, appended(QUESTION, DEEP)),
    case("question with code", QUESTION, appended(QUESTION, CODE)),
    case("question with a doubled key", QUESTION, appended(QUESTION, b"version: 1\n")),
    case("question twice in one file", QUESTION, appended(QUESTION, b"---\nversion: 1\n")),
    case("question cut off", QUESTION, raw(QUESTION, lambda b: b + b"\nprices: {h100")),
    case("question is a list", QUESTION, edit(QUESTION, lambda data: [data])),
    case("question is a word", QUESTION, raw(QUESTION, lambda _: b"hello\n")),
    case("profiles missing", "profiles", lambda root: shutil.rmtree(root / "profiles")),
    case("gpus missing", GPUS, missing(GPUS)),
    case("gpus empty", GPUS, emptied(GPUS)),
    case("gpus are a mapping", GPUS, edit(GPUS, lambda data: {g["name"]: g for g in data})),
    case("models missing", MODELS, missing(MODELS)),
    case("models link to themselves", MODELS, link_to_itself(MODELS)),
    case("pool missing", POOL, missing(POOL)),
    case("pool not utf-8", POOL, raw(POOL, lambda b: b + b"# \xe9\n")),
    case("pool is a list", POOL, edit(POOL, lambda data: [data])),
    case("points missing", POINTS, missing(POINTS)),
    case("points empty", POINTS, emptied(POINTS)),
    case("points are a folder", POINTS, folder_instead(POINTS)),
    case("points huge", POINTS, huge(POINTS)),
    case("points only a header", POINTS, only_header(POINTS)),
    case(
        "points with a ragged row", POINTS, csv_edit(POINTS, lambda rows: rows[1].pop()), "line 2"
    ),
    case("points with an open quote", POINTS, appended(POINTS, b'100,200,closed,"4\n')),
    case("scores missing", SCORES, missing(SCORES)),
    case("scores not utf-8", SCORES, raw(SCORES, lambda b: b + b"\xff\n")),
    case("scores only a header", SCORES, only_header(SCORES)),
    case("scores without a header", SCORES, csv_edit(SCORES, lambda rows: rows.pop(0))),
    case("scores separated by semicolons", SCORES, raw(SCORES, lambda b: b.replace(b",", b";"))),
    case("arrivals missing", ARRIVALS, missing(ARRIVALS)),
    case("arrivals only a header", ARRIVALS, only_header(ARRIVALS)),
    case("lengths outside the folder", QUESTION, length_file_outside, "input_tokens"),
    case("scores by absolute path", QUESTION, absolute_scores, "class_scores"),
    value("scores file named nothing", QUESTION, "class_scores", ""),
]

QUESTION_CASES = [
    value("version unsupported", QUESTION, "version", 2),
    absent("version missing", QUESTION, "version"),
    value("unknown key", QUESTION, "clases", []),
    value("no classes", QUESTION, "classes", []),
    value("classes are a mapping", QUESTION, "classes", {"a": 1}),
    case("class twice", QUESTION, edit(QUESTION, lambda q: first_twice(q["classes"]))),
    value("class name with a slash", QUESTION, "classes.0.name", "../x"),
    value("class name is a number", QUESTION, "classes.0.name", 7),
    value("rate zero", QUESTION, "classes.0.rate_rps", 0),
    value("rate negative", QUESTION, "classes.0.rate_rps", -2.5),
    value("rate NaN", QUESTION, "classes.0.rate_rps", math.nan),
    value("rate infinite", QUESTION, "classes.0.rate_rps", math.inf),
    value("rate huge", QUESTION, "classes.0.rate_rps", 1e300),
    value("rate a word", QUESTION, "classes.0.rate_rps", "many"),
    value("rate a list", QUESTION, "classes.0.rate_rps", [1]),
    value("rate a boolean", QUESTION, "classes.0.rate_rps", True),
    absent("rate missing", QUESTION, "classes.0.rate_rps"),
    value("all tokens cached", QUESTION, "classes.0.cached_input_ratio", 1.0),
    value("lengths of zero tokens", QUESTION, "classes.0.output_tokens", {"mean": 0}),
    value("longest below the mean", QUESTION, "classes.0.output_tokens", {"mean": 9, "max": 5}),
    value("limit on an unknown metric", QUESTION, "classes.0.limits.0.metric", "latency"),
    value("limit on single gaps", QUESTION, "classes.0.limits.0.metric", "itl"),
    value("limit on p42", QUESTION, "classes.0.limits.0.statistic", "p42"),
    value("limit of zero", QUESTION, "classes.0.limits.0.at_most_ms", 0),
    value("limit in text", QUESTION, "classes.0.limits.0.at_most_ms", "10 s"),
    value("limit with an unknown key", QUESTION, "classes.0.limits.0.at_most_s", 10),
    value("quality of 1.5", QUESTION, "quality_at_least", 1.5),
    value("budget negative", QUESTION, "budget_usd_per_h", -1),
    case("stock negative", QUESTION, first_stock(-1), "stock"),
    case("stock fractional", QUESTION, first_stock(1.5), "stock"),
    value("stock of an unknown GPU", QUESTION, "stock", {"h900": 4}),
    case("stock missing", QUESTION, drop(QUESTION, "stock")),
    value("price of an unknown GPU", QUESTION, "prices", {"h900": 1.0}),
    value("price NaN", QUESTION, "prices", {"h100-sxm-80g": math.nan}),
    value("unknown pool in replicas", QUESTION, "replicas", {"nowhere": {"min": 1}}),
    case("fewest replicas above most", QUESTION, replicas({"min": 3, "max": 2}), "replicas"),
    case("half a replica", QUESTION, replicas({"min": 1.5}), "replicas"),
    value("unknown pool allowed", QUESTION, "pools", ["nowhere"]),
    value("no pool allowed", QUESTION, "pools", [], ""),
    value("unknown pool in a class", QUESTION, "classes.0.pools", ["nowhere"]),
    value("headroom of all", QUESTION, "headroom_ratio", 1.0),
    value("unknown choice", QUESTION, "choose", "best"),
    value("scores twice", QUESTION, "scores", "class_scores.csv", ""),
    value("unknown arrivals", QUESTION, "arrivals", {"process": "bursts"}),
    value("arrivals without spread", QUESTION, "arrivals", {"process": "gamma"}),
    value("arrivals at factor zero", QUESTION, "arrivals.rate_factor", 0),
]

TABLE_CASES = [
    case("score of an unknown class", SCORES, cell(SCORES, "class", "nobody-asks"), "class"),
    case("score twice", SCORES, csv_edit(SCORES, lambda rows: rows.append(rows[1]))),
    case("score of 1.5", SCORES, cell(SCORES, "score", "1.5"), "score"),
    in_cell("score NaN", SCORES, "score", "nan"),
    in_cell("score blank", SCORES, "score", ""),
    in_cell("no prompts", SCORES, "n_prompts", "0"),
    in_cell("answers of zero tokens", SCORES, "output_tokens_mean", "0"),
    case("quantiles that fall", SCORES, cell(SCORES, "output_tokens_p50", "1"), "output_tokens"),
    case("score column missing", SCORES, without_column(SCORES, "score"), "score"),
    case("score column unknown", SCORES, cell(SCORES, "score", "points", HEADER), "points"),
    case("score column twice", SCORES, cell(SCORES, "input_tokens_cv", "score", HEADER), "score"),
    case("scores of one model gone", QUESTION, scores_of_one_model_gone, "classes"),
    case("arrivals backwards", ARRIVALS, csv_edit(ARRIVALS, swap_first_rows), "start_s"),
    in_cell("arrivals negative", ARRIVALS, "rate_rps", "-1"),
    case(
        "arrivals all zero", ARRIVALS, cell(ARRIVALS, "rate_rps", "0", slice(1, None)), "rate_rps"
    ),
]

PROFILE_CASES = [
    absent("GPU without memory", GPUS, "0.memory_gib"),
    value("GPU memory negative", GPUS, "0.memory_gib", -80),
    value("GPU memory in text", GPUS, "0.memory_gib", "80 GiB"),
    value("GPU speed infinite", GPUS, "0.fp16_tflops", math.inf),
    value("GPU with an unknown key", GPUS, "0.memory_gb", 80),
    case("GPU twice", GPUS, edit(GPUS, first_twice), "name"),
    value("GPU price of no day", GPUS, "0.as_of", "last year"),
    absent("GPU without a source", GPUS, "0.source"),
    value("model without layers", MODELS, "0.n_layers", 0),
    case("model twice", MODELS, edit(MODELS, first_twice), "name"),
    case("pool twice", POOL, two_pools_of_one_name, "name"),
    value("pool named with a path", POOL, "name", "../../x"),
    value("pool on an unknown GPU", POOL, "gpu", "h900"),
    value("pool of an unknown model", POOL, "model_name", "nobody-1b"),
    value("pool over no GPU", POOL, "tensor_parallel", 0),
    value("pool over half a GPU", POOL, "tensor_parallel", 0.5),
    value("pool wider than a node", POOL, "tensor_parallel", 64),
    value("pool with an unknown key", POOL, "replicas", 2),
    absent("pool without a source", POOL, "source"),
    value("pool of unknown origin", POOL, "origin", "guessed"),
    value("pool in unknown precision", POOL, "weight_precision", "fp7"),
    case("point without concurrency", POINTS, cell(POINTS, "concurrency", ""), "concurrency"),
    in_cell("point of zero output tokens", POINTS, "output_tokens", "0"),
    in_cell("point in an unknown mode", POINTS, "mode", "shut"),
    in_cell("point negative", POINTS, "itl_mean_ms", "-7"),
    in_cell("point infinite", POINTS, "itl_mean_ms", "inf"),
    in_cell("point in text", POINTS, "itl_mean_ms", "7 ms"),
    in_cell("point without a source", POINTS, "source", ""),
    case("point column missing", POINTS, without_column(POINTS, "mode"), "mode"),
    case(
        "point column unknown",
        POINTS,
        cell(POINTS, "itl_p50_ms", "itl_p42_ms", HEADER),
        "itl_p42_ms",
    ),
]

PLAN_CASES = [
    case("plan missing", PLAN, missing(PLAN)),
    case("plan empty", PLAN, emptied(PLAN)),
    case("plan cut off", PLAN, raw(PLAN, lambda b: b[: len(b) // 2])),
    case("plan huge", PLAN, huge(PLAN)),
    case("plan is a folder", PLAN, folder_instead(PLAN)),
    case("plan links to itself", PLAN, link_to_itself(PLAN)),
    case("plan is a list", PLAN, edit(PLAN, lambda plan: [plan])),
    case("plan with a doubled key", PLAN, raw(PLAN, lambda b: b"{" + VERSION + b.lstrip(b"{"))),
    case("plan nested deeply", PLAN, raw(PLAN, lambda _: b"[" * 200_000)),
    case("plan with an endless number", PLAN, raw(PLAN, lambda _: b"9" * 5000)),
    value("plan of another version", PLAN, "version", 2),
    value("plan with an unknown key", PLAN, "cost", 1),
    absent("plan without routing", PLAN, "routing"),
    case("shares that do not sum to 1", PLAN, edit(PLAN, half_of_first_share), "routing"),
    value("share of 1.5", PLAN, "routing.0.share", 1.5),
    value("share NaN", PLAN, "routing.0.share", math.nan),
    value("route to nowhere", PLAN, "routing.0.pool", "nowhere", "routing"),
    value("route of nobody", PLAN, "routing.0.class", "nobody", "routing"),
    value("deployment nowhere", PLAN, "deployment.0.pool", "nowhere", "deployment"),
    value("no replicas", PLAN, "deployment.0.replicas", 0),
    value("replicas in text", PLAN, "deployment.0.replicas", "two"),
    value("cost infinite", PLAN, "predicted.cost_usd_per_h", math.inf),
    value("inputs without hashes", PLAN, "provenance.inputs", {"question.yaml": "?"}),
    case("routes missing", ROUTES, missing(ROUTES)),
    case("routes cut off", ROUTES, raw(ROUTES, lambda b: b[:20])),
    value("routes of another plan", ROUTES, "plan_hash", "0" * 64),
    Case("question missing for check", missing(QUESTION), "question.yaml", "", "check"),
]

CASES: tuple[Case, ...] = (
    *FILE_CASES,
    *QUESTION_CASES,
    *TABLE_CASES,
    *PROFILE_CASES,
    *PLAN_CASES,
)
