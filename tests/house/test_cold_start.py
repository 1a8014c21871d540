"""`rb --help` is instant: no solver, no numpy, no pydantic is loaded before a command runs."""

import json
import os
import subprocess
import sys

import pytest

SOLVERS = {"ortools", "torch", "botorch", "gpytorch", "pandas", "scipy"}
HEAVY = SOLVERS | {"aiohttp", "numpy", "pydantic", "yaml"}

AFTERWARDS = """
import json, sys
from planner.cli.app import run
code = run({arguments!r})
print(json.dumps([code, sorted({{name.split(".")[0] for name in sys.modules}})]), file=sys.stderr)
"""


def loaded_by(arguments: list[str]) -> tuple[int, set[str]]:
    """The exit code of `rb` in a fresh interpreter, and the packages that it has loaded."""
    script = AFTERWARDS.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["--help"], HEAVY),
        (["--version"], HEAVY),
        ([], HEAVY - {"pydantic"}),  # the greeting
        (["plan", "--help"], HEAVY - {"pydantic"}),  # typer itself takes it to read the options
        (["simulate", "--help"], HEAVY - {"pydantic"}),
        (["check", "--help"], HEAVY - {"pydantic"}),
        (["serve", "--help"], HEAVY - {"pydantic"}),
        (["drift", "--help"], HEAVY - {"pydantic"}),
        (["diff", "--help"], HEAVY - {"pydantic"}),
        (["export", "--help"], HEAVY - {"pydantic"}),
        (["report", "--help"], HEAVY - {"pydantic"}),
        (["completion", "--help"], HEAVY - {"pydantic"}),
        (["profile", "--help"], HEAVY - {"pydantic"}),
        (["profile", "import", "--help"], HEAVY - {"pydantic"}),
        (["profile", "run", "--help"], HEAVY - {"pydantic"}),
        (["profile", "estimate", "--help"], HEAVY - {"pydantic"}),
        (["profile", "gpu", "--help"], HEAVY - {"pydantic"}),
        (["profile", "show", "--help"], HEAVY - {"pydantic"}),
        (["router", "--help"], HEAVY - {"pydantic"}),
        (["router", "collect", "--help"], HEAVY - {"pydantic"}),
        (["router", "import", "--help"], HEAVY - {"pydantic"}),
        (["router", "train", "--help"], HEAVY - {"pydantic"}),
        (["router", "eval", "--help"], HEAVY - {"pydantic"}),
        (["router", "show", "--help"], HEAVY - {"pydantic"}),
        (["router", "next", "--help"], HEAVY - {"pydantic"}),
        (["schema", "--help"], HEAVY - {"pydantic"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_loads_nothing_heavy(arguments, refused):
    code, names = loaded_by(arguments)
    assert code == 0
    assert "typer" in names
    assert names & refused == set()


def test_a_schema_loads_no_solver():
    code, names = loaded_by(["schema", "question"])
    assert code == 0
    assert "pydantic" in names  # the probe does see what a command loads
    assert names & SOLVERS == set()


def test_a_faulty_question_is_refused_without_torch(tmp_path):
    code, names = loaded_by(["plan", str(tmp_path)])
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
