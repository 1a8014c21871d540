"""`rb --help` is instant: no solver, no numpy, no pydantic is loaded before a command runs."""

import json
import os
import subprocess
import sys

import pytest

SOLVERS = {"ortools", "torch", "botorch", "gpytorch", "pandas", "scipy"}
HEAVY = SOLVERS | {"aiohttp", "numpy", "pydantic", "yaml"}

# Modules stay loaded: what one command must not load, none of those before it may have loaded.
AFTER_EACH = """
import json, sys
from planner.cli.app import run
for arguments in {runs!r}:
    code = run(arguments)
    names = sorted({{name.split(".")[0] for name in sys.modules}})
    print(json.dumps([code, names]), file=sys.stderr)
"""

COMMANDS = [
    "plan", "simulate", "check", "serve", "drift", "diff", "export", "report", "completion",
    "profile", "profile import", "profile run", "profile estimate", "profile gpu", "profile show",
    "router", "router collect", "router import", "router train", "router eval", "router show",
    "router next", "schema",
]  # fmt: skip
HELP = [
    (["--help"], HEAVY),
    (["--version"], HEAVY),
    ([], HEAVY - {"pydantic"}),  # the greeting
    *(([*words.split(), "--help"], HEAVY - {"pydantic"}) for words in COMMANDS),  # typer takes it
]


def loaded_by(*runs: list[str]) -> list[tuple[int, set[str]]]:
    """The exit code of each `rb` in one fresh interpreter, and the packages loaded by then."""
    script = AFTER_EACH.format(runs=runs)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    told = (json.loads(line) for line in done.stderr.splitlines() if line.startswith("["))
    return [(code, set(names)) for code, names in told]


@pytest.fixture(scope="module")
def help_runs() -> dict[str, tuple[int, set[str]]]:
    """What the runs of HELP loaded, one after the other, by their arguments."""
    runs = [arguments for arguments, _ in HELP]
    return dict(zip(map(" ".join, runs), loaded_by(*runs), strict=True))


@pytest.mark.parametrize(
    ("arguments", "refused"),
    HELP,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_loads_nothing_heavy(help_runs, arguments, refused):
    code, names = help_runs[" ".join(arguments)]
    assert code == 0
    assert "typer" in names
    assert names & refused == set()


def test_a_schema_loads_no_solver():
    [(code, names)] = loaded_by(["schema", "question"])
    assert code == 0
    assert "pydantic" in names  # the probe does see what a command loads
    assert names & SOLVERS == set()


def test_a_faulty_question_is_refused_without_torch(tmp_path):
    [(code, names)] = loaded_by(["plan", str(tmp_path)])
    assert code == 2
    assert names & {"torch", "botorch", "gpytorch"} == set()


def cpu_s(arguments: list[str]) -> float:
    """The processor time, user and system, of one fresh interpreter, in seconds."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, devnull, 1)],
        )
        _, status, usage = os.wait4(child, 0)
    finally:
        os.close(devnull)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_utime + usage.ru_stime


def test_help_takes_at_most_twice_what_its_libraries_take():
    """Alternating runs, the least of each: what other processes do can only add to it."""
    ours, theirs = [], []
    for _ in range(7):
        theirs.append(cpu_s(["-c", "import typer, rich"]))
        ours.append(cpu_s(["-m", "planner", "--help"]))
    assert min(ours) <= 2 * min(theirs)
