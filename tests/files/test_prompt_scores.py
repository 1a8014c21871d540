"""scores.csv, one row per prompt and model: what is read, and what is refused with its line."""

import numpy as np
import pytest

from planner.errors import Fault
from planner.files.question import read_question
from planner.spec.inputs import PromptTable

HEADER = "prompt_id,class,model_name,score,input_tokens,output_tokens\n"
ROWS = "p1,a,big,1,10,20\np1,a,small,0,10,25\np2,b,big,0.5,7,0\n"
QUESTION = """
version: 1
classes: [{name: a, rate_rps: 1}, {name: b, rate_rps: 1}]
stock: {h100: 8}
scores: scores.csv
"""


@pytest.fixture
def read(tmp_path):
    def with_text(text: str, more: str = "") -> tuple[PromptTable | None, list[str]]:
        (tmp_path / "question.yaml").write_text(QUESTION + more)
        (tmp_path / "scores.csv").write_bytes(text.encode())
        faults: list[Fault] = []
        files = read_question(tmp_path, faults)
        assert (files is None) == bool(faults)
        assert all(fault.file.endswith("scores.csv") and fault.fix for fault in faults)
        return files and files.prompts, [f"{fault.field}: {fault.what}" for fault in faults]

    return with_text


def test_the_columns_are_coded(read):
    table, faults = read(HEADER + ROWS)
    assert faults == []
    rows = [
        (table.prompt_code[i], table.classes[c], table.model_names[m], s, tokens_in, tokens_out)
        for i, (c, m, s, tokens_in, tokens_out) in enumerate(
            zip(
                table.class_code,
                table.model_code,
                table.score,
                table.input_tokens,
                table.output_tokens,
                strict=True,
            )
        )
    ]
    assert rows == [
        (0, "a", "big", 1.0, 10.0, 20.0),
        (0, "a", "small", 0.0, 10.0, 25.0),
        (1, "b", "big", 0.5, 7.0, 0.0),
    ]


def test_a_scale_allows_scores_above_one(read):
    table, faults = read(HEADER + "p1,a,big,7,10,20\n", "score_scale: 10\n")
    assert faults == []
    assert table.score.tolist() == [7.0]


SAMPLES = "prompt_id,class,model_name,sample,score,input_tokens,output_tokens,signal_lp,signal_n\n"


def test_several_answers_to_a_prompt_are_told_apart_and_signals_may_be_blank(read):
    table, faults = read(SAMPLES + "p1,a,big,,1,10,20,-0.5,\np1,a,big,2,0,10,30,,\n")
    assert faults == []
    assert table.sample.tolist() == [1, 2]
    assert table.prompt_ids == ("p1",) and table.text is None
    assert sorted(table.signals) == ["lp", "n"]
    assert table.signals["lp"][0] == -0.5
    assert np.isnan(table.signals["lp"][1]) and np.isnan(table.signals["n"]).all()


def test_without_a_column_each_row_is_the_only_answer(read):
    table, _ = read(HEADER + ROWS)
    assert table.sample.tolist() == [1, 1, 1]
    assert table.prompt_ids == ("p1", "p2") and table.signals == {}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "p1,a,big,1.5,1,1,1,,\n",
            "line 2.sample: must be a whole number from 0 to 1e+09, got 1.5",
        ),
        ("p1,a,big,-1,1,1,1,,\n", "line 2.sample: must be a whole number from 0 to 1e+09, got -1"),
        (
            "p1,a,big,1,1,1,1,high,\n",
            "line 2.signal_lp: must be a number from -1e+15 to 1e+15, got high",
        ),
        (
            "p1,a,big,1,1,1,1,nan,\n",
            "line 2.signal_lp: must be a number from -1e+15 to 1e+15, got nan",
        ),
        (
            "p1,a,big,1,1,1,1,,\np1,a,big,2,1,1,1,,\np1,a,big,,0,1,1,,\n",
            "line 4: prompt, model and sample given twice, first at line 2, got p1 / big / 1",
        ),
        (
            "p2,b,big,1,1,1,1,,\np1,a,big,1,1,1,1,,\np2,a,small,1,1,1,1,,\n",
            "line 4.class: prompt given two classes, got p2 in b and a",
        ),
    ],
    ids=["half a sample", "sample below 0", "word", "no number", "twice", "two classes"],
)
def test_a_faulty_sample_or_signal_names_its_line(read, rows, said):
    assert read(SAMPLES + rows) == (None, [said])


def test_a_signal_needs_a_name(read):
    text = HEADER.replace("\n", ",signal_\n") + "p1,a,big,1,10,20,3\n"
    assert read(text) == (None, ["signal_: unknown column, got 'signal_'"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_may_end_as_on_any_system_and_cells_may_hold_lines(read, end):
    text = (HEADER + '"p\u20281",a,big,1,10,20\n"p, 2",a,big,1,10,20\n').replace("\n", end)
    table, faults = read(text)
    assert faults == [] and table.prompt_ids == ("p, 2", "p\u20281")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("p3,a,big,1.5,10,20", "line 5.score: must be a number from 0 to 1, got 1.5"),
        ("p3,a,big,-1,10,20", "line 5.score: must be a number from 0 to 1, got -1"),
        ("p3,a,big,nan,10,20", "line 5.score: must be a number from 0 to 1, got nan"),
        ("p3,a,big,True,10,20", "line 5.score: must be a number from 0 to 1, got True"),
        ("p3,a,big,,10,20", "line 5.score: must be a number from 0 to 1, got nothing"),
        ("p3,a,big,1,0,20", "line 5.input_tokens: must be a number from 1 to 1e+09, got 0"),
        ("p3,a,big,1,1_0,20", "line 5.input_tokens: must be a number from 1 to 1e+09, got 1_0"),
        ("p3,a,big,1,10,inf", "line 5.output_tokens: must be a number from 0 to 1e+09, got inf"),
        (",a,big,1,10,20", "line 5.prompt_id: is missing"),
        ("p3,a,,1,10,20", "line 5.model_name: is missing"),
        ("p3,c,big,1,10,20", "class: unknown class, got c"),
        ("p3,,big,1,10,20", "class: unknown class, got "),
        (
            "p1,a,big,1,10,20",
            "line 5: prompt and model given twice, first at line 2, got p1 / big",
        ),
        ("p3,a,big,1,10", "line 5: must have 6 cells, got 5"),
    ],
    ids=lambda value: value[:20],
)
def test_a_faulty_row_names_its_line(read, row, said):
    assert read(HEADER + ROWS + row + "\n") == (None, [said])


def test_many_bad_rows_are_one_problem(read):
    rows = "".join(f"q{i},a,big,9,10,20\n" for i in range(100))
    _, faults = read(HEADER + rows)
    assert len(faults) == 4
    assert faults[-1] == "score: and 97 more such rows"
