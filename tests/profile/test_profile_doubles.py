"""One measurement told by two files counts once; repeats of a load count as often as measured."""

from planner.profile.doubles import load_as_set, same_measurement, without_doubles
from planner.spec.pool import Point

FULL = Point(
    input_tokens=100.1,
    output_tokens=64,
    mode="closed",
    concurrency=8,
    output_tokens_per_s=1204.8,
    ttft_mean_ms=186.4321,
    ttft_p99_ms=268.1234,
    tpot_mean_ms=3.08712,
    e2e_mean_ms=380.9,
    n_requests=20,
    duration_s=1.0624,
    source="run.jsonl",
)
ROUNDED = Point(  # the same run in a table of two decimals, without some columns
    input_tokens=100.1,
    output_tokens=64,
    mode="closed",
    concurrency=8,
    ttft_mean_ms=186.43,
    ttft_p99_ms=268.12,
    tpot_mean_ms=3.09,
    n_requests=20,
    source="run.csv",
)


def changed(point: Point, **figures: object) -> Point:
    return point.model_copy(update=figures)


def test_rounding_makes_no_other_measurement():
    assert same_measurement(FULL, ROUNDED)
    assert same_measurement(ROUNDED, FULL)


def test_one_figure_that_differs_makes_another_measurement():
    for field in ("ttft_mean_ms", "tpot_mean_ms", "concurrency", "input_tokens", "n_requests"):
        other = changed(ROUNDED, **{field: getattr(ROUNDED, field) * 1.05})
        assert not same_measurement(FULL, other), field
    assert not same_measurement(FULL, changed(ROUNDED, mode="batch"))


def test_few_figures_prove_nothing_unless_all_is_equal():
    bare = Point(input_tokens=9, output_tokens=9, mode="closed", concurrency=2, source="a")
    assert same_measurement(bare, bare)
    assert not same_measurement(bare, changed(bare, source="b"))
    two = changed(bare, ttft_mean_ms=3.0, tpot_mean_ms=2.0)
    assert not same_measurement(two, changed(two, source="b"))


def test_the_file_with_more_figures_stays_whatever_its_place():
    for runs in ([("a/run.csv", [ROUNDED]), ("a/run.jsonl", [FULL])],):
        kept, remarks = without_doubles(runs)
        assert kept == [[], [FULL]]
        assert remarks == ["run.csv: its load level is in run.jsonl too and counted once"]
        kept, _ = without_doubles(runs[::-1])
        assert kept == [[FULL], []]


def test_repeats_inside_one_run_stay():
    kept, remarks = without_doubles([("a.json", [FULL, FULL])])
    assert (kept, remarks) == ([[FULL, FULL]], [])


def test_loads_at_the_edge_of_a_step_are_still_met():
    """Two near loads may fall into neighbouring steps of the scale that is searched."""
    for i in range(200):
        load = 8 * 1.0003**i
        near = changed(FULL, concurrency=load * 1.0009, source="b")
        kept, _ = without_doubles([("a", [changed(FULL, concurrency=load)]), ("b", [near])])
        assert sum(map(len, kept)) == 1, load


def test_a_conversion_is_told_by_its_means_whoever_counted_the_tokens():
    converted = changed(FULL, output_tokens=69.5, tpot_mean_ms=2.8, ttft_p99_ms=261.0, n_requests=9)
    kept, remarks = without_doubles([("stage.json", [FULL]), ("report.yaml", [converted])])
    assert kept == [[FULL], []] and len(remarks) == 1
    otherwise = changed(converted, mode="open", concurrency=None, offered_rps=20.0)
    assert same_measurement(FULL, otherwise)
    repeat = changed(converted, e2e_mean_ms=380.9 * 1.0001)
    assert not same_measurement(FULL, repeat)


def test_several_copies_are_told_once_per_file():
    levels = [changed(FULL, concurrency=c, source=f"{c}") for c in (1.0, 2.0, 4.0)]
    kept, remarks = without_doubles([("x/a.json", levels), ("y/a.json", levels), ("b", levels[:1])])
    assert [len(points) for points in kept] == [3, 0, 0]
    assert remarks == [
        "a.json: 3 load levels are in x/a.json too and counted once",
        "b: its load level is in a.json too and counted once",
    ]


def test_load_as_set_a_point():
    assert load_as_set(FULL) == 8
    assert load_as_set(changed(FULL, mode="open", offered_rps=None, achieved_rps=3.0)) == 3.0
    assert load_as_set(changed(FULL, mode="open", offered_rps=5.0, achieved_rps=3.0)) == 5.0
