"""The log of requests: whole lines, nothing of what was said, and never in the way."""

import asyncio
import json

from made_served import served

from planner.files.serving import append_bytes
from planner.runtime import log
from planner.runtime.log import RequestLog


def test_a_line_tells_what_was_decided_and_what_became_of_it(tmp_path):
    path, told = tmp_path / "log.jsonl", []
    path.write_text('{"from": "before"}\n')
    lines = RequestLog(lambda b: append_bytes(path, b), "ab" * 32, lambda: 1000.0, told.append)

    async def write() -> None:
        lines(served(failed_tries=(("big-h100", "connect"),), decided_pool="big-h100"))
        await lines.flush()
        lines(served(outcome="refused", why="capacity", pool=None, ttft_s=None))
        await lines.flush()

    asyncio.run(write())
    before, one, other = map(json.loads, path.read_text().splitlines())
    assert before == {"from": "before"}  # it is added to, not written anew
    assert (one["time_s"], one["ttft_ms"], one["e2e_ms"]) == (998.75, 250.0, 1250.0)
    assert (one["class"], one["pool"], one["decided_pool"]) == ("math", "small-l40s", "big-h100")
    assert one["failed_tries"] == [["big-h100", "connect"]] and one["plan"] == "ab" * 6
    assert (other["outcome"], other["why"], other["pool"]) == ("refused", "capacity", None)
    assert told == []


def test_it_is_written_while_requests_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "FLUSH_S", 0.01)
    path = tmp_path / "log.jsonl"
    lines = RequestLog(lambda b: append_bytes(path, b), "", lambda: 0.0, print)

    async def write() -> None:
        task = asyncio.create_task(lines.run())
        lines(served())
        async with asyncio.timeout(5):
            while not path.exists():
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(write())
    assert len(path.read_text().splitlines()) == 1


def test_what_clients_write_is_cut(tmp_path):
    line = log.request_line(served(asked_model="m" * 10_000, request_id="r" * 10_000), 0.0, "")
    assert len(json.dumps(line)) < 2000


def test_lines_that_cannot_be_written_are_counted_and_told_once(tmp_path):
    told: list[str] = []
    lines = RequestLog(lambda b: append_bytes(tmp_path, b), "", lambda: 0.0, told.append)

    async def write() -> None:
        for _ in range(2):
            lines(served())
            lines(served())
            await lines.flush()

    asyncio.run(write())
    assert lines.n_lost == 4
    assert told == ["warning: lines of the log are lost: Is a directory"]


def test_what_waits_for_a_slow_disk_is_bounded(monkeypatch):
    monkeypatch.setattr(log, "MOST_LINES", 3)
    told: list[str] = []
    lines = RequestLog(lambda _: None, "", lambda: 0.0, told.append)
    for _ in range(5):
        lines(served())
    assert lines.n_lost == 2 and len(told) == 1
