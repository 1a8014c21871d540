"""Damaged files of AIPerf: a typed error, or figures of what is left."""

import json
import math

import pytest
from aiperf_case import (
    FOLDER,
    REQUESTS,
    SUMMARY,
    TABLE,
    column,
    expected_of,
    from_rows,
    rows_of,
    text_of,
    unequal,
)
from mutants import altered, damaged

from planner.errors import InputError
from planner.profile.formats.aiperf import parse, recognises
from planner.spec.pool import Point


def still_sound(point: Point) -> bool:
    """The first token is not after the end, and the rate is what the counts say."""
    rate_rps = (point.achieved_rps or 0) * (point.duration_s or 0)
    in_order = (point.ttft_mean_ms or 0) <= (point.e2e_mean_ms or math.inf) * (1 + 1e-6)
    return in_order and rate_rps <= (point.n_requests or math.inf) * (1 + 1e-6)


def read_damaged(files: dict[str, str], name: str, changed: str) -> Point | None:
    """The point of files with one of them changed; None when they are refused."""
    recognises(name, changed)
    try:
        readings = parse({f"{FOLDER}{k}": text for k, text in {**files, name: changed}.items()})
    except InputError:
        return None
    assert all(len(reading.points) == 1 for reading in readings)
    return readings[0].points[0]


@pytest.mark.parametrize("beside", [(), (REQUESTS,)])
def test_damaged_summaries_give_input_errors_or_sound_points(beside):
    data = json.loads(text_of("c8", SUMMARY))
    files = {name: text_of("c8", name) for name in beside}
    texts = [*altered(data, 200), *damaged(json.dumps(data), 100)]
    points = [read_damaged(files, SUMMARY, text) for text in texts]
    assert None in points
    assert all(still_sound(point) for point in points if point)
    whole = from_rows(rows_of("c8")).points[0]
    if beside:  # what the requests say does not change with the summary beside them
        assert {point.ttft_p95_ms for point in points if point} == {whole.ttft_p95_ms}


def test_damaged_requests_give_input_errors_or_figures_of_what_is_left():
    rows = rows_of("c2")[:3]
    text = "\n".join(json.dumps(row) for row in rows)
    changes = [json.loads(changed) for changed in altered(rows, 250)]
    texts = ["\n".join(json.dumps(row) for row in change) for change in changes]
    n_equal = 0
    for change, changed in zip(changes, texts, strict=True):
        point = read_damaged({}, REQUESTS, changed)
        try:
            expected = expected_of(change, 1.0)
            stamps = [row["metadata"] for row in change]
            plain = all(not s["was_cancelled"] and s["phase_kind"] != "warmup" for s in stamps)
            plain &= bool((column(change, "usage_completion_tokens") >= 1).all())
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError, RuntimeWarning):
            continue  # what the change took away, plain numpy cannot tell either
        if point is None or not plain or change == rows:
            continue
        assert unequal(point, {k: v for k, v in expected.items() if k.endswith("_ms")}) == []
        n_equal += 1
    assert n_equal > 20
    for changed in damaged(text, 100):
        point = read_damaged({}, REQUESTS, changed)
        assert point is None or still_sound(point)


def test_damaged_tables_give_input_errors_or_sound_points():
    for changed in damaged(text_of("c8", TABLE), 120):
        point = read_damaged({}, TABLE, changed)
        assert point is None or still_sound(point)
