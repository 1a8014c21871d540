"""What went wrong decides the exit code: 0 clean, 1 wanting, 2 could not judge, 70 our bug."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import planner
from planner import errors
from planner.cli import app as command_line
from planner.cli import schema
from planner.cli.app import run
from planner.errors import (
    ExitCode,
    Fault,
    FitError,
    Infeasible,
    InputError,
    MissingExtra,
    PlannerError,
)

FAULTS = [
    Fault("q.yaml", "classes[0].rate_rps", "must be above 0, got -1", "give a larger number"),
    Fault("gpus.yaml", "", "file is empty", "fill it, or delete it"),
]


ENDPOINT = ("--url", "http://127.0.0.1:9", "--model", "m", "--gpu", "g")


@pytest.fixture
def raising(monkeypatch):
    """Makes `rb schema plan` raise what it is given, deep inside."""

    def arm(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(schema, "kinds", fail)

    return arm


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError(FAULTS), 2),
        (MissingExtra("plan", "--method mobo"), 2),
        (FitError("a-pool", "has one point", "measure at concurrency 8"), 2),
        (Infeasible("p95 e2e of math", "missed by 20 %", ["budget of 40 USD/h"]), 1),
        (PlannerError("told"), 2),
        (typer.Exit(1), 1),
        (typer.Exit(0), 0),
        (typer.BadParameter("no such thing"), 2),
        (ValueError("a slip"), 70),
        (KeyError("a slip"), 70),
        (RecursionError("a slip"), 70),
        (MemoryError(), 70),
        (OSError(5, "a slip"), 70),
        (AssertionError(), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_exit_codes(raising, capsys, error, code):
    raising(error)
    assert run(["schema", "plan"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert ("Traceback" in err) == (code == 70)
    assert ("bug" in err) == (code == 70)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()], ids=repr)
def test_an_interrupt_is_told(raising, capsys, error):
    raising(error)
    assert run(["schema", "plan"]) == 130  # what shells expect after Ctrl-C
    assert capsys.readouterr().err == "interrupted; nothing was written\n"


def test_a_bug_of_ours_shows_where_and_asks_for_a_report(raising, capsys):
    raising(ZeroDivisionError("a slip"))
    assert run(["schema", "plan"]) == ExitCode.OUR_BUG
    err = capsys.readouterr().err
    assert "ZeroDivisionError: a slip" in err
    assert "test_errors.py" in err  # where it was raised
    assert f"This is a bug in rb {planner.__version__}. Please report it" in err


def test_every_fault_is_shown_at_once(raising, capsys):
    raising(InputError(FAULTS))
    assert run(["schema", "plan"]) == 2
    assert capsys.readouterr().err == (
        "q.yaml:classes[0].rate_rps: must be above 0, got -1\n"
        "  fix: give a larger number\n"
        "gpus.yaml: file is empty\n"
        "  fix: fill it, or delete it\n"
        "2 faults\n"
    )


def test_one_fault_is_not_counted(raising, capsys):
    raising(InputError(FAULTS[1:]))
    run(["schema", "plan"])
    assert capsys.readouterr().err == "gpus.yaml: file is empty\n  fix: fill it, or delete it\n"


def test_a_fault_found_twice_is_shown_once():
    assert InputError([FAULTS[0], FAULTS[1], FAULTS[0]]).faults == tuple(FAULTS)


def test_an_input_error_has_a_fault():
    with pytest.raises(ValueError, match="at least one fault"):
        InputError([])


def test_infeasible_says_what_binds_and_what_would_work():
    error = Infeasible("the budget", "short by 3 USD/h", ["budget of 33 USD/h", "p95 of 12 s"])
    assert str(error).splitlines() == [
        "no deployment meets the question: the budget",
        "  short by 3 USD/h",
        "  would work: budget of 33 USD/h",
        "  would work: p95 of 12 s",
    ]


def test_a_fit_error_names_the_file_and_the_load_to_measure_next():
    text = str(FitError("a-pool", "has one point", "measure at concurrency 8"))
    assert text.startswith("profiles/a-pool/points.csv: ")
    assert text.endswith("fix: measure at concurrency 8")


def test_a_missing_extra_says_what_to_install():
    assert "fix: pip install " in str(MissingExtra("plan", "--method mobo"))
    assert "[plan]" in str(MissingExtra("plan", "--method mobo"))


@pytest.mark.parametrize(
    "error",
    [
        InputError(FAULTS),
        MissingExtra("plan", "--method mobo"),
        FitError("p", "one load", "measure two"),
        Infeasible("p95", "2 s too slow", ["more GPUs"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_process_is_told_as_it_was(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_every_error_of_ours_has_a_code_of_ours():
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(ours) >= 5
    for error in ours:
        assert issubclass(error, PlannerError)
        assert error.exit_code in (ExitCode.FOUND_WANTING, ExitCode.COULD_NOT_JUDGE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["plan"], "Missing argument"),
        (["plan", "x", "--nonsense"], "No such option"),
        (["plan", "x", "--effort", "great"], "great is not one of quick, standard, thorough"),
        (["plan", "x", "--method", "magic"], "magic is not one of"),
        (["plan", "x", "--seed", "-1"], "--seed"),
        (["plan", "x", "--seed", "a"], "--seed"),
        (["plan", "a\x00b"], "null"),
        (["diff", "x"], "Missing argument"),
        (["schema", "nonsense"], "unknown file kind nonsense"),
        (["export", "x", "--to", "docker"], "--to"),
        (["check", "x", "--format", "pdf"], "--format"),
        (["check"], "DIR"),
        (["completion", "tcsh"], "tcsh"),
        (["profile", "nonsense"], "No such command"),
        (["profile", "run"], "Missing option"),
        (["profile", "estimate"], "Missing option"),
        (["profile", "gpu", "--device", "abacus"], "--device"),
    ],
    ids=lambda value: repr(" ".join(value)) if isinstance(value, list) else "",
)
def test_usage_errors(capsys, arguments, said):
    assert run(arguments) == ExitCode.COULD_NOT_JUDGE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "{}/nothing"],
        ["check", "{}/nothing"],
        ["simulate", "{}/nothing"],
        ["diff", "{}/nothing", "{}/nothing"],
        ["plan", "x" * 5_000],
        ["check", "x" * 5_000],
        ["diff", "x" * 5_000, "y" * 5_000],
        ["plan", "{}/file"],
        ["check", "{}/file"],
        ["diff", "{}/file", "{}/file"],
        ["check", "{}/nothing", "--against", "main:plans/x", "--policy", "{}/no.yaml"],
        ["export", "{}/nothing", "--to", "vllm"],
        ["export", "x" * 5_000, "--to", "vllm"],
        ["report", "{}/nothing"],
        ["report", "x" * 5_000],
        ["report", "{}/file"],
        ["simulate", "{}/nothing", "--from", "{}/nothing"],
        ["profile", "show", "a-pool", "--profiles", "{}/nothing"],
        ["profile", "import", "{}/nothing", "--pool", "a", "--gpu", "b"],
        ["profile", "import", "x" * 5_000, "--pool", "a", "--gpu", "b"],
        ["profile", "estimate", "--pool", "a", "--model", "b", "--gpu", "c", "--profiles", "{}/no"],
        ["profile", "run", *ENDPOINT, "--workload", "{}/nothing"],
        ["profile", "run", *ENDPOINT, "--profiles", "{}/file"],
        ["profile", "gpu", "--profiles", "{}/file"],
        ["init", "{}/file"],
        ["init", "x" * 5_000],
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_place_that_is_not_there_is_the_users_mistake(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code = run([argument.format(tmp_path) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert "\n  fix: " in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_and_version_are_clean(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"rb {planner.__version__}\n"
    for arguments in (["--help"], ["plan", "--help"], ["check", "--help"], ["diff", "--help"]):
        assert run(arguments) == 0
        assert "Usage: rb" in capsys.readouterr().out


def test_every_command_shows_an_example(capsys):
    profile = [f"profile {verb}" for verb in ("import", "run", "estimate", "gpu", "show")]
    for command in ("init", "plan", "simulate", "check", "diff", "schema", *profile):
        assert run([*command.split(), "--help"]) == 0
        assert f"Example: rb {command} " in capsys.readouterr().out


def test_main_exits_with_the_code(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rb", "schema", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    assert caught.value.code == 2


def rb(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(planner.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        text=True,
        check=False,
        env=environment,
        stderr=subprocess.PIPE,
        **options,
    )


def test_the_shell_sees_the_code(tmp_path):
    assert rb("schema", "plan", stdout=subprocess.DEVNULL).returncode == 0
    done = rb("plan", str(tmp_path), stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_fault():
    """`rb schema question | head -0`: no traceback, no complaint at exit."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = rb("schema", "question", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = rb("schema", "question", stdout=full)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "stdout: cannot be written: No space left on device" in done.stderr
