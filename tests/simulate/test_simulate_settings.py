"""Settings refuse what no engine can be."""

from dataclasses import replace

import pytest

from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens

STEPS = StepTimes((5, 10, 15), (0, 1, 2), prompt_token_ps=3, attention_ps=4)
SETTINGS = EngineSettings(STEPS, max_num_seqs=2, max_num_batched_tokens=8, kv_blocks=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_num_seqs": 3}, "max_num_seqs \\+ 1 = 4 entries, got 3"),
        ({"max_num_seqs": 0}, "max_num_seqs is at least 1, got 0"),
        ({"max_num_batched_tokens": 1}, "max_num_batched_tokens is at least max_num_seqs"),
        ({"kv_blocks": 0}, "kv_blocks is at least 1"),
        ({"block_tokens": 0}, "block_tokens is at least 1"),
        ({"n_ranks": 0}, "n_ranks is at least 1"),
        ({"prefill": "never"}, "prefill is chunked, pausing or elsewhere, got 'never'"),
        ({"waiting_ratio": -0.1}, "not negative"),
        ({"waiting_ratio": float("nan")}, "not negative"),
        ({"most_decode_steps": -1}, "not negative"),
        ({"lag_steps": 2}, "lag_steps is 0 or 1, got 2"),
    ],
    ids=str,
)
def test_impossible_engines(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"decode_ps": (5, 10)},
        {"decode_ps": (5,), "context_ps": (0,)},
        {"decode_ps": (5, -10, 15)},
        {"context_ps": (0, -1, 2)},
        {"prompt_token_ps": -1},
        {"attention_ps": -1},
    ],
    ids=str,
)
def test_impossible_steps(change):
    with pytest.raises(ValueError, match=r"as long as one another|no negative time"):
        replace(STEPS, **change)


def test_a_slower_engine_is_slower_in_all_it_does():
    assert STEPS.scaled(1.5) == StepTimes((8, 15, 22), (0, 2, 3), 4, 6)  # halves go to even
    assert STEPS.scaled(1.0) == STEPS


@pytest.mark.parametrize(
    "rows", [([4], [5], [1]), ([4], [0], [1]), ([4], [4], [0]), ([4, 4], [4], [1])], ids=str
)
def test_impossible_requests(rows):
    with pytest.raises(ValueError, match=r"fresh|one entry per request"):
        Tokens(*rows)


def test_a_request_that_may_not_come_has_no_tokens():
    assert Tokens([0, 4], [0, 1], [0, 1]).output == [0, 1]


def test_nothing_has_happened_yet():
    assert Times.none_yet(2) == Times([-1, -1], [-1, -1], [0, 0])
