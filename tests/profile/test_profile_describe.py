"""Points as a table for people."""

from planner.profile.describe import rows
from planner.spec.pool import Point

CLOSED = Point(
    input_tokens=100.123,
    output_tokens=64,
    mode="closed",
    concurrency=8,
    ttft_p50_ms=0.0123456,
    e2e_mean_ms=12345.6,
    n_failed=0,
    source="a",
)
OPEN = Point(input_tokens=7, output_tokens=1000, mode="open", offered_rps=2.5, source="b")


def test_columns_are_those_that_were_measured_with_units():
    table = rows([CLOSED, OPEN])
    assert [list(row) for row in table] == [
        [
            "mode",
            "input (tokens)",
            "output (tokens)",
            "in flight (requests)",
            "offered (requests/s)",
            "TTFT p50 (ms)",
            "E2E mean (ms)",
            "failed (requests)",
            "origin",
            "source",
        ]
    ] * 2


def test_numbers_have_four_digits_and_blanks_mean_not_measured():
    first, second = rows([CLOSED, OPEN])
    assert list(first.values()) == [
        "closed", "100.1", "64", "8", "", "0.01235", "12346", "0", "measured", "a",
    ]  # fmt: skip
    assert list(second.values()) == ["open", "7", "1000", "", "2.5", "", "", "", "measured", "b"]


def test_no_points_no_rows():
    assert rows([]) == []
