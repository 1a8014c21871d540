"""`rb router collect` as a whole: asked, kept, graded, resumed, judged, and what goes wrong."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

import planner
from planner.cli import router_collect
from planner.cli.collect_options import GRADERS
from planner.files.prompts import read_prompt_scores
from planner.quality.graders import KINDS

ROOT = Path(planner.__file__).parent.parent
N = 12
SECRET = "sk-not-to-be-seen"


def write_prompts(path, n=N, **more):
    lines = [
        {"prompt_id": f"q{k}", "class": "odd" if k % 2 else "even", "text": f"{k}+{k}? #{k}#",
         "reference": 2 * k, **more}
        for k in range(n)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def good(serve):
    """A model that knows two thirds of the sums, and says so."""
    return serve(replies={f"#{k}#": f"The answer is {2 * k}." for k in range(40) if k % 3})


@pytest.fixture(scope="module")
def plain(serve):
    """A model that knows nothing, on a server that takes no logprobs and counts no tokens."""
    return serve(otherwise="It is 4", refused=["logprobs"], usage=False)


@pytest.fixture
def folder(tmp_path, good, plain):
    """Returns the folder in which prompts and endpoints are, and plans will be."""
    write_prompts(tmp_path / "p.jsonl")
    (tmp_path / "e.yaml").write_text(
        f"good-8b: {good}\nplain-1b: [{{url: {plain}, served_model_name: x/y}}]\n"
    )
    return tmp_path


GIVEN = ("router", "collect", "d", "--prompts", "p.jsonl", "--endpoints", "e.yaml")
NUMERIC = (*GIVEN, "--grader", "numeric", "--yes")


def rows(name="d/scores.csv"):
    with open(name, newline="") as file:
        return list(csv.DictReader(file))


def journal(name="d/answers.jsonl"):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


@pytest.mark.usefixtures("folder")
def test_a_collection_from_prompts_to_scores(rb):
    ran = rb(*NUMERIC, "--usd-per-million-output", "good-8b=3")
    assert ran.code == 0, ran.err
    faults = []
    table, _ = read_prompt_scores(Path("d/scores.csv"), {"odd", "even"}, 1.0, faults)
    assert (faults, table.model_names, table.score.size) == ([], ("good-8b", "plain-1b"), 2 * N)
    own = {row["prompt_id"]: row for row in rows() if row["model_name"] == "good-8b"}
    assert {k for k, row in own.items() if row["score"] == "0"} == {"q0", "q3", "q6", "q9"}
    assert own["q0"]["signal_answered"] == "0"
    assert (own["q1"]["signal_mean_logprob"], own["q1"]["output_tokens"]) == ("-0.25", "8")
    plain_row = next(row for row in rows() if row["model_name"] == "plain-1b")
    assert (plain_row["signal_mean_logprob"], plain_row["output_tokens"]) == ("", "3")
    assert len(journal()) == 2 * N
    for said in ("To be sent", "16 requests", "$", "takes no logprobs", "gave no usage"):
        assert said in ran.err
    assert "By class" in ran.out
    assert len(Path("d/prompts.jsonl").read_text().splitlines()) == N


@pytest.mark.usefixtures("folder")
def test_nothing_is_asked_twice_and_more_is_added(rb):
    assert rb(*NUMERIC, "--limit", "5", "--model", "good-8b").code == 0
    assert len(journal()) == 5
    assert rb(*NUMERIC, "--limit", "8", "--model", "good-8b").code == 0
    assert len(journal()) == 8
    before = Path("d/scores.csv").read_bytes()
    again = rb(*NUMERIC, "--limit", "8", "--model", "good-8b")
    assert (again.code, len(journal())) == (0, 8)
    assert "To be sent" not in again.err
    assert Path("d/scores.csv").read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_samples_agree_or_not(rb):
    assert rb(*NUMERIC, "--samples", "3", "--model", "good-8b", "--limit", "6").code == 0
    found = rows()
    assert len(found) == 18
    assert {row["sample"] for row in found} == {"1", "2", "3"}
    assert {row["signal_agreement"] for row in found} == {"0", "1"}  # 0: no answer to agree on
    assert {entry["temperature"] for entry in journal()} == {0.7}


@pytest.mark.usefixtures("folder")
def test_answers_are_graded_again_without_a_request(rb):
    rb(*NUMERIC)
    n_before = len(journal())
    Path("e.yaml").unlink()
    Path("p.jsonl").unlink()
    ran = rb("router", "collect", "d", "--grader", "exact", "--regrade")
    assert (ran.code, len(journal())) == (0, n_before)
    assert {row["score"] for row in rows() if row["model_name"] == "plain-1b"} == {"0"}


NAMED = [
    {"prompt_id": "q3", "class": "odd", "model_name": "good-8b"},
    {"prompt_id": "q8", "class": "even", "model_name": "good-8b"},
    {"prompt_id": "q8", "class": "even", "model_name": "plain-1b"},
]


def write_only(*requests):
    """Returns the options that name what `rb router next --json` would have listed."""
    Path("next.json").write_text(json.dumps({"requests": requests, "cells": []}))
    return "--only", "next.json"


@pytest.mark.usefixtures("folder")
def test_only_what_is_listed_is_asked(rb):
    only = write_only(*NAMED)
    ran = rb(*NUMERIC, *only)
    assert ran.code == 0, ran.err
    asked = {(entry["prompt_id"], entry["model_name"]) for entry in journal()}
    assert asked == {("q3", "good-8b"), ("q8", "good-8b"), ("q8", "plain-1b")}
    assert len(journal()) == len(rows()) == 3
    again = rb(*NUMERIC, *only)
    assert (again.code, len(journal())) == (0, 3)
    one = rb(*NUMERIC, *write_only({"prompt_id": "q5", "model_name": "good-8b"}, *NAMED[2:]),
             "--model", "good-8b")  # fmt: skip
    assert (one.code, len(journal()), len(rows())) == (0, 4, 4)
    more = rb(*NUMERIC)
    assert (more.code, len(rows())) == (0, 2 * N)


@pytest.mark.usefixtures("folder")
def test_the_prompts_of_the_folder_are_asked_where_no_file_is_named(rb):
    rb(*NUMERIC, "--model", "good-8b")
    Path("p.jsonl").unlink()
    only = write_only({"prompt_id": "q1", "model_name": "plain-1b"})
    ran = rb("router", "collect", "d", "--endpoints", "e.yaml", "--grader", "numeric", "-y", *only)
    assert ran.code == 0, ran.err
    assert len(rows()) == N + 1
    assert len(Path("d/prompts.jsonl").read_text().splitlines()) == N


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("listed", "more", "says"),
    [
        ([{"prompt_id": "zz", "model_name": "good-8b"}], (), "is not in p.jsonl, for prompt zz"),
        ([{"prompt_id": "q1", "model_name": "good"}], (), "did you mean good-8b?"),
        ([{"prompt_id": "q1"}], (), "requests[0].model_name"),
        (["q1"], (), "requests[0]: must be a mapping"),
        ([], (), "lists no prompt that is left to score"),
        (NAMED, ("--limit", "2"), "leave --limit out"),
        (NAMED, ("--regrade",), "leave --regrade out"),
    ],
    ids=["prompt", "model", "no model", "text", "none", "limit", "regrade"],
)
def test_what_only_cannot_name(rb, listed, more, says):
    ran = rb(*NUMERIC, *write_only(*listed), *more)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert not Path("d").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"requests": 1}', "[" * 100_000])
def test_only_that_is_no_list(rb, text):
    Path("next.json").write_text(text)
    ran = rb(*NUMERIC, "--only", "next.json")
    assert ran.code == 2
    assert "rb router next DIR --json" in ran.err


@pytest.mark.usefixtures("folder")
def test_nobody_is_asked_where_nobody_is(rb, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    ran = rb(*NUMERIC[:-1])
    assert (ran.code, ran.out) == (2, "")
    assert "fix: give --yes" in ran.err
    assert not Path("d").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("reply", "n_answers"), [(True, 2 * N), (False, 8)])
def test_the_bulk_is_sent_only_when_wanted(rb, monkeypatch, reply, n_answers):
    monkeypatch.setattr(router_collect, "_check_terminal", lambda yes: None)
    monkeypatch.setattr(router_collect.typer, "confirm", lambda *_, **__: reply)
    ran = rb(*NUMERIC[:-1])
    assert (ran.code, len(journal())) == (0, n_answers)
    assert Path("d/scores.csv").exists() == reply
    assert ("not sent" in ran.err) != reply


def test_failures_are_counted_and_the_rest_is_kept(rb, folder, serve):
    url = serve(fails_on="#5#", status=422, otherwise="The answer is 2.")
    (folder / "e.yaml").write_text(f"strict: {url}\n")
    ran = rb(*NUMERIC)
    assert ran.code == 1
    assert "strict: 1 request failed (422: overloaded)" in ran.err
    assert "asks again what failed" in ran.err
    assert len(rows()) == len(journal()) == N - 1


def test_a_model_without_an_answer_is_a_fault_and_the_others_keep_theirs(rb, folder, good, serve):
    locked = serve(key="other")
    with socket.socket() as silent:  # bound, so that nobody else listens there
        silent.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (folder / "e.yaml").write_text(f"good: {good}\ngone: {gone}\nlocked: {locked}\n")
        ran = rb(*NUMERIC)
    assert (ran.code, ran.out) == (2, "")
    assert f"{gone}:gone: cannot connect: connection refused" in ran.err
    assert f"{locked}:locked: refuses requests (401): bad key" in ran.err
    assert "2 faults" in ran.err
    assert {entry["model_name"] for entry in journal()} == {"good"}
    assert not Path("d/scores.csv").exists()


def test_a_key_is_used_and_written_nowhere(rb, folder, serve, monkeypatch):
    url = serve(key=SECRET, otherwise="4")
    (folder / "e.yaml").write_text(f"locked: {{url: {url}, api_key_env: RB_TEST_KEY}}\n")
    unset = rb(*NUMERIC)
    assert unset.code == 2
    assert "export RB_TEST_KEY" in unset.err
    monkeypatch.setenv("RB_TEST_KEY", SECRET)
    ran = rb(*NUMERIC)
    assert ran.code == 0
    texts = [path.read_text() for path in Path("d").iterdir()]
    assert SECRET not in "".join([ran.out, ran.err, *texts])


@pytest.mark.usefixtures("folder")
def test_answers_asked_for_otherwise_do_not_mix(rb):
    rb(*NUMERIC, "--model", "good-8b", "--limit", "2")
    ran = rb(*NUMERIC, "--max-tokens", "9", "--temperature", "1")
    assert ran.code == 2
    assert "--max-tokens 2048 to go on" in ran.err
    assert "--temperature 0 to go on" in ran.err


@pytest.mark.usefixtures("folder")
def test_an_answer_to_another_text_is_asked_again(rb):
    rb(*NUMERIC, "--model", "good-8b", "--limit", "3")
    write_prompts(Path("p.jsonl"), system="Be brief.")
    ran = rb(*NUMERIC, "--model", "good-8b", "--limit", "3")
    assert "3 answers to another text of the prompt left out" in ran.err
    assert len(journal()) == 6
    assert len(rows()) == 3


@pytest.mark.usefixtures("folder")
def test_pools_of_one_model_share_its_work(rb, good):
    for pool in ("good-h100", "good-l4"):
        Path("profiles", pool).mkdir(parents=True)
        pool_yaml = f"name: {pool}\nmodel_name: good-8b\ngpu: l4\nsource: us\n"
        Path("profiles", pool, "pool.yaml").write_text(pool_yaml)
    Path("e.yaml").write_text(f"good-h100: {good}\ngood-l4: {good}\n")
    ran = rb(*NUMERIC, "--usd-per-million-output", "good-l4=1000")
    assert ran.code == 0, ran.err
    assert "about $0.06 for them" in ran.err  # 8 answers of 8 tokens are left
    assert {row["model_name"] for row in rows()} == {"good-8b"}
    assert len(journal()) == N


# ---- The judge -----------------------------------------------------------------------------------


@pytest.fixture
def judged(folder, serve):
    """Returns the arguments with a judge that likes what has an answer."""
    url = serve(replies={"The answer": 'Well: {"score": 9}'}, otherwise='{"score": 0}')
    with (folder / "e.yaml").open("a") as file:
        file.write(f"judge-x: {url}\n")
    (folder / "rubric.txt").write_text("Right sums are good.")
    (folder / "labels.csv").write_text(
        "prompt_id,model_name,score\nq1,good-8b,1\nq0,good-8b,0\nq2,plain-1b,1\nqq,good-8b,1\n"
    )
    return (*GIVEN, "--grader", "llm", "--judge", "judge-x", "--rubric", "rubric.txt", "--yes")


def test_a_judge_grades_and_is_judged(rb, judged):
    ran = rb(*judged, "--labelled", "labels.csv")
    assert ran.code == 0, ran.err
    scores = {row["score"] for row in rows()}
    assert scores == {"0", "0.9"}
    assert {row["model_name"] for row in rows()} == {"good-8b", "plain-1b"}  # not the judge
    known = json.loads(Path("d/grader.json").read_text())
    assert known["agreement_with_people"]["n_compared"] == 3
    assert known["agreement_with_people"]["agreement"] == pytest.approx(2 / 3)
    for said in ("judge-x (judge)", "kappa", "1 label without"):
        assert said in ran.out + ran.err
    n_verdicts = len(journal("d/verdicts.jsonl"))
    again = rb(*judged[:-1], "--regrade")
    assert (again.code, len(journal("d/verdicts.jsonl"))) == (0, n_verdicts)
    assert "is unknown" in again.err
    assert json.loads(Path("d/grader.json").read_text()) == known  # what is known of it stays
    Path("rubric.txt").write_text("Another one.")
    other = rb(*judged[:-1], "--regrade")
    assert "24 answers without a number from the judge" in other.err


def test_only_answers_of_the_models_that_are_asked_are_judged(rb, judged):
    rb(*NUMERIC, "--model", "good-8b", "--model", "plain-1b")
    ran = rb(*judged, "--model", "good-8b")
    assert ran.code == 0, ran.err
    assert {entry["model_name"] for entry in journal("d/verdicts.jsonl")} == {"good-8b"}
    assert f"{N} scores of {N} answers" in ran.out
    assert "without a number" not in ran.err
    assert len(rows()) == 2 * N


def test_without_labels_the_agreement_is_said_to_be_unknown(rb, judged):
    assert "how far the judge agrees with people is unknown" in rb(*judged, "--limit", "2").err


def test_every_grader_can_be_named():
    assert (*KINDS, "llm") == GRADERS


# ---- What is wrong is said at once ---------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--grader", "magic"), ["magic is not one of exact"]),
        (("--grader", "numeric", "--model", "good"), ["unknown endpoint, got good", "good-8b?"]),
        (("--grader", "numeric", "--usd-per-million-output", "x"), ["no price such as"]),
        (("--grader", "numeric", "--usd-per-million-output", "x=1"), ["unknown endpoint, got x"]),
        (("--grader", "numeric", "--judge", "good-8b"), ["belongs to the llm grader"]),
        (("--grader", "choice"), ["neither a letter", "7 prompts q5, q6, q7, ..."]),
        (("--grader", "llm"), ["--rubric: is missing", "--judge: is missing", "2 faults"]),
        (("--grader", "numeric", "--prompts", "no.jsonl", "--endpoints", "no.yaml"), ["2 faults"]),
        (("--grader", "numeric", "--profiles", "no"), ["folder not found"]),
        (("--grader", "numeric", "--only", "no.json"), ["no.json: file not found"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_wrong_options(rb, more, says):
    ran = rb(*GIVEN, *more, "--yes")
    assert (ran.code, ran.out) == (2, "")
    for text in says:
        assert text in ran.err
    assert not Path("d").exists()


@pytest.mark.usefixtures("folder")
def test_prompts_lack_what_grading_needs(rb):
    lines = [{"prompt_id": "a", "text": "?"}, {"prompt_id": "b", "class": "c", "messages": []}]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = rb(*NUMERIC)
    assert ran.code == 2
    for text in ("class: is missing, for prompt a", "asks nothing, for prompt b", "2 prompts a, b"):
        assert text in ran.err


def test_an_interrupt_keeps_what_is_done(folder, serve):
    url = serve(delay_s=0.1, otherwise="2")
    (folder / "e.yaml").write_text(f"slow: {url}\n")
    write_prompts(folder / "p.jsonl", 200)
    command = [sys.executable, "-m", "planner", *NUMERIC, "--concurrency", "2"]
    running = subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    kept, end = folder / "d" / "answers.jsonl", monotonic() + 30
    while monotonic() < end and not (kept.exists() and kept.read_bytes().count(b"\n") > 8):
        sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    n_kept = len(journal(kept))
    assert running.returncode == 0, err
    assert f"interrupted: {n_kept} answers kept in d; the same command goes on" in err
    assert 8 < n_kept < 200
    assert len(rows(folder / "d" / "scores.csv")) == n_kept
