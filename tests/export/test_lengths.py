from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_fleets import demo_inputs

from planner.export.lengths import longest_tokens
from planner.spec.inputs import PromptTable, QuestionFiles
from planner.spec.question import ClassScore, Lengths, TraceRow


@pytest.fixture
def bare() -> QuestionFiles:
    """The demo's question with nothing known of lengths."""
    files = demo_inputs().files
    return replace(files, class_scores=(), prompts=None, trace=())


def asked(files: QuestionFiles, **lengths: Lengths) -> QuestionFiles:
    classes = tuple(c.model_copy(update=lengths) for c in files.question.classes)
    return replace(files, question=files.question.model_copy(update={"classes": classes}))


def score(**figures: float) -> ClassScore:
    known = {"input_tokens_mean": 100.0, "output_tokens_mean": 50.0, **figures}
    row = {"class": "gsm", "model_name": "m", "n_prompts": 10, "score": 0.5, "source": "made up"}
    return ClassScore.model_validate({**row, **known})


def test_of_nothing_known_nothing_follows(bare):
    assert longest_tokens(bare, "gsm", "m") == 0


def test_means_alone_are_taken_with_four_deviations(bare):
    files = replace(bare, class_scores=(score(input_tokens_cv=0.5, output_tokens_cv=1.0),))
    assert longest_tokens(files, "gsm", "m") == 100 * 3 + 50 * 5
    assert longest_tokens(files, "crux", "m") == 0
    assert longest_tokens(files, "gsm", "other") == 0


def test_a_maximum_wins_over_a_guess_and_a_quantile_bounds_it(bare):
    most = replace(bare, class_scores=(score(output_tokens_cv=1.0, output_tokens_max=70.0),))
    assert longest_tokens(most, "gsm", "m") == 170
    tail = replace(bare, class_scores=(score(output_tokens_p99=900.0),))
    assert longest_tokens(tail, "gsm", "m") == 1000


def test_what_the_question_states_wins_over_the_scores(bare):
    files = replace(bare, class_scores=(score(),))
    files = asked(files, input_tokens=Lengths(mean=10.0, max=2000.0))
    assert longest_tokens(files, "gsm", "m") == 2050
    constant = asked(files, output_tokens=Lengths(mean=9.0, distribution="constant"))
    assert longest_tokens(constant, "gsm", "m") == 2009


def test_a_file_of_lengths_says_its_longest(bare):
    files = replace(bare, lengths={"in.csv": np.array([3.0, 800.0, 5.0])})
    files = asked(files, input_tokens=Lengths(file="in.csv"))
    assert longest_tokens(files, "gsm", "m") == 800


def test_recorded_prompts_and_traces_say_theirs(bare):
    table = PromptTable(
        classes=("crux", "gsm"),
        model_names=("m",),
        prompt_ids=("a", "b"),
        class_code=np.array([0, 1]),
        model_code=np.array([0, 0]),
        prompt_code=np.array([0, 1]),
        sample=np.array([0, 0]),
        score=np.array([1.0, 1.0]),
        input_tokens=np.array([5000.0, 200.0]),
        output_tokens=np.array([10.0, 30.0]),
    )
    files = replace(bare, prompts=table)
    assert longest_tokens(files, "gsm", "m") == 230
    row = TraceRow.model_validate(
        {"timestamp_s": 0.0, "class": "gsm", "input_tokens": 4000.0, "output_tokens": 96.0}
    )
    assert longest_tokens(replace(files, trace=(row,)), "gsm", "m") == 4096
    assert longest_tokens(replace(bare, trace=(row,)), "crux", "m") == 0
    of_any = row.model_copy(update={"class_name": None})
    assert longest_tokens(replace(bare, trace=(of_any,)), "crux", "m") == 4096


def test_a_length_that_a_trace_leaves_blank_is_one_of_its_class(bare):
    row = TraceRow.model_validate({"timestamp_s": 0.0, "class": "gsm", "input_tokens": 4000.0})
    files = replace(bare, class_scores=(score(output_tokens_max=70.0),), trace=(row,))
    assert longest_tokens(files, "gsm", "m") == 4070
