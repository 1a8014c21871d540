"""`rb serve` as a shell runs it: faults, answers, reloads, the end."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPException
from importlib import util
from pathlib import Path

import pytest
from hand_plan import ROOT
from serving import PATIENCE_S, POOLS, ROUTES, ask, engine, job, plan_folder, serving, until

from planner.cli import serve_options
from planner.cli.serve_files import Reloader, plan_words
from planner.cli.serve_watch import EVERY_S
from planner.errors import InputError
from planner.quality.graders import KINDS
from planner.runtime.ranks import RANK_POLICIES
from planner.scheduling.least_delay import NAMES
from planner.scheduling.routebalance import PRESETS

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def unserved(monkeypatch, rb):
    """Returns rb that must not come so far as to serve, which would not end."""

    def reached(*_: object) -> int:
        raise AssertionError("it would be served")

    monkeypatch.setattr("planner.cli.serve._run", reached)
    return rb


# ---- What is wrong is told before anything is served ---------------------------------------------


def test_every_fault_of_every_file_is_told_at_once(unserved, tmp_path):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    (folder / "routes.json").write_text("{}")
    (folder / "endpoints.yaml").write_text("a: ftp://x\nb: {url: http://h, colour: red}\n")
    ran = unserved("serve", str(folder))
    assert (ran.code, ran.out) == (2, "")
    for place in ("routes.json:classes", "endpoints.yaml:a", "endpoints.yaml:b.colour"):
        assert place in ran.err
    assert ran.err.count("fix: ") >= 4


@pytest.mark.parametrize(
    ("endpoints", "wrong"),
    [
        (None, "plan/endpoints.yaml: file not found\n  fix: write a line 'POOL: http://HOST:PORT'"),
        (f"{POOLS[0]}: {NOWHERE}\n{POOLS[1]}: {NOWHERE}\n", f"endpoints.yaml:{POOLS[2]}: has no"),
        (
            "".join(f"{pool}: {NOWHERE}\n" for pool in (*POOLS, "nobody")),
            "endpoints.yaml:nobody: is no pool and no model of the plan",
        ),
        (
            "".join(f"{pool}: {{url: '{NOWHERE}', api_key_env: NO_SUCH}}\n" for pool in POOLS),
            f"endpoints.yaml:{POOLS[0]}.api_key_env: names a variable that is not set, got NO_SUCH",
        ),
    ],
    ids=["missing", "a pool without", "a stranger", "no key"],
)
def test_endpoints_must_fit_the_plan(unserved, tmp_path, endpoints, wrong):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    (folder / "endpoints.yaml").unlink()
    if endpoints is not None:
        (folder / "endpoints.yaml").write_text(endpoints)
    ran = unserved("serve", str(folder), "--port", "0")
    assert ran.code == 2 and wrong in ran.err


@pytest.mark.parametrize("key", ["abc\n", " abc", "a\x7fbc", "abc\u00e9", "abc\udcff"])
def test_keys_that_no_header_can_carry_are_told_at_the_start(unserved, tmp_path, monkeypatch, key):
    """E.g. of a file that ends in a line end; the key itself is never shown."""
    monkeypatch.setenv("SOME_KEY", key)
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    ran = unserved("serve", str(folder), "--port", "0", "--api-key-env", "SOME_KEY")
    assert ran.code == 2
    assert "--api-key-env: names a variable whose key no header can carry, got SOME_KEY" in ran.err
    (folder / "endpoints.yaml").write_text(
        "".join(f"{pool}: {{url: '{NOWHERE}', api_key_env: SOME_KEY}}\n" for pool in POOLS)
    )
    told = unserved("serve", str(folder), "--port", "0")
    assert told.code == 2 and told.err.count(".api_key_env: names a variable whose key") == 3
    assert "abc" not in ran.err + told.err


def test_a_sheet_of_another_plan_is_refused(unserved, tmp_path):
    folder = plan_folder(tmp_path / "plan", NOWHERE, with_sheet=True)
    edit(folder / "routes.json", plan_hash="ab" * 32)
    ran = unserved("serve", str(folder), "--port", "0")
    assert ran.code == 2 and "serving.json" in ran.err and "rb plan" in ran.err


def test_a_port_in_use_is_told(unserved, tmp_path):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            ran = unserved("serve", str(folder), "--port", str(port), "--workers", workers)
            assert (ran.code, ran.out) == (2, "")
            assert f"127.0.0.1:{port}: cannot be listened on: Address already in use" in ran.err


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--policy", "best"], "best is not one of least_delay, "),
        (["--route-by", "luck"], "luck is not one of shares, prices"),
        (["--route-by", "prices"], "needs"),
        (["--drain-s", "0"], "must lie above 0"),
        (["--answered-by", "me"], "me is not one of exact"),
        (["--otlp", "localhost:4318"], "is no address such as"),
        (["--api-key-env", "NO_SUCH"], "names a variable that is not set, got NO_SUCH"),
        (["--shadow"], "--shadow: has nowhere to write"),
        (["--watch"], "stdout is no terminal"),
        (["--log", "no/such/folder/log"], "no/such/folder/log: cannot be written"),
        (["--host", "203.0.113.1"], "cannot be listened on"),
        (["--host", "no-such-host.invalid"], "cannot be listened on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_are_checked(unserved, tmp_path, arguments, wrong):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    ran = unserved("serve", str(folder), "--port", "0", *arguments)
    assert ran.code == 2 and wrong in ran.err.replace("\n", " "), ran.err


def test_traces_without_their_extra_name_it(unserved, tmp_path, monkeypatch):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    ran = unserved("serve", str(folder), "--otlp", "http://localhost:4318")
    assert ran.code == 2 and "rb-planner[otel]" in ran.err


def test_the_names_in_the_options_are_those_that_there_are():
    assert serve_options.POLICIES == NAMES
    assert serve_options.RANK_POLICIES == RANK_POLICIES
    assert serve_options.GRADERS == KINDS
    presets = {f"routebalance:{name}" for name in PRESETS}
    assert set(serve_options.ROUTINGS) == {"shares", "prices", *presets}


# ---- What has changed ----------------------------------------------------------------------------


def test_fewer_servers_than_replicas_are_told(tmp_path):
    """The plan has two replicas of each large pool, and one server stands for each pool here."""
    folder = plan_folder(tmp_path / "plan", "http://127.0.0.1:9", with_sheet=True)
    setup = Reloader(job(folder)).setup
    sheet = setup.sheet
    assert sheet is not None
    many = [name for name, pool in sheet.pools.items() if pool.n_replicas > 1]
    told = plan_words(setup).partition("; fewer than planned: ")[2]
    assert told == ", ".join(f"{name} has 1 of {sheet.pools[name].n_replicas}" for name in many)
    assert len(many) == 2


def test_files_are_taken_once_they_stand_still(tmp_path):
    folder = plan_folder(tmp_path / "plan", NOWHERE)
    reloader = Reloader(job(folder))
    assert not reloader.poll()
    for size in (10, 20, 30):  # it is being written
        (folder / "routes.json").write_bytes(ROUTES.read_bytes()[:size])
        assert not reloader.poll()
    assert reloader.poll()
    with pytest.raises(InputError, match=re.escape("routes.json")):
        reloader.take()
    assert reloader.setup.routes.plan_hash == json.loads(ROUTES.read_text())["plan_hash"]
    assert not reloader.poll()  # a broken file is told of once
    (folder / "routes.json").write_bytes(ROUTES.read_bytes())
    assert [reloader.poll(), reloader.poll()] == [False, True]
    assert reloader.take() is reloader.setup
    (folder / "serving.json").write_text("{}")  # one that was not there before
    assert [reloader.poll(), reloader.poll()] == [False, True]
    (folder / "serving.json").unlink()
    assert [reloader.poll(), reloader.poll()] == [False, False]  # all is as it was taken
    routes, other = folder / "routes.json", folder / "other.json"
    other.write_bytes(ROUTES.read_bytes())
    os.utime(other, ns=(0, routes.stat().st_mtime_ns))
    other.replace(routes)  # another file of the same size and time
    assert [reloader.poll(), reloader.poll()] == [False, True]
    reloader.take()
    os.utime(routes, ns=(0, 0))  # written anew in place
    assert [reloader.poll(), reloader.poll()] == [False, True]


# ---- Served --------------------------------------------------------------------------------------


def edit(path: Path, **changes: object) -> None:
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **changes}))


def test_a_plan_is_served_and_read_anew(tmp_path):
    log = tmp_path / "log.jsonl"
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), "--log", str(log)) as rb,
    ):
        routes = tmp_path / "plan" / "routes.json"
        old_hash = json.loads(routes.read_text())["plan_hash"]
        assert rb.lines == [
            f"serving at http://127.0.0.1:{rb.port}/v1",
            f"plan {old_hash[:12]}: 3 pools on 3 servers, without serving.json",
        ]
        assert "note: there is no serving.json" in rb.err
        status, headers = rb.ask("rb/crux")
        assert status == 200
        assert (headers["x-rb-pool"], headers["x-rb-plan"]) == (POOLS[2], old_hash[:12])
        assert upstream.asked == {POOLS[2]: 1}
        assert rb.count("rb_requests_total", rb_class="crux", rb_pool=POOLS[2], outcome="ok") == 1
        assert rb.count("rb_planned_share", rb_class="crux", rb_pool=POOLS[2]) == 1.0

        # Another plan: crux goes to the small model.
        classes = json.loads(routes.read_text())["classes"]
        classes["crux"] = [{"pool": POOLS[1], "share": 1.0}]
        edit(routes, classes=classes, plan_hash="cd" * 32)
        told = f"read anew: plan {'cd' * 6}: 3 pools on 3 servers"
        until(lambda: told in rb.err, "the new plan is read")  # nobody asks while plans change
        headers = rb.ask("rb/crux")[1]
        assert (headers["x-rb-pool"], headers["x-rb-plan"]) == (POOLS[1], "cd" * 6)
        assert rb.count("rb_plan_info", plan_hash="cd" * 32) == 1
        # What the old plan has answered is not counted for the new one.
        assert rb.count("rb_requests_total") == 1
        assert rb.count("rb_requests_total", rb_pool=POOLS[1]) == 1
        assert rb.count("rb_reloads_total", outcome="ok") == 1

        # A broken one, which the old one outlives.
        routes.write_text(routes.read_text()[:-10])
        until(lambda: rb.count("rb_reloads_total", outcome="refused") == 1, "it is refused")
        assert "routes.json" in rb.err and f"the plan of before is kept: {'cd' * 6}" in rb.err
        assert rb.ask("rb/crux")[1]["x-rb-plan"] == "cd" * 6

        # SIGHUP reads what stands there now, without waiting for it to stand still.
        routes.write_bytes(ROUTES.read_bytes())
        rb.tell(signal.SIGHUP)
        until(lambda: rb.ask("rb/crux")[1]["x-rb-plan"] == old_hash[:12], "SIGHUP is heard")
        status, told = rb.get("/rb/status")
        assert status == 200 and json.loads(told)["reloads"]["ok"] >= 2

        rb.tell(signal.SIGINT)
        assert rb.ended() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == sum(upstream.asked.values())
    assert {line["plan"] for line in lines} == {old_hash[:12], "cd" * 6}
    assert "hello" not in log.read_text()


def test_what_is_being_answered_is_answered_to_its_end(tmp_path):
    """SIGTERM in the middle of a stream: nothing new is taken, the stream is whole, exit 0."""
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url, with_sheet=True)) as rb,
    ):
        upstream.go.clear()
        line = rb.connection()
        ask(line, "rb/gsm", stream=True)
        answer = line.getresponse()
        assert b"word0" in answer.fp.read1()
        rb.tell(signal.SIGTERM)
        until(lambda: not is_open(rb.port), "no connection is taken")
        assert "ending: what is being answered has 30 s" in rb.err
        upstream.go.set()
        rest = answer.read()
        assert b"word2" in rest and rest.endswith(b"data: [DONE]\n\n")
        line.close()
        assert rb.ended() == 0


def is_open(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path):
    with (
        engine() as upstream,
        serving(plan_folder(tmp_path / "plan", upstream.url), "--drain-s", "3600") as rb,
    ):
        upstream.go.clear()
        line = rb.connection()
        ask(line, "rb/gsm", stream=True)
        answer = line.getresponse()
        answer.fp.read1()
        rb.tell(signal.SIGTERM)
        until(lambda: re.search("again to end at once", rb.err) is not None, "it is told")
        rb.tell(signal.SIGTERM)
        assert rb.ended() == 0
        with pytest.raises((HTTPException, OSError)):
            answer.read()  # cut, and seen to be cut
        line.close()


@pytest.mark.slow
def test_a_picture_tells_where_it_is_served_and_outlives_its_terminal(tmp_path):
    ours, theirs = pty.openpty()
    with engine() as upstream:
        folder = plan_folder(tmp_path / "plan", upstream.url)
        command = [sys.executable, "-m", "planner", "serve", str(folder), "--port", "0", "--watch"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        streams = {"stdout": theirs, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, **streams) as process:
            os.close(theirs)
            try:
                shown = b""
                end_s = time.monotonic() + PATIENCE_S
                while b"serving at" not in shown or b"Shares" not in shown:
                    assert time.monotonic() < end_s, shown
                    shown += os.read(ours, 65536)
                (port,) = re.findall(rb"serving at http://127\.0\.0\.1:(\d+)/v1", shown)
                os.close(ours)
                time.sleep(2 * EVERY_S)  # pictures that nobody sees
                assert is_open(int(port)) and process.poll() is None
                process.terminate()
                assert process.wait(PATIENCE_S) == 0
                assert process.stderr.read() == b""
            finally:
                process.kill()


@pytest.mark.slow
def test_traces_go_on_in_the_engine_and_reach_the_collector(tmp_path):
    client = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with engine() as upstream:
        folder = plan_folder(tmp_path / "plan", upstream.url)
        with serving(folder, "--otlp", upstream.url) as rb:
            assert rb.ask("rb/gsm", traceparent=client, tracestate="vendor=1")[0] == 200
            rb.tell(signal.SIGTERM)
            assert rb.ended() == 0
        (head,) = upstream.heads
        version, trace_id, span_id, flags = head["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", client.split("-")[1], "01")
        assert span_id != client.split("-")[2] and head["tracestate"] == "vendor=1"
        (sent,) = upstream.traces  # what was left was sent at the end
        assert bytes.fromhex(trace_id) in sent and bytes.fromhex(span_id) in sent
        assert b"gen_ai.request.model" in sent and b"rb/gsm" in sent


@pytest.mark.slow
def test_keys_stay_on_their_side(tmp_path):
    """Clients send theirs, engines get their own, and neither sees the other's."""
    with engine() as upstream:
        folder = plan_folder(tmp_path / "plan", upstream.url)
        (folder / "endpoints.yaml").write_text(
            "".join(f"{p}: {{url: '{upstream.url}', api_key_env: ENGINE_KEY}}\n" for p in POOLS)
        )
        keys = {"ENGINE_KEY": "of-the-engine", "CLIENT_KEY": "of-the-client"}
        log = tmp_path / "log"
        arguments = ("--api-key-env", "CLIENT_KEY", "--log", str(log))
        with serving(folder, *arguments, **keys) as rb:
            assert rb.ask("rb/gsm")[0] == 401
            assert rb.ask("rb/gsm", authorization="Bearer of-the-engine")[0] == 401
            assert rb.ask("rb/gsm", authorization="Bearer of-the-client")[0] == 200
            assert rb.get("/health")[0] == 200 and rb.get("/rb/status")[0] == 401
            page = rb.get("/metrics")[1]
        assert [head["authorization"] for head in upstream.heads] == ["Bearer of-the-engine"]
        for told in (page.decode(), log.read_text(), rb.err):
            assert "of-the-" not in told


@pytest.mark.slow
def test_in_the_shadow_nothing_is_enforced(tmp_path):
    log = tmp_path / "log.jsonl"
    with engine() as upstream:
        folder = plan_folder(tmp_path / "plan", upstream.url, with_sheet=True)
        with serving(folder, "--shadow", "--log", str(log)) as rb:
            for _ in range(20):
                # The client asks for the small model; the plan would split its class.
                status, headers = rb.ask(POOLS[1], **{"x-rb-class": "gsm"})
                assert (status, headers["x-rb-pool"]) == (200, POOLS[1])
            rb.tell(signal.SIGTERM)
            assert rb.ended() == 0
        assert upstream.asked == {POOLS[1]: 20}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["pool"] for line in lines} == {POOLS[1]}
    assert {line["decided_pool"] for line in lines} > {POOLS[1]}
