"""A run against a pretended server: what is saved when, and how it ends when things go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import pytest

from planner.errors import InputError
from planner.profile.load.client import Endpoint
from planner.profile.load.options import SessionSettings
from planner.profile.load.prompts import Lengths
from planner.profile.load.run import Job, run

pytestmark = pytest.mark.usefixtures("short_levels")
SCRIPT = Path(__file__).parent / "fake_server.py"


@contextmanager
def server(folder: Path, **behaviour: object):
    """A pretended server in a process of its own, and its address."""
    port_file = folder / "port"
    arguments = [sys.executable, SCRIPT, port_file, json.dumps(behaviour)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as process:
        while process.poll() is None and not (port_file.exists() and port_file.read_text()):
            sleep(0.02)
        try:
            yield process, f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.kill()


class Follower:
    """Remembers what it is told, and may act when a level is finished."""

    def __init__(self, on_finished=lambda: None):
        self.steps, self.notes, self.on_finished = [], [], on_finished

    def probed(self, found):
        self.found = found

    def started(self, level, n_done, elapsed_s):
        self.steps.append(level.step)

    def moved(self, progress):
        pass

    def finished(self, done, notes):
        self.notes += notes
        self.on_finished()


def job(url: str, **settings: object) -> Job:
    given = {"input_tokens": 30, "output_tokens": 10, "time_budget_s": 600.0}
    session = SessionSettings(**{**given, **settings})
    return Job(Endpoint(url, "fake"), Lengths.fixed(30, 10), session)


@pytest.mark.slow
def test_every_level_is_saved_before_the_next_begins(tmp_path):
    saved, follower = [], Follower()
    with server(tmp_path, ttft_s=0.002, tpot_s=0.0005) as (_, url):
        result = run(
            job(url, loads=(1, 2), rates_rps=(50.0,)),
            [],
            lambda measured, found: saved.append((len(measured), len(follower.steps))),
            follower,
        )
    assert saved == [(1, 1), (2, 2), (3, 3)]
    assert [m.step for m in result.measured] == follower.steps
    assert result.stop.reason == "given"
    for m in result.measured:
        load = m.point.concurrency if m.step.mode == "closed" else m.point.offered_rps
        assert load == m.step.load
        assert m.point.ttft_mean_ms >= 2 and m.point.tpot_mean_ms >= 0.5
        assert m.point.input_tokens == 30 and m.point.output_tokens == 10


def test_kept_levels_are_not_measured_again(tmp_path):
    with server(tmp_path, ttft_s=0.002) as (_, url):
        first = run(job(url, loads=(1,)), [], lambda m, f: None, Follower())
        follower = Follower()
        again = run(job(url, loads=(1, 2)), first.measured, lambda m, f: None, follower)
    assert again.measured[0] is first.measured[0]
    assert [s.load for s in follower.steps] == [2]


@pytest.mark.slow
def test_a_server_that_goes_away_is_told_and_what_was_measured_stays(tmp_path):
    saved = []
    with server(tmp_path, ttft_s=0.002) as (process, url):

        def end():
            process.kill()
            process.wait()

        with pytest.raises(
            InputError, match=r"has gone away .*levels finished before: 1"
        ) as caught:
            run(
                job(url, loads=(1, 2)),
                [],
                lambda m, f: saved.append(len(m)),
                Follower(end),
            )
    assert saved == [1] and "the same command" in str(caught.value)


@pytest.mark.slow
def test_a_budget_too_short_for_one_level_says_what_would_do(tmp_path):
    with (
        server(tmp_path, ttft_s=0.2) as (_, url),
        pytest.raises(InputError, match="too short for one level") as caught,
    ):
        run(job(url, loads=(1,), time_budget_s=1.1), [], lambda m, f: None, Follower())
    assert "give " in str(caught.value)


def test_failures_are_counted_and_explained(tmp_path):
    follower = Follower()
    with server(tmp_path, ttft_s=0.002, fail_every=10) as (_, url):
        result = run(job(url, loads=(4,)), [], lambda m, f: None, follower)
    assert result.measured[0].point.n_failed > 0
    assert any("overloaded" in note or "503" in note for note in follower.notes)
