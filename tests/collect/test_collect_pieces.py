"""Budget, agreement, the judge's questions and answers, order of work: pure functions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.profile.collect.agreement import judge_agreement, shares_agreeing
from planner.profile.collect.budget import Taken, budget
from planner.profile.collect.grading import graded, judged, reference_problems, references
from planner.profile.collect.judge import asked_sha256, questions, score_in
from planner.profile.collect.run import drawn, messages_of, pilots, wanted
from planner.profile.collect.session import kept_answers
from planner.spec.answers import Answer, Verdict
from planner.spec.prompts import PromptLine


def prompt(n=0, **more):
    return PromptLine(**{"prompt_id": f"p{n}", "class": "sums", "text": f"Sum {n}?", **more})


def answer(n=0, sample=1, text="4", model_name="a", **more):
    return Answer(
        prompt_id=f"p{n}",
        model_name=model_name,
        sample=sample,
        text=text,
        input_tokens=3,
        output_tokens=2,
        duration_s=0.5,
        prompt_sha256=asked_sha256(messages_of(prompt(n))),
        max_tokens=8,
        temperature=0.0,
        **more,
    )


# ---- What it will take ---------------------------------------------------------------------------


def test_a_budget_is_what_is_left_times_what_was_taken():
    found = budget(
        {"small": 100, "large": 50, "new": 7},
        {"small": [Taken(100, 1.0), Taken(300, 3.0)], "large": [Taken(50, 8.0)]},
        max_tokens={"small": 512, "large": 512, "new": 512},
        concurrency=10,
        usd_per_million_output={"small": 2.0},
    )
    small, large, new = found.models
    assert (small.output_tokens, small.duration_s) == (20_000, 20.0)
    assert (small.usd, small.most_usd) == (pytest.approx(0.04), pytest.approx(100 * 512 * 2e-6))
    assert (large.usd, large.duration_s) == (None, 40.0)
    assert (new.output_tokens, new.duration_s, new.most_output_tokens) == (None, None, 3584)
    assert found.n_left == 157
    assert found.duration_s == 40.0  # the models work side by side
    assert found.usd == pytest.approx(0.04)
    assert found.output_tokens is None  # of one model nothing is known


def test_fewer_requests_than_slots_take_one_answer_s_time():
    found = budget(
        {"a": 2}, {"a": [Taken(1, 5.0)]}, max_tokens={"a": 1}, concurrency=64,
        usd_per_million_output={},
    )  # fmt: skip
    assert found.duration_s == 5.0


# ---- Agreement -----------------------------------------------------------------------------------


def test_samples_agree_with_those_that_are_equal():
    assert shares_agreeing(["4", "4", "5", None]) == [0.5, 0.5, 0.25, 0.0]
    assert shares_agreeing(["4"]) == [1.0]
    assert shares_agreeing([]) == []


def test_kappa_is_cohens():
    """Cohen's own measure on a table by hand: 20 and 15 agree of 50, margins 25/25 and 30/20."""
    judged_scores = [1.0] * 20 + [1.0] * 5 + [0.0] * 10 + [0.0] * 15
    labels = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    found = judge_agreement(judged_scores, labels, 60)
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert (found.n_compared, found.n_labelled, found.is_graded) == (50, 60, False)
    assert found.correlation is None
    assert found.bias == pytest.approx(-0.1)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])),
        min_size=2,
        max_size=40,
    )
)
def test_agreement_against_scipy(pairs):
    x, y = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    found = judge_agreement(x.tolist(), y.tolist(), len(pairs))
    low, high = stats.binomtest(round(found.agreement * len(pairs)), len(pairs)).proportion_ci(
        method="wilson"
    )
    assert (found.agreement_low, found.agreement_high) == (
        pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12),
    )  # fmt: skip
    gap = x - y
    half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(gap)
    assert found.bias_high - found.bias == pytest.approx(half, rel=1e-4, abs=1e-12)
    if found.correlation is not None:
        assert found.correlation == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)


def test_a_judge_that_always_says_the_same_has_no_kappa_or_correlation():
    assert judge_agreement([1.0, 1.0], [1.0, 1.0], 2).kappa is None
    assert judge_agreement([0.5, 0.5], [0.2, 0.7], 2).correlation is None
    one = judge_agreement([0.9], [1.0], 1)
    assert (one.bias_low, one.bias_high) == (None, None)


def test_agreement_needs_a_pair():
    with pytest.raises(ValueError, match="at least one"):
        judge_agreement([], [], 3)


# ---- The judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 7}', 0.7),
        ('```json\n{"score": 10}\n```', 1.0),
        ('First I thought {"score": 2}, but: {"score": 9.5}', 0.95),
        ("{'score': 3}", 0.3),
        ("**Score:** 8", 0.8),
        ("The score is 6.", 0.6),
        ("I give it 7/10.", 0.7),
        ("7 out of 10", 0.7),
        ("7", 0.7),
        ("`4.5`", 0.45),
        ('{"score": 11}', None),
        ('{"score": -1}', None),
        ('{"score": "high"}', None),
        ("It has 3 faults and 2 merits", None),
        ("", None),
    ],
)
def test_a_number_is_read_or_none_is(text, score):
    assert score_in(text) == (None if score is None else pytest.approx(score))


@given(st.text(max_size=200))
def test_any_reply_gives_a_score_or_none(text):
    score = score_in(text)
    assert score is None or 0.0 <= score <= 1.0


def test_a_judge_sees_rubric_question_references_and_answer():
    system, user = questions("Be strict.", prompt(text="2+2?"), ("4", "four"), "It is 4")
    assert "Be strict." in system["content"]
    assert "0 (worthless) to 10" in system["content"]
    for part in ("2+2?", "4\nor\nfour", "<answer>\nIt is 4\n</answer>"):
        assert part in user["content"]
    no_reference = questions("", prompt(), (), "x")[1]["content"]
    assert "<reference>" not in no_reference


def test_a_judge_is_not_flooded():
    user = questions("", prompt(), (), "a" * 100_000 + "end")[1]["content"]
    assert len(user) < 21_000
    assert "characters left out" in user
    assert user.rstrip().endswith("end\n</answer>")


# ---- What is asked, in which order ---------------------------------------------------------------


def test_messages():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert messages_of(prompt(text="x")) == ({"role": "user", "content": "x"},)
    assert [m["role"] for m in messages_of(prompt(text="x", system="s"))] == ["system", "user"]
    both = messages_of(prompt(text=None, messages=turns, system="s"))
    assert [m["role"] for m in both] == ["system", "user", "assistant"]


def test_every_model_prompt_and_sample_is_asked_once():
    tasks = wanted([prompt(0), prompt(1)], ["a", "b"], 3, max_tokens=8, temperature=0.7)
    assert len({task.key for task in tasks}) == len(tasks) == 12
    assert [task.asks for task in tasks] == ["a"] * 6 + ["b"] * 6
    assert {task.key.sample for task in tasks} == {1, 2, 3}


@pytest.mark.parametrize(("n", "places"), [(1, [0]), (3, [0, 1, 2]), (8, [1, 3, 5, 7])])
def test_a_pilot_is_spread_over_the_prompts(n, places):
    tasks = wanted([prompt(k) for k in range(n)], ["a"], 1, max_tokens=8, temperature=0.0)
    found = pilots(tasks, 4)
    assert [int(t.key.prompt_id[1:]) for t in found] == places


def test_a_larger_limit_draws_the_same_prompts_and_more():
    prompts = [prompt(k) for k in range(50)]
    few, more = drawn(prompts, 10), drawn(prompts, 20)
    assert more[:10] == few
    assert drawn(prompts[::-1], 10) == few  # whatever the order of the file
    assert drawn(prompts, None) == drawn(prompts, 50) == tuple(prompts)


def test_answers_to_other_texts_are_not_kept():
    old = answer(0)
    newer = answer(0, text="5")
    fresh, n_stale = kept_answers([old, newer, answer(1), answer(7)], [prompt(0), prompt(1)])
    assert (fresh[old.key], n_stale, len(fresh)) == (newer, 0, 2)
    fresh, n_stale = kept_answers([old, answer(1)], [prompt(0, text="Other?"), prompt(1)])
    assert (list(fresh), n_stale) == ([answer(1).key], 1)


# ---- From answers to rows ------------------------------------------------------------------------


def test_rows_have_scores_and_signals():
    answers = [
        answer(0, 1, "The answer is 4.", mean_logprob=-0.5),
        answer(0, 2, "4"),
        answer(0, 3, "It is 5"),
        answer(0, 4, "I do not know"),
        answer(0, 1, "4", model_name="b"),
    ]
    rows = graded(answers, {"p0": prompt(0, reference=(4, "four"))}, "numeric", 1e-4)
    assert [row.score for row in rows] == [1, 1, 0, 0, 1]
    assert [row.signals.get("agreement") for row in rows] == [0.5, 0.5, 0.25, 0.0, None]
    assert [row.signals["answered"] for row in rows] == [1, 1, 1, 0, 1]
    assert [row.signals.get("mean_logprob") for row in rows] == [-0.5, None, None, None, None]
    assert {row.class_name for row in rows} == {"sums"}


def test_what_the_judge_did_not_grade_has_no_row():
    answers = [answer(0, 1), answer(0, 2), answer(0, 3)]
    verdicts = {
        a.key: Verdict(
            prompt_id="p0", model_name="a", sample=a.sample, asked_sha256="", judge="j",
            text=text, output_tokens=1, duration_s=0.1,
        )
        for a, text in zip(answers, ('{"score": 5}', "I refuse"), strict=False)
    }  # fmt: skip
    [row] = judged(answers, {"p0": prompt(0)}, verdicts)
    assert (row.sample, row.score, row.signals["agreement"]) == (1, 0.5, 1.0)


def test_references_are_texts():
    assert references(prompt(reference=4)) == ("4",)
    assert references(prompt(reference=0.1)) == ("0.1",)
    assert references(prompt(reference=("a", 2.5))) == ("a", "2.5")
    assert references(prompt()) == ()
    assert Fraction(references(prompt(reference=1e15))[0]) == 10**15


def test_references_that_cannot_be_used_are_named():
    prompts = [prompt(0, reference=4), prompt(1), prompt(2, reference="four")]
    assert reference_problems("numeric", prompts) == {
        "p1": "is missing",
        "p2": "holds no number",
    }
