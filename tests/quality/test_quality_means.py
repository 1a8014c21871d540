"""Class means against plain loops over the rows that they are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from planner.quality.lengths import DRAWN, node_probabilities
from planner.quality.means import class_models, oracle_quality
from planner.quality.scores import scores_of
from planner.quality.shrink import shrunk_means
from planner.spec.inputs import PromptTable, QuestionFiles
from planner.spec.question import ClassScore, Lengths, Question, RequestClass, Trace, TraceRow

CLASSES = ("code", "math")
MODELS = ("big", "small")


def prompt_rows(seed: int = 3) -> list[tuple[str, str, int, float, float, float]]:
    """(class, model, prompt, score of 10, input tokens, output tokens), with gaps."""
    random = np.random.default_rng(seed)
    rows = []
    for prompt in range(60):
        cls = CLASSES[prompt % 3 == 0]
        for model in MODELS:
            if random.random() < 0.1:
                continue
            tokens = (float(random.integers(5, 300)), float(random.integers(0, 900)))
            rows.append((cls, model, prompt, float(random.integers(0, 11)), *tokens))
    return rows


def table_of(rows: list[tuple[str, str, int, float, float, float]]) -> PromptTable:
    prompts = sorted({r[2] for r in rows})
    return PromptTable(
        classes=CLASSES,
        model_names=MODELS,
        prompt_ids=tuple(f"p{prompt:02d}" for prompt in prompts),
        class_code=np.array([CLASSES.index(r[0]) for r in rows]),
        model_code=np.array([MODELS.index(r[1]) for r in rows]),
        prompt_code=np.array([prompts.index(r[2]) for r in rows]),
        sample=np.zeros(len(rows), dtype=np.int64),
        score=np.array([r[3] for r in rows]),
        input_tokens=np.array([r[4] for r in rows]),
        output_tokens=np.array([r[5] for r in rows]),
    )


def files_of(rows: list[tuple[str, str, int, float, float, float]], **of_math) -> QuestionFiles:
    classes = (
        RequestClass(name="math", rate_rps=1.0, **of_math),
        RequestClass(name="code", rate_rps=2.0),
    )
    question = Question(
        version=1, classes=classes, scores="scores.csv", score_scale=10.0, stock={"g": 1}
    )
    return QuestionFiles("question.yaml", question, prompts=table_of(rows))


def test_lengths_are_those_of_a_plain_loop_over_the_rows() -> None:
    rows = prompt_rows()
    found = class_models(files_of(rows))
    assert set(found) == {(c, m) for c in CLASSES for m in MODELS}
    for (cls, model), mean in found.items():
        mine = [r for r in rows if r[:2] == (cls, model)]
        assert mean.input_tokens.mean() == pytest.approx(sum(r[4] for r in mine) / len(mine))
        answers = [max(r[5], 1.0) for r in mine]
        assert mean.output_tokens.mean() == pytest.approx(sum(answers) / len(answers))
        assert mean.output_tokens.min() >= 1.0
        assert mean.origin == "measured"


def test_scores_of_many_prompts_are_near_those_of_a_plain_loop_and_inside_their_interval() -> None:
    whole = [prompt for prompt in range(60) if sum(r[2] == prompt for r in prompt_rows()) == 2]
    rows = [r for r in prompt_rows() if r[2] in whole]  # with gaps, plain means are unfair
    many = [(c, m, p + 60 * k, s, i, o) for k in range(50) for c, m, p, s, i, o in rows]
    for repeats, close in ((rows, 0.03), (many, 0.002)):
        for (cls, model), mean in class_models(files_of(repeats)).items():
            mine = [r[3] / 10.0 for r in rows if r[:2] == (cls, model)]
            plain = sum(mine) / len(mine)
            assert mean.score == pytest.approx(plain, abs=close)
            assert 0.0 < mean.low < mean.score < mean.high < 1.0
            assert mean.low < plain < mean.high


def test_scores_are_the_shrunk_means_of_the_grid() -> None:
    files = files_of(prompt_rows())
    scores = scores_of(files)
    assert scores is not None
    means = shrunk_means(scores)
    for (cls, model), mean in class_models(files).items():
        at = CLASSES.index(cls), MODELS.index(model)
        assert (mean.score, mean.low, mean.high) == (means.mean[at], means.low[at], means.high[at])


def test_a_model_without_rows_in_a_class_has_no_mean_there() -> None:
    rows = [r for r in prompt_rows() if r[:2] != ("math", "big")]
    assert set(class_models(files_of(rows))) == {
        ("code", "big"),
        ("code", "small"),
        ("math", "small"),
    }


def test_some_models_alone_have_the_means_that_they_have_among_all() -> None:
    files = files_of(prompt_rows())
    every, one = class_models(files), class_models(files, model_names={"big"})
    assert one and {name for _, name in one} == {"big"}
    assert all(model.score == every[key].score for key, model in one.items())


def test_lengths_that_the_question_states_win() -> None:
    stated = {
        "input_tokens": Lengths(mean=77.0, distribution="constant"),
        "output_tokens": Lengths(mean=333.0, cv=0.5, max=600.0),
    }
    rows = prompt_rows()
    plain, found = class_models(files_of(rows)), class_models(files_of(rows, **stated))
    for model in MODELS:
        assert set(found["math", model].input_tokens) == {77.0}
        assert found["math", model].output_tokens.mean() == pytest.approx(333.0)
        assert found["math", model].output_tokens.max() <= 600.0
        assert found["code", model].output_tokens.tolist() == (
            plain["code", model].output_tokens.tolist()
        )


def test_lengths_from_a_file_win() -> None:
    files = files_of(prompt_rows(), output_tokens=Lengths(file="lengths.csv"))
    sample = np.array([10.0, 20.0, 30.0, 40.0, 400.0])
    found = class_models(replace(files, lengths={"lengths.csv": sample}))
    for model in MODELS:
        assert found["math", model].output_tokens.mean() == pytest.approx(100.0)
        assert found["math", model].output_tokens.max() <= 400.0


def class_row(**changes) -> ClassScore:
    row = {
        "class": "math",
        "model_name": "big",
        "n_prompts": 9,
        "score": 6.0,
        "input_tokens_mean": 50.0,
        "input_tokens_cv": 0.5,
        "output_tokens_mean": 200.0,
        "output_tokens_cv": 0.7,
        "source": "made for a test",
    }
    return ClassScore.model_validate(row | changes)


def class_files(row: ClassScore, trace: tuple[TraceRow, ...] = (), **of_math) -> QuestionFiles:
    classes = (
        RequestClass(name="math", rate_rps=1.0, **of_math),
        RequestClass(name="code", rate_rps=2.0),
    )
    question = Question(
        version=1, classes=classes, class_scores="c.csv", score_scale=10.0, stock={"g": 1}
    )
    if trace:
        question = question.model_copy(update={"arrivals": Trace(trace="t.csv")})
    return QuestionFiles("question.yaml", question, (row,), trace=trace)


@pytest.mark.parametrize(("name", "mean", "cv"), [("input", 50.0, 0.5), ("output", 200.0, 0.7)])
def test_lengths_cut_finer_are_nearer_to_their_law(name: str, mean: float, cv: float) -> None:
    files = class_files(class_row())
    coarse = getattr(class_models(files)["math", "big"], f"{name}_tokens")
    fine = getattr(class_models(files, DRAWN)["math", "big"], f"{name}_tokens")
    assert fine.size == 4096 > coarse.size
    assert fine.mean() == pytest.approx(mean) and coarse.mean() == pytest.approx(mean)
    assert fine.std() / mean == pytest.approx(cv, rel=0.01)
    assert coarse.std() / mean < 0.97 * cv
    sigma = np.sqrt(np.log1p(cv**2))
    tail = stats.lognorm(sigma, scale=mean * np.exp(-(sigma**2) / 2)).ppf([0.99, 0.999])
    found = np.interp([0.99, 0.999], node_probabilities(fine.size), fine)
    assert found == pytest.approx(tail, rel=0.005)


def test_a_class_row_gives_score_means_and_origin() -> None:
    found = class_models(class_files(class_row(origin="estimated")))
    assert set(found) == {("math", "big")}
    model = found["math", "big"]
    assert model.score == 6.0 / 10.0 and model.origin == "estimated"
    wilson = stats.binomtest(k=6, n=10).proportion_ci(method="wilson")
    of_ten = class_models(class_files(class_row(n_prompts=10)))["math", "big"]
    assert (of_ten.low, of_ten.high) == pytest.approx((wilson.low, wilson.high))
    assert model.low < of_ten.low and of_ten.high < model.high  # of nine
    assert model.input_tokens.mean() == pytest.approx(50.0)
    assert model.output_tokens.mean() == pytest.approx(200.0)


def test_three_quantiles_of_a_class_row_shape_its_answers() -> None:
    known = {"output_tokens_p50": 150.0, "output_tokens_p95": 500.0, "output_tokens_max": 800.0}
    plain = class_models(class_files(class_row()))["math", "big"].output_tokens
    shaped = class_models(class_files(class_row(**known)))["math", "big"].output_tokens
    assert shaped.mean() == pytest.approx(200.0)
    assert shaped.max() <= 800.0
    assert np.quantile(shaped, 0.95) / np.quantile(shaped, 0.5) == pytest.approx(
        500.0 / 150.0, rel=0.05
    )
    assert not np.allclose(shaped, plain)


TRACE = tuple(
    TraceRow.model_validate({"timestamp_s": float(i), "class": name, "input_tokens": tokens})
    for i, (name, tokens) in enumerate(
        [("math", 10.0), ("code", 5000.0), ("math", 30.0), ("math", None), (None, 900.0)]
    )
)


def test_prompt_lengths_of_the_trace_win_over_those_of_the_scores() -> None:
    model = class_models(class_files(class_row(), TRACE))["math", "big"]
    assert model.input_tokens.mean() == pytest.approx(20.0)  # of the rows with 10 and 30
    assert model.input_tokens.min() >= 10.0 * 0.9 and model.input_tokens.max() <= 30.0
    assert model.output_tokens.mean() == pytest.approx(200.0)


def test_stated_prompt_lengths_win_over_those_of_the_trace() -> None:
    stated = Lengths(mean=70.0)
    found = class_models(class_files(class_row(), TRACE, input_tokens=stated))
    assert found["math", "big"].input_tokens.mean() == pytest.approx(70.0)


def test_prompt_lengths_of_the_trace_also_win_over_those_of_prompts() -> None:
    files = replace(files_of(prompt_rows()), trace=TRACE)
    found = class_models(files)
    assert found["math", "small"].input_tokens.mean() == pytest.approx(20.0)
    assert found["code", "small"].input_tokens.mean() == pytest.approx(5000.0)


def test_a_trace_without_lengths_changes_nothing() -> None:
    bare = tuple(row.model_copy(update={"input_tokens": None}) for row in TRACE)
    found = class_models(class_files(class_row(), bare))
    assert found["math", "big"].input_tokens.mean() == pytest.approx(50.0)


def test_rows_without_a_class_belong_to_the_only_class() -> None:
    files = class_files(class_row(), TRACE)
    only = files.question.model_copy(update={"classes": files.question.classes[:1]})
    rows = tuple(row.model_copy(update={"class_name": None}) for row in TRACE[:2])
    found = class_models(replace(files, question=only, trace=rows))
    assert found["math", "big"].input_tokens.mean() == pytest.approx((10.0 + 5000.0) / 2)


@pytest.mark.parametrize("names", [{"big"}, {"small"}, {"big", "small"}, {"big", "unknown"}])
def test_the_oracle_is_the_best_recorded_answer_to_each_prompt(names: set[str]) -> None:
    rows = prompt_rows()
    files = files_of(rows)
    for cls in CLASSES:
        best: dict[int, float] = {}
        for row in rows:
            if row[0] == cls and row[1] in names:
                best[row[2]] = max(best.get(row[2], 0.0), row[3])
        expected = sum(best.values()) / len(best) / 10.0
        assert oracle_quality(files, cls, names) == pytest.approx(expected)


def test_the_oracle_is_a_reference_and_in_no_class_mean() -> None:
    files = files_of(prompt_rows())
    best = max(m.score for (c, _), m in class_models(files).items() if c == "math")
    oracle = oracle_quality(files, "math", set(MODELS))
    assert oracle is not None and oracle > best  # the luck of single answers


def test_no_oracle_without_recorded_prompts() -> None:
    assert oracle_quality(class_files(class_row()), "math", {"big"}) is None
    files = files_of(prompt_rows())
    assert oracle_quality(files, "unknown", {"big"}) is None
    assert oracle_quality(files, "math", {"unknown"}) is None
