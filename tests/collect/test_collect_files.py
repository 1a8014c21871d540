"""Journals, scores.csv, prompts.jsonl, endpoints.yaml: read after any end, merged, never broken."""

import json
import os

import pytest

from planner.errors import InputError
from planner.files.answers import Journal, known_agreement, read_journal
from planner.files.endpoints import read_endpoints
from planner.files.prompts import read_prompt_scores, read_prompts
from planner.files.scores_out import outdated_note, read_scores_folder, write_scores
from planner.spec.answers import Label, ScoreRow
from planner.spec.prompts import PromptLine


def label(n, score=1.0):
    return Label(prompt_id=f"p{n}", model_name="a", score=score)


def written(path, entries):
    with Journal(path) as journal:
        for entry in entries:
            journal.append(entry)


def read(path):
    faults = []
    entries = read_journal(path, Label, faults)
    return entries, faults


def test_what_was_appended_is_read(tmp_path):
    path = tmp_path / "new" / "answers.jsonl"
    assert read(path) == ([], [])
    written(path, [label(0)])
    written(path, [label(1), Label(prompt_id="é\n\u2028", model_name="a", score=0.5)])
    entries, faults = read(path)
    assert ([e.prompt_id for e in entries], faults) == (["p0", "p1", "é\n\u2028"], [])
    assert path.read_bytes().isascii()


def test_nothing_appended_makes_no_file(tmp_path):
    written(tmp_path / "new" / "answers.jsonl", [])
    assert list(tmp_path.iterdir()) == []


def test_an_entry_is_there_before_the_next_one(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        for n in range(3):
            journal.append(label(n))
            assert len(read(path)[0]) == n + 1


def test_a_torn_end_at_any_place_loses_one_line_and_harms_no_other(tmp_path):
    path = tmp_path / "answers.jsonl"
    written(path, [label(0), label(1)])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole) + 1):
        path.write_bytes(whole[:end])
        entries, faults = read(path)
        n_kept = 2 if end >= len(whole) - 1 else 1  # without its line end the entry is still whole
        assert (len(entries), faults) == (n_kept, [])
        written(path, [label(2)])
        entries, faults = read(path)
        assert ([e.prompt_id for e in entries], faults) == (
            ["p0", *(["p1"] if n_kept == 2 else []), "p2"],
            [],
        )


def test_faulty_lines_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    good = json.dumps(label(0).model_dump())
    path.write_text(f'{good}\nnonsense\n\n{{"prompt_id": "x"}}\n{good}\n')
    entries, faults = read(path)
    assert len(entries) == 2
    assert [f.field for f in faults] == ["line 2", "line 4.model_name", "line 4.score"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_before(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "answers.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_the_users_to_fix(tmp_path):
    (tmp_path / "answers.jsonl").symlink_to("/dev/full")
    path = tmp_path / "answers.jsonl"
    with pytest.raises(InputError, match="No space left"), Journal(path) as journal:
        journal.append(label(0))


def test_what_is_known_of_a_judge(tmp_path):
    path = tmp_path / "grader.json"
    about = {"judge": "j", "rubric_sha256": "x"}
    assert known_agreement(path, about) is None
    path.write_text(json.dumps({**about, "agreement_with_people": {"kappa": 0.5}}))
    assert known_agreement(path, about) == {"kappa": 0.5}
    assert known_agreement(path, {**about, "judge": "k"}) is None
    path.write_text("{")
    assert known_agreement(path, about) is None


# ---- Scores and prompts --------------------------------------------------------------------------


def row(n, model_name="a", score=1.0, sample=1, **signals):
    return ScoreRow(f"p{n}", "sums", model_name, score, 10, 20, sample, signals)


def line(n, **more):
    return PromptLine(**{"prompt_id": f"p{n}", "class": "sums", "text": f"Sum {n}?", **more})


def merged(folder, rows, prompts=()):
    faults = []
    there = read_scores_folder(folder, {r.class_name for r in rows}, faults)
    assert faults == []
    return write_scores(there, rows, prompts), there.notes


def test_scores_are_read_back(tmp_path):
    rows = [row(0, score=1 / 3, sample=2, agreement=0.5), row(0, answered=1.0)]
    merged(tmp_path, rows, [line(0, reference=(4, 2.5, 'x, "y"'), choices=("a", "b"))])
    faults = []
    table, _ = read_prompt_scores(tmp_path / "scores.csv", {"sums"}, 1.0, faults)
    [prompt], _ = read_prompts(tmp_path / "prompts.jsonl", faults)
    assert faults == []
    assert table.score.tolist() == [1.0, 0.33333333]
    assert table.sample.tolist() == [1, 2]
    assert sorted(table.signals) == ["agreement", "answered"]
    assert prompt.reference == (4, 2.5, 'x, "y"')
    assert '"reference": [4, 2.5' in (tmp_path / "prompts.jsonl").read_text()


def test_new_rows_replace_those_of_the_same_prompt_and_model(tmp_path):
    merged(tmp_path, [row(0, sample=1), row(0, sample=2), row(1), row(0, "b", 0.5)])
    merged(tmp_path, [row(0, score=0.0, mean_logprob=-0.25)])
    assert (tmp_path / "scores.csv").read_text() == (
        "prompt_id,class,model_name,sample,score,input_tokens,output_tokens,signal_mean_logprob\n"
        "p0,sums,a,1,0,10,20,-0.25\n"
        "p0,sums,b,1,0.5,10,20,\n"
        "p1,sums,a,1,1,10,20,\n"
    )


def test_the_order_of_rows_and_prompts_does_not_matter(tmp_path):
    rows = [row(n, model) for n in range(3) for model in "ba"]
    merged(tmp_path / "one", rows, [line(0), line(1)])
    merged(tmp_path / "two", rows[::-1], [line(1), line(0)])
    for name in ("scores.csv", "prompts.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rows_that_people_wrote_stay_as_they_are(tmp_path):
    (tmp_path / "scores.csv").write_text(
        'model_name,prompt_id,class,score,input_tokens,output_tokens\nz,"q,1",sums,0.50,7,9\n'
    )
    merged(tmp_path, [row(0)])
    assert '"q,1",sums,z,,0.50,7,9\n' in (tmp_path / "scores.csv").read_text()


def test_prompts_of_others_stay_and_own_ones_are_renewed(tmp_path):
    merged(tmp_path, [row(0)], [line(0), line(1)])
    merged(tmp_path, [row(0)], [line(0, text="New?")])
    prompts, _ = read_prompts(tmp_path / "prompts.jsonl", [])
    assert [(p.prompt_id, p.text) for p in prompts] == [("p0", "New?"), ("p1", "Sum 1?")]


def test_scores_of_another_text_are_noticed(tmp_path):
    merged(tmp_path, [row(0), row(1), row(0, "b")], [line(0), line(1)])
    there = read_scores_folder(tmp_path, {"sums"}, [])
    changed = [line(0, text="New?"), line(1, text="New?"), line(2)]
    assert there.outdated(changed, ["a"]) == ("p0",)  # of p1 nobody else has a score
    assert there.outdated(changed, ["a", "b"]) == ()
    assert there.outdated([line(0), line(1)], []) == ()
    assert "p0" in outdated_note(("p0",))


def test_a_faulty_file_is_not_overwritten(tmp_path):
    (tmp_path / "scores.csv").write_text("prompt_id,class\nx,y\n")
    (tmp_path / "prompts.jsonl").write_text("nonsense\n")
    faults = []
    read_scores_folder(tmp_path, {"sums"}, faults)
    assert {fault.file.rpartition("/")[2] for fault in faults} == {"scores.csv", "prompts.jsonl"}


def test_a_question_that_does_not_fit_is_told(tmp_path):
    (tmp_path / "question.yaml").write_text(
        "version: 1\nclasses:\n  - {name: law}\nscores: other.csv\nprompts: prompts.jsonl\n"
    )
    _, notes = merged(tmp_path, [row(0)])
    assert len(notes) == 2
    assert "no class sums" in notes[0]
    assert "add 'scores: scores.csv'" in notes[1]


def test_another_scale_would_make_all_scores_wrong(tmp_path):
    (tmp_path / "question.yaml").write_text("score_scale: 10\n")
    faults = []
    read_scores_folder(tmp_path, set(), faults)
    assert [fault.field for fault in faults] == ["score_scale"]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    faults = []
    read_scores_folder(tmp_path / "file", set(), faults)
    assert "is not a folder" in faults[0].what


# ---- Endpoints -----------------------------------------------------------------------------------


def endpoints(tmp_path, text):
    (tmp_path / "endpoints.yaml").write_text(text)
    faults = []
    return read_endpoints(tmp_path / "endpoints.yaml", faults), faults


def test_endpoints_in_all_spellings(tmp_path):
    found, faults = endpoints(
        tmp_path,
        "a: http://localhost:8000\n"
        "b: {url: 'https://api.example.com/v1', served_model_name: x/b, api_key_env: B_KEY}\n"
        "c: [http://10.0.0.1:8000, {url: 'http://[::1]:8000/v1'}]\n",
    )
    assert faults == []
    assert [s.url for s in found["c"]] == ["http://10.0.0.1:8000", "http://[::1]:8000/v1"]
    assert (found["b"][0].served_model_name, found["b"][0].api_key_env) == ("x/b", "B_KEY")
    assert found["a"][0].served_model_name is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: http://me:hunter2@host\n", "no user, password or query"),
        ("a: http://host/v1?key=hunter2\n", "no user, password or query"),
        ("a: ftp://hunter2\n", "must be an address"),
        ("a: {url: http://host, api_key: hunter2}\n", "unknown key"),
        ("a: {served_model_name: x}\n", "is missing"),
        ("a: {url: http://host, api_key_env: 'hunter2 x'}\n", "not a key"),
        ("a: []\n", "has no server"),
        ("a: 3\n", "mapping"),
        ("a/b: http://host\n", "is not a name"),
        ("- http://host\n", "mapping of pools"),
        ("", "file is empty"),
    ],
)
def test_what_is_wrong_with_endpoints(tmp_path, text, says):
    _, faults = endpoints(tmp_path, text)
    assert says in " ".join(str(fault) for fault in faults)


@pytest.mark.parametrize(
    "text",
    [
        "a: http://me:hunter2@host\n",
        "a: 'http://host?k=hunter2'\n",
        "a: {url: http://host, api_key_env: sk-hunter2}\n",
    ],
)
def test_a_secret_in_an_address_is_not_repeated(tmp_path, text):
    _, faults = endpoints(tmp_path, text)
    assert faults
    assert "hunter2" not in " ".join(str(fault) for fault in faults)
