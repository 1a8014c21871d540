"""What a collection says, word by word where a person decides by it."""

import io

from planner.profile.collect.agreement import judge_agreement
from planner.profile.collect.budget import Taken, budget
from planner.profile.collect.client import Reply, Request
from planner.profile.collect.imported import ImportedScores
from planner.profile.collect.run import Failure, Task, Worked
from planner.profile.load.client import Outcome
from planner.report.collected import (
    Collected,
    agreement_lines,
    collected_data,
    failures,
    imported_data,
    render_budget,
    render_collected,
    render_imported,
)
from planner.report.console import make_console
from planner.spec.answers import AnswerKey, ScoreRow


def shown(render, what, width=80):
    out = io.StringIO()
    render(what, make_console(out, width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def row(n, model="a", score=1.0, class_name="sums", **signals):
    return ScoreRow(f"p{n}", class_name, model, score, 10, 20, 1, signals)


ROWS = (row(0, answered=1.0, mean_logprob=-0.5), row(1, score=0.0, answered=0.0), row(0, "b"))


def failed(name, status, detail, n=1):
    task = Task(AnswerKey("p", name, 1), name, Request((), 8, 0.0))
    return (Failure(task, Reply(Outcome.HTTP, status=status, detail=detail)),) * n


def test_a_budget():
    found = budget(
        {"small": 1000, "large": 2000},
        {"small": [Taken(500, 2.0)], "large": [Taken(1500, 12.0)]},
        max_tokens={"small": 2048, "large": 2048},
        concurrency=8,
        usd_per_million_output={"large": 0.8},
    )
    assert shown(render_budget, found) == (
        "\nTo be sent\n"
        "   model  requests  tokens      $   time\n"
        "   small     1,000    500k      -   4:10\n"
        "   large     2,000      3M  $2.40  50:00\n"
        "  3,000 requests, about 3.5M output tokens (at most 6.14M), about $2.40 for them\n"
        "  (at most $3.28), about 50:00 min; judged by the first answers\n"
    )


def test_a_budget_without_prices_or_answers():
    found = budget({"a": 3}, {}, max_tokens={"a": 10}, concurrency=1, usd_per_million_output={})
    text = shown(render_budget, found)
    assert "$" not in text
    assert "3 requests" in text


def test_scores_leave_out_what_nobody_knows():
    text = shown(render_collected, Collected(ROWS, 4, Worked()))
    assert "3 scores of 4 answers" in text
    assert "   model  n   score  found  tokens  logprob\n" in text  # nothing on agreement
    assert "   a      2  0.5000    50%      20     -0.5\n" in text
    assert "   b      1  1.0000      -      20        -\n" in text
    assert "By class" not in text
    two = (*ROWS, row(2, class_name="law"))
    assert "   law    a      1  1.0000\n" in shown(render_collected, Collected(two, 4, Worked()))


def test_a_narrow_page_holds():
    shown(render_collected, Collected((*ROWS, row(2, class_name="law")), 4, Worked()), width=60)


def test_failures_are_told_by_model_and_reason():
    worked = Worked(
        failures=failed("a", 503, "busy", 3) + failed("b", 0, "connection refused\x1b[2J"),
        given_up=("b",),
    )
    assert list(failures(worked)) == [
        "a: 3 requests failed (503: busy)",
        "b: 1 request failed (connection refused [2J)",
        "b: given up after many failures in a row",
    ]


def test_the_judge_is_judged_in_plain_words():
    labels = [1.0] * 10 + [0.0] * 10
    too_kind = judge_agreement([1.0] * 16 + [0.0] * 4, labels, 21)
    lines = list(agreement_lines(too_kind))
    assert lines[0] == (
        "the judge agrees with people on 70.0% (48.1% to 85.5%) of 20 labelled answers"
    )
    assert lines[1].startswith("Cohen's kappa: 0.4 ")
    assert lines[2].startswith("bias +0.300 (+0.08") and lines[2].endswith(": too kind")
    assert lines[3] == "1 label without an answer that was judged"
    graded = list(agreement_lines(judge_agreement([0.5, 0.9], [0.5, 1.0], 2)))
    assert "within 0.1 on 100.0%" in graded[0]
    assert graded[1] == "correlation with their scores: 1"


def test_data():
    data = collected_data(Collected(ROWS, 4, Worked(failed("a", 500, "x"))))
    assert (data["complete"], data["n_scored"], data["n_failed"]) == (False, 3, 1)
    assert [entry["model_name"] for entry in data["models"]] == ["a", "b"]
    assert data["models"][0]["mean_logprob"] == -0.5
    assert collected_data(Collected((), 0, Worked(interrupted=True)))["complete"] is False


def test_an_import():
    found = ImportedScores(ROWS, (), (), {"a tool": 2, "another": 1}, ("x.json",))
    text = shown(render_imported, found)
    assert "3 scores of 0 prompts from 2 files of a tool, 1 file of another" in text
    assert imported_data(found)["left_out"] == ["x.json"]
