"""A first question made from own scores: their classes, and what their models score."""

from pathlib import Path

import pytest

from planner.errors import Fault, InputError
from planner.files.question import read_question
from planner.files.starter import write_starter

SCORES = """prompt_id,class,model_name,sample,score,input_tokens,output_tokens,signal_agreement
p1,chat,big,1,1,10,20,0.5
p1,chat,big,2,0,10,20,
p1,chat,small,1,0,10,20,1
p2,code,big,1,0.75,10,20,
"""


def test_scores_with_samples_and_signals_become_a_question_that_can_be_read(tmp_path: Path) -> None:
    scores = tmp_path / "own.csv"
    scores.write_text(SCORES)
    folder = tmp_path / "plan"
    write_starter(folder, scores, None, 3.0)
    text = (folder / "question.yaml").read_text()
    assert "# mean scores: big 0.50, small 0.00" in text
    assert "# mean scores: big 0.75\n" in text
    faults: list[Fault] = []
    files = read_question(folder, faults)
    assert files is not None and files.prompts is not None, faults
    assert files.prompts.signals["agreement"][0] == 0.5
    assert [c.name for c in files.question.classes] == ["chat", "code"]


def test_a_class_that_is_no_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    scores = tmp_path / "own.csv"
    scores.write_text(SCORES.replace("chat", "small talk"))
    with pytest.raises(InputError) as refused:
        write_starter(tmp_path / "plan", scores, None, 3.0)
    (fault,) = refused.value.faults
    assert (fault.field, fault.what) == ("class.name", "is not a name, got 'small talk'")
    assert not (tmp_path / "plan").exists()
