"""`rb profile run`: options that are wrong, and a short run against a pretended server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest
from hand_plan import ROOT
from shell import Run

BASE = ("profile", "run", "--url", "http://127.0.0.1:9", "--model", "fake", "--gpu", "l4")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--time-budget", "soon"), "no time above zero"),
        (("--time-budget", "0s"), "no time above zero"),
        (("--loads", "1,x"), "no list of numbers"),
        (("--loads", "1.5"), "whole numbers"),
        (("--loads", "0"), "above zero"),
        (("--rate-rps", ""), "above zero"),
        (("--api", "grpc"), "not one of completions, chat"),
        (("--arrivals", "gamma:0"), "CV above zero"),
        (("--arrivals", "uniform"), "not poisson, trace or gamma:CV"),
        (("--arrivals", "trace"), "--workload FILE"),
        (("--api-key-env", "RB_NO_SUCH_VARIABLE"), "not set"),
        (("--url", "http://me:pass@host"), "no user, password or query"),
        (("--workload", "gone.csv"), "gone.csv: file not found"),
        (("--gpu", "a b"), "gpu"),
        (("--pool", "../up"), "name"),
        (("--pool", "../up", "--restart"), "name"),
        ((), "cannot connect"),
    ],
)
def test_what_is_wrong_is_said(rb: Run, more: tuple[str, ...], says: str) -> None:
    ran = rb(*BASE, *more)
    assert (ran.code, ran.out) == (2, "") and says in " ".join(ran.err.split())
    assert "Traceback" not in ran.err and "pass@" not in ran.err
    assert not Path("profiles").exists()


@pytest.fixture(scope="module")
def fake_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yields the address of a pretended server without /metrics, in a process of its own."""
    port_file = tmp_path_factory.mktemp("fake") / "port"
    script = ROOT / "tests" / "profile" / "fake_server.py"
    behaviour = json.dumps({"ttft_s": 0.002, "tpot_s": 0.0005})
    with subprocess.Popen(
        [sys.executable, script, port_file, behaviour], stdin=subprocess.PIPE
    ) as process:
        while process.poll() is None and not (port_file.exists() and port_file.read_text()):
            sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}"
        assert process.stdin is not None
        process.stdin.close()


def short(url: str, *more: str) -> tuple[str, ...]:
    asked = ("--url", url, "--input-tokens", "20", "--output-tokens", "8")
    return (*BASE, *asked, "--time-budget", "10m", *more)


@pytest.mark.usefixtures("short_levels")
def test_a_short_run(rb: Run, fake_url: str) -> None:
    ran = rb(*short(fake_url, "--loads", "2", "--rate-rps", "30", "--tensor-parallel", "2"))
    assert ran.code == 0, ran.err
    assert "fake-l4-tp2" in ran.out and "30/s" in ran.out and "2 in flight, 20 in, 8 out" in ran.err
    assert "no /metrics page" in ran.err
    # A name that nobody knows may be mistyped: it is told before the work.
    assert 0 <= ran.err.index("GPU l4 is not in") < ran.err.index("2 in flight")
    assert sorted(p.name for p in Path("profiles/fake-l4-tp2").iterdir()) == [
        "points.csv", "pool.yaml", "run.yaml",
    ]  # fmt: skip


@pytest.mark.usefixtures("short_levels")
def test_quiet_says_nothing(rb: Run, fake_url: str) -> None:
    ran = rb(*short(fake_url, "--loads", "1", "--quiet"))
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.slow
@pytest.mark.usefixtures("short_levels")
def test_a_workload_sets_the_lengths(rb: Run, fake_url: str) -> None:
    Path("requests.csv").write_text(
        "timestamp_s,input_tokens,output_tokens\n0,10,4\n0.05,30,12\n0.1,20,8\n", "utf-8"
    )
    given = ("--workload", "requests.csv", "--arrivals", "trace", "--rate-rps", "20", "--json")
    ran = rb(*short(fake_url, *given, "--pool", "mine"))
    level = json.loads(ran.out)["levels"][0]
    assert level["level"]["step"]["input_tokens"] == 20
    assert level["point"]["offered_rps"] == 20
