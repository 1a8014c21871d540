"""Who may import whom: floors and rooms, and the fences around heavy or impure things (HOUSE)."""

from pathlib import Path

import pytest
from walk import Import, calls, function_lines, imports, modules

import planner

ROOT = Path(planner.__file__).parent

FLOORS: dict[str, int] = {
    **dict.fromkeys(["spec", "errors", "nearest"], 0),
    **dict.fromkeys(["files", "space", "latency", "routing", "quality", "scheduling", "search"], 1),
    **dict.fromkeys(["arrivals", "steady", "parallel", "drift", "metrics_page"], 1),
    **dict.fromkeys(["workload", "case", "money", "offered", "score", "objectives", "keeping"], 2),
    **dict.fromkeys(["memo", "explore", "named", "settle", "choose", "robust", "harden"], 2),
    **dict.fromkeys(["proofs", "believed", "drills", "answer", "confirm", "refine"], 2),
    **dict.fromkeys(["exact", "simulate", "runtime", "profile", "reasons", "periods"], 2),
    **dict.fromkeys(["ordered", "sheet"], 2),
    **dict.fromkeys(["plan", "gate"], 3),
    **dict.fromkeys(["report", "export"], 4),
    **dict.fromkeys(["cli", "__main__"], 5),
}
# The main path is cut into rooms that build on each other; each may import those before it.
# The exact bounds come first: they know arrays only, and the exploration starts from them.
MAIN_PATH = [
    "exact", "workload", "case", "money", "offered", "score", "ordered", "simulate", "robust",
    "harden", "objectives", "keeping", "memo", "explore", "named", "settle", "choose", "proofs",
    "believed", "drills", "answer", "confirm", "refine", "reasons", "periods", "sheet", "plan",
]  # fmt: skip

HEAVY = {"torch", "botorch", "gpytorch", "linear_operator"}
WRITES_AND_READS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch",
    "iterdir", "rglob", "glob", "symlink_to", "hardlink_to", "chmod", "rename",
}  # fmt: skip


def room_of(module: str) -> str:
    """The room of a module: the second part of its name; the package itself has none."""
    return module.split(".")[1] if "." in module else ""


def stairs_climbed(found: list[Import], package: str) -> list[str]:
    """The imports inside a package that go up, or sideways into another room."""
    wrong = []
    for each in found:
        if not each.module.startswith(f"{package}."):
            continue  # other packages, and the bare package, which holds the version only
        here, there = room_of(each.by), room_of(each.module)
        if here == there or not here:
            continue
        if here in MAIN_PATH and there in MAIN_PATH:
            allowed = MAIN_PATH.index(there) < MAIN_PATH.index(here)
        elif here == "__main__":
            allowed = there == "cli"
        else:
            allowed = FLOORS.get(there, 9) < FLOORS.get(here, -1)
        if not allowed:
            wrong.append(str(each))
    return wrong


def breaches(found: list[Import], packages: set[str], rooms: set[str], at_top: bool) -> list[str]:
    """The imports of some packages outside their rooms, or at import time where that is early."""
    return [
        str(each)
        for each in found
        if each.module.split(".")[0] in packages
        and (room_of(each.by) not in rooms or (each.where == "top" and not at_top))
    ]


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports(ROOT)


def test_every_room_has_a_floor():
    rooms = {room_of(name) for name in modules(ROOT)} - {""}
    assert rooms <= FLOORS.keys()
    assert {"spec", "files", "latency", "routing", "search", "cli"} <= rooms


def test_imports_go_down(found):
    assert len(found) > 100
    assert stairs_climbed(found, "planner") == []


def test_the_package_itself_imports_nothing(found):
    assert [
        str(each) for each in found if each.by == "planner" and "__future__" not in str(each)
    ] == []


@pytest.mark.parametrize(
    ("packages", "rooms", "at_top"),
    [
        (HEAVY, {"search", "profile"}, False),
        ({"ortools", "highspy"}, {"routing", "exact"}, False),
        ({"pandas"}, {"quality", "files"}, False),
        ({"rich"}, {"report", "cli"}, True),
        ({"typer"}, {"cli"}, True),
        ({"pathlib"}, {"files", "cli"}, True),
        ({"shutil", "tempfile", "glob", "fileinput", "mmap", "sqlite3", "pickle"}, {"files"}, True),
        ({"yaml", "csv"}, {"files"}, True),
        ({"os"}, {"files", "cli"}, True),
        ({"time", "random", "uuid", "secrets"}, {"cli"}, True),
        ({"socket", "http", "urllib", "requests", "httpx"}, {"runtime"}, True),
        ({"aiohttp"}, {"profile"}, False),
        ({"uvicorn", "httptools", "msgspec"}, {"runtime"}, True),
        ({"uvloop", "prometheus_client", "opentelemetry"}, {"runtime"}, False),
        ({"ray"}, {"parallel"}, False),
        ({"matplotlib"}, {"report"}, False),
        ({"subprocess"}, {"files", "profile"}, True),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else None,
)
def test_a_fence_holds(found, packages, rooms, at_top):
    assert breaches(found, packages, rooms, at_top) == []


def test_the_fenced_packages_are_used_behind_their_fences(found):
    """Else the fences above would hold around nothing."""
    used = {(each.module.split(".")[0], room_of(each.by)) for each in found}
    assert {
        ("torch", "search"),
        ("botorch", "search"),
        ("ortools", "routing"),
        ("rich", "report"),
        ("pathlib", "files"),
        ("os", "files"),
        ("yaml", "files"),
        ("uvicorn", "runtime"),
    } <= used


def test_heavy_packages_are_not_loaded_with_the_command_line(found):
    """Solvers, numpy and pydantic are imported inside the commands."""
    heavy = {"numpy", "pydantic", "pandas", "ortools", *HEAVY}
    assert breaches([f for f in found if room_of(f.by) == "cli"], heavy, {"cli"}, False) == []
    light = {"planner.errors", "planner.cli"}
    early = [
        str(f)
        for f in found
        if room_of(f.by) == "cli"
        and f.where == "top"
        and f.module.startswith("planner.")
        and ".".join(f.module.split(".")[:2]) not in light
    ]
    assert early == []


def test_files_are_touched_in_one_room_only():
    outside = [
        str(call)
        for call in calls(ROOT)
        if room_of(call.by) != "files"
        and (
            call.name in ("open", "io.open", "os.replace", "os.rename", "os.remove", "os.makedirs")
            or ("." in call.name and call.name.rsplit(".", 1)[-1] in WRITES_AND_READS)
        )
    ]
    assert outside == []


def test_nothing_prints_but_the_command_line_and_the_reports():
    loud = ("print", "sys.stdout.write", "sys.stderr.write")
    assert [
        str(call)
        for call in calls(ROOT)
        if call.name in loud and room_of(call.by) not in ("cli", "report")
    ] == []


def test_no_clock_no_environment_no_unseeded_chance():
    """Same inputs and seed, same bytes."""
    wrong = []
    for call in calls(ROOT):
        name, room = call.name, room_of(call.by)
        clock = name.endswith((".now", ".utcnow", ".today")) or name.startswith("time.")
        environment = name.startswith(("os.environ", "os.getenv", "os.getcwd"))
        chance = "random." in name and not name.endswith((".default_rng", ".SeedSequence"))
        if ((clock or environment) and room != "cli") or (chance and name.startswith("np.")):
            wrong.append(str(call))
    assert wrong == []


def test_every_generator_is_given_its_seed():
    unseeded = [
        str(call)
        for call in calls(ROOT)
        if call.name.endswith("default_rng") and not call.n_positional
    ]
    assert unseeded == []


def test_no_file_over_500_lines():
    long = {
        str(path.relative_to(ROOT)): n
        for path in ROOT.rglob("*.py")
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert long == {}


def test_no_function_over_60_lines():
    long = {
        f"{name}.{function}": n
        for name, path in modules(ROOT).items()
        for function, n in function_lines(path)
        if n > 60
    }
    assert long == {}


# ---- The walker itself ---------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path) -> Path:
    """A small package with one of everything that must be seen."""
    files = {
        "__init__.py": "",
        "errors.py": "",
        "score.py": "from planner.report import table\n",
        "case.py": "import planner.plan\n",
        "plan.py": "from planner import case\n",
        "spec/__init__.py": "",
        "spec/base.py": "from ..errors import X\nfrom . import other\n",
        "spec/other.py": "def f():\n    from planner.files.text import g\n    return g\n",
        "files/__init__.py": "",
        "files/text.py": "import planner.latency.fit as fit\nopen('x')\n",
        "latency/__init__.py": "",
        "latency/fit.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import torch\nelse:\n    import botorch.fit\n"
            "def g(path):\n    import importlib\n    importlib.import_module('gpytorch')\n"
            "    return (path / 'a').read_text()\n"
        ),
        "report/__init__.py": "",
        "report/table.py": "",
    }
    root = tmp_path / "planner"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_the_walker_sees_every_stair_climbed(package):
    wrong = stairs_climbed(imports(package), "planner")
    assert wrong == [
        "planner.case:1 imports planner.plan (top)",
        "planner.files.text:1 imports planner.latency.fit (top)",
        "planner.score:1 imports planner.report.table (top)",
        "planner.spec.base:1 imports planner.errors (top)",
        "planner.spec.other:2 imports planner.files.text (function)",
    ]


def test_the_walker_tells_types_from_code(package):
    seen = {(f.module, f.where) for f in imports(package) if f.by == "planner.latency.fit"}
    assert {("torch", "types"), ("botorch.fit", "top"), ("gpytorch", "function")} <= seen
    wrong = breaches(imports(package), HEAVY, {"latency"}, at_top=False)
    assert wrong == ["planner.latency.fit:5 imports botorch.fit (top)"]
    assert len(breaches(imports(package), HEAVY, {"search"}, at_top=False)) == 3


def test_the_walker_sees_relative_imports(package):
    seen = {f.module for f in imports(package) if f.by == "planner.spec.base"}
    assert seen == {"planner.errors", "planner.spec.other"}


def test_the_walker_sees_calls(package):
    names = {(call.by, call.name) for call in calls(package)}
    assert ("planner.files.text", "open") in names
    assert ("planner.latency.fit", ".read_text") in names


def test_the_walker_counts_lines_without_the_docstring(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n')
    assert dict(function_lines(path)) == {"f": 3}
