"""prompts.jsonl, one prompt a line: what is read, what is refused, and how it meets the scores."""

import json
from pathlib import Path

import pytest

from planner.errors import Fault
from planner.files.csvs import raw_rows
from planner.files.prompts import read_prompts
from planner.files.question import read_question
from planner.files.text import content_hash

QUESTION = """
version: 1
classes: [{name: a, rate_rps: 1}, {name: b, rate_rps: 1}]
stock: {h100: 8}
scores: scores.csv
prompts: prompts.jsonl
"""
SCORES = """prompt_id,class,model_name,score,input_tokens,output_tokens
p2,b,big,1,10,20
p1,a,big,1,10,20
p1,a,small,0,10,25
"""
ONE, TWO = '{"prompt_id": "p1", "text": "one"}', '{"prompt_id": "p2", "text": "two"}'


@pytest.fixture
def lines(tmp_path):
    def with_lines(*rows: str):
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        faults: list[Fault] = []
        prompts, digest = read_prompts(path, faults)
        assert all(fault.fix for fault in faults)
        return prompts, [f"{fault.field}: {fault.what}" for fault in faults], digest

    return with_lines


@pytest.fixture
def table(tmp_path):
    def with_prompts(*rows: str, question: str = QUESTION):
        (tmp_path / "question.yaml").write_text(question)
        (tmp_path / "scores.csv").write_text(SCORES)
        (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
        faults: list[Fault] = []
        files = read_question(tmp_path, faults)
        assert (files is None) == bool(faults)
        return files, [f"{Path(f.file).name}:{f.field}: {f.what}" for f in faults]

    return with_prompts


def test_a_router_sees_the_turns_but_not_the_instructions_to_all(lines):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What is\n2+2?"},
    ]
    (prompt, bare), faults, _ = lines(json.dumps({"prompt_id": "p1", "messages": messages}), TWO)
    assert faults == []
    assert prompt.asked == "Hello\nHi\nWhat is\n2+2?"
    assert bare.asked == "two"


def test_what_a_grader_needs_is_kept(lines):
    row = {
        "prompt_id": "p1",
        "text": "2+2?",
        "class": "math",
        "reference": ["4", 4.0],
        "system": "Answer with a number.",
        "choices": ["3", "4"],
    }
    (prompt,), faults, _ = lines(json.dumps(row))
    assert faults == []
    assert (prompt.class_name, prompt.reference, prompt.choices) == ("math", ("4", 4), ("3", "4"))
    for reference in ("4", 4.5):
        (prompt,), _, _ = lines(json.dumps(row | {"reference": reference}))
        assert prompt.reference == reference


def test_the_hash_is_that_of_the_content(lines):
    _, _, digest = lines(ONE, TWO)
    assert digest == content_hash([json.loads(ONE), json.loads(TWO)])
    assert lines("", ONE.replace(" ", ""), "  ", TWO)[2] == digest
    assert lines(TWO, ONE)[2] != digest


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: must be a mapping of keys to values, got [1]"),
        ('{"prompt_id": "p2"}', "line 2: give either text or messages"),
        ('{"prompt_id": "p2", "text": "x", "messages": []}', "line 2: give either text or mess"),
        ('{"prompt_id": "p1", "text": "x"}', "line 2.prompt_id: prompt given twice, first at li"),
        ('{"prompt_id": "", "text": "x"}', "line 2.prompt_id: must not be empty"),
        ('{"prompt_id": " p2", "text": "x"}', "line 2: prompt_id begins or ends with a blank"),
        ('{"prompt_id": "p2", "txt": "x"}', "line 2.txt: unknown key, got 'x'"),
        ('{"prompt_id": "p2", "text": "x", "reference": NaN}', "line 2.reference"),
        (
            '{"prompt_id": "p2", "messages": [{"role": "me", "content": "x"}]}',
            "line 2.messages[0].role: must be",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_a_faulty_line_names_itself(lines, row, said):
    _, faults, _ = lines(ONE, row)
    assert faults and faults[0].startswith(said)


def test_many_faulty_lines_are_one_problem(lines):
    _, faults, _ = lines(*["{"] * 100)
    assert len(faults) == 21 and faults[-1] == ": and 80 more faults of this kind"


def test_an_empty_file_is_refused(lines):
    assert lines("")[:2] == ((), [": file is empty"])


def test_every_prompt_of_the_scores_gets_its_text(table):
    files, faults = table('{"prompt_id": "p9", "text": "not scored yet"}', TWO, ONE)
    assert faults == []
    assert files.prompts.prompt_ids == ("p1", "p2")
    assert files.prompts.text == ("one", "two")
    assert set(files.hashes) == {"question.yaml", "scores.csv", "prompts.jsonl"}
    assert files.hashes["scores.csv"] == content_hash(raw_rows(SCORES))


def test_a_prompt_of_the_scores_without_a_line_is_a_fault(table):
    said = "prompts.jsonl:prompt_id: lacks 1 of 2 prompts of the scores, got none for p2"
    assert table(ONE) == (None, [said])


def test_a_class_must_be_that_of_the_scores(table):
    assert table('{"prompt_id": "p1", "text": "one", "class": "a"}', TWO)[1] == []
    _, faults = table('{"prompt_id": "p1", "text": "one", "class": "b"}', TWO)
    assert faults == ["prompts.jsonl:class: must be a for p1 as in the scores, got b"]


def test_prompts_without_scores_of_prompts_have_no_use(table):
    question = QUESTION.replace("scores: scores.csv", "class_scores: c.csv")
    _, faults = table(ONE, TWO, question=question)
    assert "question.yaml:prompts: has no use without scores of single prompts" in faults


def test_prompts_outside_the_plan_folder_are_not_read(table):
    _, faults = table(ONE, question=QUESTION.replace("prompts.jsonl", "../prompts.jsonl"))
    assert faults == [
        "question.yaml:prompts: must stay inside the plan folder, got ../prompts.jsonl"
    ]
