"""Scores as one grid: from arrays, from a scores file, and what counts as the same prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.errors import Fault
from planner.files.question import read_question
from planner.quality.scores import Scores, make_scores, scores_of

CODE = np.array([0, 1, 0])
SCORE = np.array([[1.0, 0.0], [np.nan, 0.5], [0.25, np.nan]])


def small(**more: object) -> Scores:
    return make_scores(["a", "b"], ["big", "small"], CODE, SCORE, **more)


def test_what_is_left_out_is_one_token_one_sample_and_a_numbered_prompt() -> None:
    scores = small()
    assert (scores.n_prompts, scores.n_classes, scores.n_models) == (3, 2, 2)
    assert scores.n_samples.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert scores.input_tokens.tolist() == [1.0, 1.0, 1.0]
    assert np.array_equal(np.isnan(scores.output_tokens), np.isnan(SCORE))
    assert np.nanmax(scores.output_tokens) == np.nanmin(scores.output_tokens) == 1.0
    assert len(set(scores.prompt_ids)) == 3
    assert scores.text is None and not scores.signals


def test_cells_without_a_score_have_no_tokens_and_no_samples() -> None:
    tokens, samples = np.array([[5.0, 0.0], [7.0, 9.0], [3.0, np.nan]]), np.full((3, 2), 4)
    scores = small(output_tokens=tokens, n_samples=samples)
    assert scores.output_tokens == pytest.approx(
        np.array([[5.0, 1.0], [np.nan, 9.0], [3.0, np.nan]]), nan_ok=True
    )
    assert scores.n_samples.tolist() == [[4, 4], [0, 4], [4, 0]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output_tokens": np.ones((3, 1))}, "output_tokens must be 3 x 2"),
        ({"output_tokens": np.full((3, 2), np.nan)}, "output_tokens must be a number"),
        ({"input_tokens": np.ones(2)}, "input_tokens must have 3 entries, got 2"),
        ({"text": ["one", "two"]}, "text must have 3 entries, got 2"),
        ({"signals": {"agreement": np.ones(3)}}, "agreement must be 3 x 2"),
        ({"n_samples": np.zeros((3, 2))}, "n_samples must be at least 1"),
        ({"prompt_ids": ["p1"]}, "prompt_ids must have 3 entries, got 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arrays_that_do_not_fit_are_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**more)


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_scores_outside_their_range_are_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        make_scores(["a"], ["m"], np.array([0]), np.array([[score]]))


def test_a_class_that_has_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match="index class_names"):
        make_scores(["a"], ["m"], np.array([1]), np.array([[1.0]]))


def test_prompts_are_the_same_up_to_case_and_white_space() -> None:
    texts = ["What is  2+2?", "what is\n2+2? ", "", "What is 2+3?", ""]
    score = np.zeros((5, 1))
    group = make_scores(["a"], ["m"], np.zeros(5, int), score, text=texts).group
    assert group[0] == group[1]
    assert len(set(group.tolist())) == 4  # prompts without text are told apart by their ids


def test_some_of_the_prompts_keep_their_groups() -> None:
    scores = small(text=["x", "y", "X"], signals={"agreement": SCORE})
    for rows in (np.array([2, 0]), np.array([True, False, True])):
        some = scores.take(rows)
        at = np.arange(3)[rows]
        assert some.prompt_ids == tuple(scores.prompt_ids[i] for i in at)
        assert some.text == tuple(scores.text[i] for i in at) if scores.text else False
        assert some.class_names == scores.class_names
        assert some.group[0] == some.group[1] == scores.group[0]
        for name in ("class_code", "score", "n_samples", "input_tokens", "output_tokens"):
            expected = getattr(scores, name)[at]
            assert np.array_equal(getattr(some, name), expected, equal_nan=True)
        assert np.array_equal(some.signals["agreement"], SCORE[at], equal_nan=True)


QUESTION = """
version: 1
classes: [{name: a, rate_rps: 1}, {name: b, rate_rps: 1}]
stock: {h100: 8}
score_scale: 10
scores: scores.csv
prompts: prompts.jsonl
"""


def test_a_scores_file_against_plain_loops_over_its_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = [
        (f"p{n}", "ab"[n % 2], model, k, random.integers(0, 11), 10 + n, random.integers(0, 300))
        for n in random.permutation(20).tolist()
        for model in ("big", "small")
        for k in range(int(random.integers(0, 4)))
    ]
    lines = [",".join(map(str, row)) + ("," if row[3] == 1 else f",{row[4] - 20}") for row in rows]
    header = "prompt_id,class,model_name,sample,score,input_tokens,output_tokens,signal_grade"
    (tmp_path / "scores.csv").write_text("\n".join([header, *lines]) + "\n")
    prompts = [f'{{"prompt_id": "p{n}", "text": "say {n % 7}"}}' for n in range(20)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts))
    (tmp_path / "question.yaml").write_text(QUESTION)
    faults: list[Fault] = []
    files = read_question(tmp_path, faults)
    assert files is not None, faults
    scores = scores_of(files)
    assert scores is not None

    assert scores.prompt_ids == tuple(sorted({row[0] for row in rows}))
    for n, prompt in enumerate(scores.prompt_ids):
        number = int(prompt[1:])
        assert scores.class_names[scores.class_code[n]] == "ab"[number % 2]
        assert scores.input_tokens[n] == 10 + number
        assert scores.text is not None and scores.text[n] == f"say {number % 7}"
        twins = [m for m, p in enumerate(scores.prompt_ids) if int(p[1:]) % 7 == number % 7]
        assert np.flatnonzero(scores.group == scores.group[n]).tolist() == twins
        for m, model in enumerate(scores.model_names):
            mine = [row for row in rows if row[0] == prompt and row[2] == model]
            grades = [row[4] - 20 for row in mine if row[3] != 1]
            assert scores.n_samples[n, m] == len(mine)
            cell = (scores.score[n, m], scores.output_tokens[n, m], scores.signals["grade"][n, m])
            assert cell == pytest.approx(
                (
                    np.mean([row[4] / 10 for row in mine]) if mine else np.nan,
                    np.mean([max(row[6], 1) for row in mine]) if mine else np.nan,
                    np.mean(grades) if grades else np.nan,
                ),
                nan_ok=True,
            )
    assert scores_of(replace(files, prompts=None)) is None
