"""A page of metrics read, and what was counted between two of them."""

from __future__ import annotations

import pytest
from made_pages import Seen, page_text

from planner.drift.observed import observe
from planner.drift.page import Page, read_page, since
from planner.errors import InputError

HASH = "b" * 64


def page(*seen: Seen, **changes: object) -> Page:
    return read_page(page_text(list(seen), HASH, **changes), "page")  # type: ignore[arg-type]


def total(found: Page, name: str) -> float:
    return sum(value for _, value in found.samples(name))


def test_counts_are_read_with_their_labels_and_time() -> None:
    found = page(Seen("chat", "small", 90, n_error=10))
    assert found.plan_hashes == (HASH,)
    assert found.seconds == 3600.0
    samples = {labels["outcome"]: value for labels, value in found.samples("rb_requests_total")}
    assert samples == {"ok": 90.0, "error": 10.0, "cancelled": 0.0}
    assert total(found, "process_cpu_seconds_total") == 0.0  # is not ours


@pytest.mark.parametrize(
    ("line", "labels", "value"),
    [
        ('rb_x_total{a="1",b="2"} 3', {"a": "1", "b": "2"}, 3.0),
        (
            'rb_x_total{a="}, \\"quoted\\" \\\\ and\\nnew"} 1e3',
            {"a": '}, "quoted" \\ and\nnew'},
            1000.0,
        ),
        ("rb_x_total 7", {}, 7.0),
        ("rb_x_total{} 7 1700000000", {}, 7.0),
        ('rb_x_total{a="1",} 2.5 # {trace="x"} 1.0', {"a": "1"}, 2.5),
    ],
)
def test_lines_as_the_formats_allow_them(line: str, labels: dict[str, str], value: float) -> None:
    found = read_page(f"{page_text([], HASH)}{line}\n", "page")
    assert list(found.samples("rb_x_total")) == [(labels, value)]


@pytest.mark.parametrize(
    "line", ["rb_x_total", "rb_x_total NaN", "rb_x_total{a=1", "rb_x_total -3"]
)
def test_lines_that_say_nothing_are_left_out(line: str) -> None:
    found = read_page(f"{page_text([], HASH)}{line}\n", "page")
    assert list(found.samples("rb_x_total")) == []


@pytest.mark.parametrize(
    "text", ["", "vllm:num_requests_running 3\n", 'rb_plan_info{plan_hash=""} 1\n', "<html>"]
)
def test_any_other_page_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no page of metrics of rb serve"):
        read_page(text, "page")


def test_a_page_of_no_time_is_refused() -> None:
    with pytest.raises(InputError, match="covers no time"):
        page(scrape_s=1_000.0)


def test_several_workers_add_up_over_their_mean_time() -> None:
    first = page_text([Seen("chat", "small", 30)], HASH, start_s=0.0, scrape_s=100.0)
    second = page_text([Seen("chat", "small", 20)], HASH, start_s=40.0, scrape_s=100.0, worker="1")
    found = read_page(first + second, "page")
    assert total(found, "rb_requests_total") == 50.0
    assert found.seconds == 80.0
    assert observe(found).n_offered == {"chat": 50.0}


def test_between_two_looks_only_what_is_new_counts() -> None:
    latency = {"e2e": {1.0: 5, 2.0: 9}}
    more = {"e2e": {1.0: 25, 2.0: 49}}
    before = page(Seen("chat", "small", 10, latency_s=latency), scrape_s=2_000.0)
    now = page(Seen("chat", "small", 50, n_error=2, latency_s=more), scrape_s=2_600.0)
    found = observe(now, before)
    assert found.seconds == 600.0
    cell = found.cells["chat", "small"]
    assert (cell.n_ok, cell.n_error) == (40.0, 2.0)
    assert (cell.output_tokens.n, cell.output_tokens.mean) == (40.0, pytest.approx(200.0))
    seen = cell.latency["e2e"]
    assert (seen.n, seen.above_ms(1_000.0), seen.above_ms(2_000.0)) == (40.0, (20, 20), (0, 0))


def test_a_restarted_worker_counts_from_its_start() -> None:
    before = page(Seen("chat", "small", 10), start_s=0.0, scrape_s=1_000.0)
    now = page(Seen("chat", "small", 50), start_s=1_100.0, scrape_s=1_600.0)
    found = since(now, before)
    assert found.seconds == 500.0
    assert total(found, "rb_answers_with_usage_total") == 50.0


def test_a_worker_with_another_plan_counts_from_its_reload() -> None:
    """Other limits, other buckets: what the plan of before answered counts for nothing."""
    before = page(Seen("chat", "small", 10, latency_s={"e2e": {1.0: 5}}), scrape_s=2_000.0)
    new = Seen("chat", "small", 30, latency_s={"e2e": {1.5: 20}})
    now = page(new, start_s=2_200.0, scrape_s=2_500.0)
    for found in (observe(now), observe(now, before)):
        cell = found.cells["chat", "small"]
        assert (found.seconds, cell.n_ok, cell.latency["e2e"].n) == (300.0, 30.0, 30.0)
        assert cell.latency["e2e"].above_ms(1_500.0) == (10.0, 10.0)


def test_an_earlier_page_must_be_earlier() -> None:
    early, late = page(scrape_s=2_000.0), page(scrape_s=3_000.0)
    with pytest.raises(InputError, match="must be later"):
        since(early, late)
    with pytest.raises(InputError, match="must be later"):
        since(late, late)


def test_refused_requests_are_traffic_only_where_there_was_no_room() -> None:
    found = observe(
        page(
            Seen("chat", "small", 80),
            refused={("chat", "capacity"): 20, ("chat", "invalid_header"): 5, ("", "x"): 7},
        )
    )
    assert found.n_offered == {"chat": 100.0}
    assert found.n_overloaded == {"chat": 20.0}
    assert found.n_requests == 100.0


def test_buckets_between_which_a_value_lies() -> None:
    latency = {"e2e": {1.0: 50, 2.0: 90, 4.0: 99}}
    seen = observe(page(Seen("chat", "small", 100, latency_s=latency))).cells["chat", "small"]
    e2e = seen.latency["e2e"]
    assert e2e.edges_ms(50) == (0.0, 1_000.0)
    assert e2e.edges_ms(51) == (1_000.0, 2_000.0)
    assert e2e.edges_ms(100) == (4_000.0, float("inf"))
    assert e2e.above_ms(1_500.0) == (10.0, 50.0)  # not a bound: between what its neighbours say
    assert e2e.above_ms(9_000.0) == (0.0, 1.0)
