"""The pages of a worker: /metrics against prometheus_client's parser, feedback, drift, peers."""

import asyncio
import json
from collections import Counter

import pytest
from made_served import planned, report, served
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from planner.files.plans import need_plan_and_routes
from planner.files.sheets import read_sheet
from planner.runtime.metrics import Meter, encode_report
from planner.runtime.page import Pages, render
from planner.runtime.peers import Peers, ask_now, socket_path
from planner.runtime.setup import Setup
from planner.runtime.status import decode_status, planned_of

MIXED = (
    served(),
    served(pool="big-h100", model_name="big", e2e_s=3.0, n_output=21, n_input=50),
    served(class_name=None, streamed=False),
    served(outcome="error", why="connect", failed_tries=(("small-l40s", "connect"),)),
    served(outcome="cancelled", why="client left"),
    served(outcome="refused", why="capacity", pool=None, model_name=None),
    served(pool="big-h100", escalated=True, cascade="small, then big"),
)
LABELS = {"rb_class": "math", "rb_pool": "small-l40s", "worker": "0"}


def samples(page: bytes, parser=text_string_to_metric_families) -> dict:
    """Every sample of a page by its name and labels."""
    found = [sample for family in parser(page.decode()) for sample in family.samples]
    values = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(values) == len(found)  # none is told twice
    return values


def value(values: dict, name: str, **labels: str) -> float:
    return values[name, frozenset(labels.items())]


def total(values: dict, name: str, **labels: str) -> float:
    """The sum of a name's samples that bear some labels."""
    wanted = labels.items()
    return sum(v for (n, has), v in values.items() if n == name and wanted <= has)


def test_every_promised_name_is_there():
    page, content_type = render([report(*MIXED)], planned())
    assert content_type.startswith("text/plain")
    names = {name for name, _ in samples(page)}
    latencies = ("request_duration", "time_to_first_token", "time_per_output_token")
    assert {f"gen_ai_server_{each}_seconds_bucket" for each in latencies} <= names
    counters = """requests input_tokens output_tokens answers_with_usage output_tokens_squared
        input_tokens_squared retries refused escalations"""
    assert {f"rb_{each}_total" for each in counters.split()} <= names
    gauges = """plan_info start_time_seconds scrape_time_seconds planned_share planned_rate_rps
        instance_up instance_running instance_waiting instance_predicted_delay_seconds price"""
    assert {f"rb_{each}" for each in gauges.split()} <= names


def test_outcomes_are_those_of_the_requests():
    values = samples(render([report(*MIXED)], planned())[0])
    told = Counter(record.outcome for record in MIXED)
    for outcome, n in told.items():
        assert total(values, "rb_requests_total", outcome=outcome) == n
    refused = {"rb_class": "math", "worker": "0"}
    assert value(values, "rb_refused_total", **refused, why="capacity") == 1
    assert value(values, "rb_requests_total", **LABELS, outcome="error") == 1
    assert value(values, "rb_retries_total", rb_pool="small-l40s", why="connect", worker="0") == 1
    assert value(values, "rb_escalations_total", rb_class="math", worker="0") == 1


def test_tokens_and_their_spread():
    values = samples(render([report(*MIXED)], planned())[0])
    ok = [r for r in MIXED if r.outcome == "ok"]
    assert total(values, "rb_output_tokens_total") == sum(r.n_output for r in ok)
    assert total(values, "rb_input_tokens_squared_total") == sum(r.n_input**2 for r in ok)
    assert total(values, "rb_answers_with_usage_total") == len(ok)


def test_a_limit_is_a_bucket_and_what_lies_above_it_is_counted():
    records = [served(ttft_s=s) for s in (0.1, 0.333, 0.3331, 0.9)]
    values = samples(render([report(*records, limits=(("ttft", 333.0),))], planned())[0])
    name = "gen_ai_server_time_to_first_token_seconds"
    assert total(values, f"{name}_bucket", le="0.333") == 2
    assert total(values, f"{name}_bucket", le="+Inf") == total(values, f"{name}_count") == 4
    assert total(values, f"{name}_sum") == pytest.approx(1.6661)
    series = {
        "gen_ai_operation_name": "chat",
        "gen_ai_request_model": "rb/auto",
        "gen_ai_response_model": "small",
        "gen_ai_provider_name": "rb",
    }
    assert value(values, f"{name}_count", **LABELS, **series) == 4


def test_buckets_only_grow():
    values = samples(render([report(*MIXED)], planned())[0])
    by_series: dict = {}
    for (name, labels), n in values.items():
        if name.endswith("_bucket"):
            each = dict(labels)
            end = float(each.pop("le"))
            by_series.setdefault((name, frozenset(each.items())), []).append((end, n))
    assert len(by_series) >= 5
    for buckets in by_series.values():
        counts = [n for _, n in sorted(buckets)]
        assert counts == sorted(counts)


def test_workers_are_told_apart_and_the_plan_is_told_once():
    values = samples(render([report(served()), report(*MIXED, worker=1)], planned())[0])
    assert value(values, "rb_requests_total", **LABELS, outcome="ok") == 1
    assert total(values, "rb_requests_total", worker="1") == len(MIXED)
    assert total(values, "rb_planned_share", rb_class="math") == 1.0
    assert total(values, "rb_planned_rate_rps") == 5.0
    assert total(values, "rb_plan_info", plan_hash="ab" * 32) == 2
    assert value(values, "rb_start_time_seconds", worker="1") == 1_000_000.0
    assert value(values, "rb_scrape_time_seconds", worker="1") == 1_000_030.0
    assert total(values, "rb_instance_up", instance="big-h100/0") == 0
    delays = {dict(labels)["instance"] for n, labels in values if "delay" in n}
    assert delays == {"small-l40s/0", "big-h100/0"}


def test_openmetrics_is_written_for_who_asks_for_it():
    page, content_type = render(
        [report(*MIXED)], planned(), "application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    assert total(samples(page, openmetrics), "rb_requests_total") == len(MIXED)


def test_names_that_need_escapes_survive():
    odd = 'a "model"\\with\nlines'
    values = samples(render([report(served(asked_model=odd))], planned())[0])
    models = {dict(labels).get("gen_ai_request_model") for _, labels in values}
    assert odd in models


# ---- Of a plan that is served --------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_setup(demo_folder) -> Setup:
    faults: list = []
    _, routes = need_plan_and_routes(demo_folder)
    sheet = read_sheet(demo_folder, faults)
    assert faults == []
    return Setup(routes=routes, endpoints={}, sheet=sheet)


@pytest.fixture(scope="module")
def demo_folder():
    from serving import DEMO_PLAN

    return DEMO_PLAN


def pages(setup: Setup, *records, worker: int = 0) -> tuple[Pages, Meter]:
    meter = Meter([], now_s=100.0)
    told = report(*records, worker=worker, limits=tuple(planned_of(setup).limits_ms))
    told.plan_hash = setup.routes.plan_hash
    for record in records:
        meter(record)
    return Pages(lambda: told, meter, setup), meter


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"request_id": "r-1", "score": 1}', None),
        (b'{"class": "gsm", "pool": "llama-3.1-8b-h100", "score": 0.5}', None),
        (b'{"request_id": "r-2", "score": 1}', "remembered"),
        (b'{"class": "gsm", "pool": "nobody", "score": 1}', "no such class or pool"),
        (b'{"class": "gsm", "score": 1}', "needs request_id, or class and pool"),
        (b'{"request_id": "r-1", "score": 1.5}', "0 to 1"),
        (b'{"request_id": "r-1", "score": "good"}', "not a quality sample"),
        (b'{"request_id": "r-1"}', "not a quality sample"),
        (b"score", "not a quality sample"),
        (b'{"score": 1, "x": ' + b"[" * 100_000, "not a quality sample"),
        (b'{"score": 1, "request_id": "%b"}' % (b"r" * 100_000), "not a quality sample"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_feedback_is_counted_or_told_what_is_wrong(demo_setup, body, wrong):
    page, meter = pages(demo_setup, served(class_name="gsm", pool="llama-3.1-8b-h100"))
    found = asyncio.run(page.feedback(body))
    scores = meter.counts.scores.get(("gsm", "llama-3.1-8b-h100"))
    if wrong is None:
        assert found is None and scores is not None and scores.n == 1
    else:
        assert found is not None and wrong in found and scores is None


def test_drift_is_judged_of_the_page(demo_setup):
    records = [served(class_name="gsm", pool="llama-3.1-8b-h100")] * 20
    told = json.loads(asyncio.run(pages(demo_setup, *records)[0].drift()))
    assert told["n_requests"] == 20 and told["fits"] in ("fits", "too early to tell")


def test_in_the_middle_of_a_reload_drift_is_not_judged(demo_setup):
    class Others:
        async def ask(self, _question: bytes) -> list[bytes]:
            return [encode_report(report(worker=1))]  # of another plan

    page, _ = pages(demo_setup)
    page.peers = Others()
    told = json.loads(asyncio.run(page.drift()))
    assert told["fits"] is None and len(told["notes"]) == 1


def test_without_a_sheet_drift_is_not_judged(demo_setup):
    bare = Setup(routes=demo_setup.routes, endpoints={})
    told = json.loads(asyncio.run(pages(bare)[0].drift()))
    assert told["fits"] is None and "serving.json" in told["notes"][0]


# ---- Workers ask each other ----------------------------------------------------------------------


def test_any_worker_speaks_for_all(demo_setup, socket_folder):
    async def ask() -> tuple:
        one, _ = pages(demo_setup, served(), worker=0)
        other, counted = pages(demo_setup, *MIXED, served(request_id="there"), worker=1)
        for number, each in enumerate((one, other)):
            # A third worker is to be: it does not live, and is left out.
            each.peers = Peers(socket_folder, number, 3, each.answer)
            await each.peers.start()
        try:
            page = samples((await one.metrics(""))[0])
            status = decode_status(await other.status())
            taken = await one.feedback(b'{"request_id": "there", "score": 0.5}')
            unknown = await one.feedback(b'{"request_id": "nowhere", "score": 0.5}')
            asked = await asyncio.to_thread(ask_now, socket_path(socket_folder, 1), b"status")
            nonsense = await one.peers.ask(b"nonsense")
        finally:
            for each in (one, other):
                await each.peers.close()
        return page, status, taken, unknown, asked, nonsense, counted

    page, status, taken, unknown, asked, nonsense, counted = asyncio.run(ask())
    assert total(page, "rb_requests_total") == len(MIXED) + 2
    assert status.n_workers == 2
    assert sum(c.n_since_start for c in status.classes) == len(MIXED) + 2
    assert taken is None and counted.counts.scores[("math", "small-l40s")].score == 0.5
    assert unknown is not None
    assert decode_status(asked).n_workers == 2
    assert nonsense == []


def test_a_worker_that_hangs_is_left_out(socket_folder, monkeypatch):
    monkeypatch.setattr("planner.runtime.peers.ANSWER_S", 0.05)

    async def never(_question: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def ask() -> list[bytes]:
        hung = Peers(socket_folder, 1, 2, never)
        await hung.start()
        try:
            return await Peers(socket_folder, 0, 2, never).ask(b"report")
        finally:
            await hung.close()

    assert asyncio.run(ask()) == []
    assert ask_now(socket_path(socket_folder, 1), b"report") is None  # nobody is there any more


def test_one_that_hangs_does_not_silence_the_others(demo_setup, socket_folder, monkeypatch):
    """Whoever is asked by the parent waits for it, and still answers in time."""
    monkeypatch.setattr("planner.runtime.peers.ANSWER_S", 0.2)

    async def never(_question: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def ask() -> bytes | None:
        page, _ = pages(demo_setup, served())
        page.peers, hung = (
            Peers(socket_folder, 0, 2, page.answer),
            Peers(socket_folder, 1, 2, never),
        )
        for each in (page.peers, hung):
            await each.start()
        try:
            return await asyncio.to_thread(ask_now, socket_path(socket_folder, 0), b"status")
        finally:
            for each in (page.peers, hung):
                await each.close()

    told = asyncio.run(ask())
    assert told is not None and decode_status(told).n_workers == 1


@pytest.fixture
def socket_folder():
    from planner.files.serving import private_folder, remove_folder

    folder = private_folder()
    yield folder
    remove_folder(folder)
