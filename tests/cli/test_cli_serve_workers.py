"""Several workers on one port: one plan, one page, nobody missed and nobody left behind."""

import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from serving import POOLS, ROUTES, Serving, ask, engine, job, plan_folder, serving, until

from planner.cli import serve_workers
from planner.cli.serve_files import Reloader
from planner.cli.serve_run import Place
from planner.cli.serve_workers import Parent


def workers_of(rb: Serving) -> list[int]:
    """The processes that a parent has started."""
    pid = rb.process.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def folders_of_sockets() -> set[Path]:
    import tempfile

    return {path.parent for path in Path(tempfile.gettempdir()).glob("rb-*/*.sock")}


def told_by(rb: Serving) -> set[str]:
    _, page = rb.get("/metrics")
    starts = [row for row in page.decode().splitlines() if row.startswith("rb_start_time")]
    return {row.split('worker="')[1].split('"')[0] for row in starts}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_started_again(tmp_path):
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), "--workers", "2") as rb,
    ):
        assert rb.lines[0].endswith(", 2 workers")
        assert {rb.ask("rb/gsm")[0] for _ in range(20)} == {200}
        # On a busy machine a worker may not answer another in time; then it is left out.
        until(lambda: told_by(rb) == {"0", "1"}, "both tell of themselves")
        until(lambda: rb.count("rb_requests_total", outcome="ok") == 20, "all are counted")

        before = workers_of(rb)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(workers_of(rb)) == 2 and workers_of(rb) != before, "it is replaced")
        told = "ended with signal 9: started again in 0.1 s"
        until(lambda: told in rb.err, "it is told")
        until(lambda: told_by(rb) == {"0", "1"}, "both tell of themselves")
        assert {rb.ask("rb/gsm")[0] for _ in range(20)} == {200}

        rb.tell(signal.SIGTERM)
        assert rb.ended() == 0
        assert rb.err.count("ending: ") == 1


def parent_of(tmp_path, monkeypatch, work) -> tuple[Parent, list[str]]:
    """The parent of two workers that do some other work, and whether they had all begun."""
    folder = plan_folder(tmp_path / "plan", "http://127.0.0.1:9")
    begun: list[str] = []
    monkeypatch.setattr(serve_workers, "run", lambda *given: work(given[3]))
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    asked = job(folder, n_workers=2)
    parent = Parent(asked, Reloader(asked), str(sockets), lambda: begun.append("all"), None)
    return parent, begun


def test_workers_that_cannot_start_end_it(tmp_path, monkeypatch, capsys):
    parent, begun = parent_of(tmp_path, monkeypatch, lambda place: 2 + place.number)
    assert parent.run() in (2, 3)
    assert begun == []
    assert capsys.readouterr().err == ""  # whoever could not start has told why


def test_a_port_that_somebody_takes_meanwhile_is_told(tmp_path, monkeypatch, capfd):
    parent, begun = parent_of(tmp_path, monkeypatch, lambda _: 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(parent, "_job", replace(parent._job, port=port))
        assert (parent.run(), begun) == (2, [])
    assert f"127.0.0.1:{port}: cannot be listened on: " in capfd.readouterr().err


def test_a_worker_that_is_killed_as_it_starts_is_told(tmp_path, monkeypatch, capsys):
    def work(place: Place) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    parent, begun = parent_of(tmp_path, monkeypatch, work)
    assert (parent.run(), begun) == (70, [])
    assert "ended with signal 9 before all workers took requests" in capsys.readouterr().err


def test_ctrl_c_and_sighup_do_not_end_a_worker_that_starts(tmp_path, monkeypatch):
    """A terminal sends them to all; the parent says what they mean."""

    def work(place: Place) -> int:
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        return 3

    parent, _ = parent_of(tmp_path, monkeypatch, work)
    assert parent.run() == 3


def test_workers_that_die_again_and_again_are_started_later_and_later(tmp_path, monkeypatch):
    def work(place: Place) -> int:
        began = Path(place.folder) / f"{place.number}.sock"
        is_new = not began.exists()
        began.touch()
        if place.number == 0:
            time.sleep(60.0)
        elif is_new:
            time.sleep(0.5)
        return 5

    parent, begun = parent_of(tmp_path, monkeypatch, work)
    pauses: list[float] = []

    def told(text: str) -> None:
        pauses.append(float(text.partition("started again in ")[2].split()[0]))
        if len(pauses) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(parent, "_tell", told)
    monkeypatch.setattr(parent, "_mention", lambda _: None)
    assert parent.run() == 0
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    assert begun == ["all"]


@pytest.mark.slow
def test_shares_hold_over_all_workers(tmp_path):
    n, n_workers = 2000, 4
    gsm = json.loads(ROUTES.read_text())["classes"]["gsm"]
    planned = {each["pool"]: each["share"] for each in gsm}
    arguments = ("--workers", str(n_workers), "--no-admission")
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url, with_sheet=True), *arguments) as rb,
    ):
        seen: Counter[str] = Counter()
        for _ in range(n):  # each on a connection of its own, so that all workers get some
            status, headers = rb.ask("rb/gsm")
            assert status == 200
            seen[headers["x-rb-pool"]] += 1
        assert seen == upstream.asked
        for pool in POOLS:
            assert abs(seen[pool] / n - planned.get(pool, 0.0)) <= 0.01
            assert rb.count("rb_requests_total", rb_pool=pool, outcome="ok") == seen[pool]
        assert told_by(rb) == {"0", "1", "2", "3"}
        each = [rb.count("rb_requests_total", worker=str(k)) for k in range(n_workers)]
        assert sum(each) == n and min(each) > n / n_workers / 3
        status = json.loads(rb.get("/rb/status")[1])
        assert status["n_workers"] == n_workers and status["classes"][0]["n_since_start"] == n


@pytest.mark.slow
def test_all_workers_read_anew(tmp_path):
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), "--workers", "3") as rb,
    ):
        routes = tmp_path / "plan" / "routes.json"
        routes.write_text(json.dumps({**json.loads(routes.read_text()), "plan_hash": "cd" * 32}))
        until(lambda: rb.count("rb_plan_info", plan_hash="cd" * 32) == 3, "all serve it")
        until(lambda: rb.err.count(f"read anew: plan {'cd' * 6}") == 1, "it is told once")
        os.kill(workers_of(rb)[0], signal.SIGKILL)
        until(lambda: "started again" in rb.err, "a worker is started again")
        until(lambda: rb.count("rb_plan_info", plan_hash="cd" * 32) == 3, "with the new plan")
        routes.write_text("{")
        until(lambda: rb.count("rb_reloads_total", outcome="refused") == 3, "all refuse it")
        until(lambda: rb.err.count("the plan of before is kept") == 1, "it is told once")
        rb.tell(signal.SIGHUP)
        until(lambda: rb.count("rb_reloads_total", outcome="refused") == 6, "all hear SIGHUP")


@pytest.mark.slow
def test_servers_that_move_are_followed(tmp_path):
    with (
        engine() as old,
        engine() as new,
        serving(plan_folder(tmp_path / "plan", old.url), "--workers", "2") as rb,
    ):
        assert {rb.ask("rb/gsm")[0] for _ in range(10)} == {200}
        endpoints = tmp_path / "plan" / "endpoints.yaml"
        endpoints.write_text(endpoints.read_text().replace(old.url, new.url))
        until(lambda: rb.count("rb_reloads_total", outcome="ok") == 2, "both workers know")
        n_before = sum(old.asked.values())
        assert {rb.ask("rb/gsm")[0] for _ in range(10)} == {200}
        assert sum(old.asked.values()) == n_before and sum(new.asked.values()) == 10


@pytest.mark.slow
def test_without_their_parent_workers_end(tmp_path):
    before = folders_of_sockets()
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), "--workers", "2") as rb,
    ):
        workers = workers_of(rb)
        (folder,) = folders_of_sockets() - before
        assert folder.stat().st_mode & 0o077 == 0  # nobody else may look in
        rb.tell(signal.SIGKILL)
        assert rb.ended() == -signal.SIGKILL
        until(lambda: not any(map(is_alive, workers)), "the workers have ended")
        assert not folder.exists()


@pytest.mark.slow
def test_a_second_signal_ends_all_workers_at_once(tmp_path):
    arguments = ("--workers", "2", "--drain-s", "3600")
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), *arguments) as rb,
    ):
        upstream.go.clear()
        line = rb.connection()
        ask(line, "rb/gsm", stream=True)
        line.getresponse().fp.read1()
        workers = workers_of(rb)
        rb.tell(signal.SIGTERM)
        until(lambda: "again to end at once" in rb.err, "it is told")
        assert any(map(is_alive, workers))  # who streams
        rb.tell(signal.SIGTERM)
        assert rb.ended() == 0
        assert not any(map(is_alive, workers))
        line.close()
