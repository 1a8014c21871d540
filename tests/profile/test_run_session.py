"""The plan of a profile run, played against engines whose law is known."""

from __future__ import annotations

import pytest
from run_cases import KnownEngine, failing_from, play

from planner.profile.load.options import SessionSettings
from planner.profile.load.ramp import saturation
from planner.profile.load.session import Next, next_step, second_shape

CHAT = SessionSettings(input_tokens=512, output_tokens=128)

ENGINES = {
    "64 places": KnownEngine(),
    "4 places": KnownEngine(cap=4),
    "256 places": KnownEngine(cap=256, base_ms=15, sequence_ms=0.15, root_ms=0.5),
    "one by one": KnownEngine(base_ms=0.1, sequence_ms=8.0, cap=64),
    "no /metrics": KnownEngine(cap=32, shows_queue=False),
    "noisy": KnownEngine(noise_ratio=0.02),
}


def loads(asked: list[Next], mode: str = "closed") -> list[float]:
    own = (CHAT.input_tokens, CHAT.output_tokens)
    steps = [a.step for a in asked]
    return [s.load for s in steps if s.mode == mode and (s.input_tokens, s.output_tokens) == own]


@pytest.mark.parametrize("name", ENGINES)
def test_saturation_is_found_with_few_loads(name):
    engine = ENGINES[name]
    measured, asked, stop = play(engine, CHAT)
    full = saturation(measured, CHAT)
    dense = max(
        engine.measure(asked[0].step.model_copy(update={"load": float(n)})).point.achieved_rps
        for n in range(1, 4 * engine.cap)
    )
    assert full is not None and full.max_rps == pytest.approx(dense, rel=0.1)
    assert len(asked) <= 14
    assert stop.reason == "accurate"


def test_the_order_is_ramp_contrast_confirm_refine():
    _, asked, stop = play(ENGINES["64 places"], CHAT)
    kinds = [a.why.split(",")[0].split(" now")[0] for a in asked]
    order = ["light load", "looking for saturation", "second request shape", "open loop"]
    seen = list(dict.fromkeys(kinds))
    assert seen[:4] == order and set(seen[4:]) <= {"error band"}
    assert loads(asked)[:3] == [1, 4, 16]  # steep: fourfold steps
    assert stop.reason == "accurate" and stop.band_ratio <= CHAT.max_error_ratio


def test_two_request_shapes_of_different_ratio_are_measured():
    measured, _, _ = play(ENGINES["64 places"], CHAT)
    ratios = {m.step.input_tokens / m.step.output_tokens for m in measured}
    assert max(ratios) >= 2 * min(ratios)
    other = [m.step.load for m in measured if m.step.input_tokens != CHAT.input_tokens]
    assert len(other) == 2 and min(other) == 1 and max(other) > 1


def test_open_loops_run_at_half_and_four_fifths_of_saturation():
    measured, asked, _ = play(ENGINES["64 places"], CHAT)
    full = saturation(measured, CHAT)
    assert [r / full.max_rps for r in loads(asked, "open")] == pytest.approx([0.5, 0.8], abs=0.1)


def test_the_number_that_run_together_is_read_from_the_queue():
    for cap in (4, 6, 64):
        measured, _, _ = play(KnownEngine(cap=cap), CHAT)
        full = saturation(measured, CHAT)
        assert (full.concurrency, full.queue_seen) == (cap, True)


def test_a_queue_that_nobody_shows_is_inferred_from_the_first_token():
    measured, _, _ = play(KnownEngine(cap=32, shows_queue=False), CHAT)
    full = saturation(measured, CHAT)
    assert not full.queue_seen
    assert full.concurrency == pytest.approx(32, rel=0.25)


def test_a_given_max_num_seqs_is_not_exceeded():
    settings = SessionSettings(512, 128, max_num_seqs=24)
    measured, asked, _ = play(KnownEngine(cap=64), settings)
    assert max(loads(asked)) == 24
    assert saturation(measured, settings).concurrency == 24


def test_a_server_that_falls_over_ends_the_ramp():
    measured, asked, _ = play(KnownEngine(), CHAT, change=failing_from(16))
    assert max(loads(asked)) == 16
    assert saturation(measured, CHAT).concurrency == 4


def test_a_single_slow_level_is_not_saturation():
    def slow_at_4(m):
        if m.step.load != 4:
            return m
        slow = m.point.model_copy(update={"output_tokens_per_s": m.point.output_tokens_per_s / 5})
        return type(m)(m.level, slow)

    measured = [slow_at_4(KnownEngine().measure(step)) for step in _closed(1, 4, 16)]
    assert saturation(measured, CHAT) is None


def _closed(*concurrencies):
    first = next_step([], CHAT, 0.0).step
    return [first.model_copy(update={"load": float(n)}) for n in concurrencies]


def test_the_time_budget_ends_the_run_and_names_what_is_next():
    settings = SessionSettings(512, 128, time_budget_s=35)
    measured, asked, stop = play(ENGINES["64 places"], settings, level_s=10)
    assert stop.reason == "time" and stop.would_be_next is not None
    assert all(a.at_most_s <= 35 for a in asked)
    again, _, end = play(ENGINES["64 places"], CHAT, kept=tuple(measured))
    assert [m.step for m in again[: len(measured)]] == [m.step for m in measured]
    assert stop.would_be_next == again[len(measured)].step
    assert end.reason == "accurate"


def test_the_time_is_shared_among_the_levels_to_come():
    first = next_step([], CHAT, 0.0)
    assert isinstance(first, Next)
    assert first.n_left >= 6 and first.at_most_s == pytest.approx(1800 / first.n_left)
    late = next_step([], CHAT, 1790.0)
    assert late.at_most_s < 2


def test_a_finished_run_wants_nothing_more():
    measured, _, stop = play(ENGINES["64 places"], CHAT)
    again, asked, end = play(ENGINES["64 places"], CHAT, kept=tuple(measured))
    assert asked == [] and end == stop and len(again) == len(measured)


def test_a_narrower_band_takes_more_loads():
    few, _, _ = play(ENGINES["256 places"], CHAT)
    narrow = SessionSettings(512, 128, max_error_ratio=0.04)
    more, _, stop = play(ENGINES["256 places"], narrow, kept=tuple(few))
    assert len(more) > len(few)
    assert stop.band_ratio <= play(ENGINES["256 places"], CHAT)[2].band_ratio


def test_given_loads_replace_the_plan():
    settings = SessionSettings(512, 128, loads=(8, 2, 8), rates_rps=(1.5,))
    _, asked, stop = play(ENGINES["64 places"], settings)
    assert [(a.step.mode, a.step.load) for a in asked] == [
        ("closed", 8),
        ("closed", 2),
        ("open", 1.5),
    ]
    assert stop.reason == "given" and stop.band_ratio is not None


def test_given_rates_alone_have_no_band_to_judge():
    _, _, stop = play(ENGINES["64 places"], SessionSettings(512, 128, rates_rps=(1.0, 2.0)))
    assert stop.reason == "given" and stop.band_ratio is None


def test_repeats_follow_their_load():
    settings = SessionSettings(512, 128, n_repeats=3, loads=(1, 4))
    measured, asked, _ = play(ENGINES["noisy"], settings)
    assert [(a.step.load, a.step.repeat) for a in asked] == [
        (1, 1), (1, 2), (1, 3), (4, 1), (4, 2), (4, 3),
    ]  # fmt: skip
    assert len({m.point.source for m in measured}) == 3


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((512, 128), (128, 128)),
        ((3500, 130), (875, 130)),
        ((100, 1000), (100, 250)),
        ((32, 32), (128, 32)),
    ],
)
def test_the_second_shape_differs_in_its_ratio(shape, other):
    assert second_shape(*shape) == other
    assert abs(shape[0] / shape[1] / (other[0] / other[1])) in (0.25, 4.0)
