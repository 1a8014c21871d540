"""`rb router import`: each format by hand-made files of its shape, faults, merging."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.files.prompts import read_prompt_scores, read_prompts
from planner.files.results import ResultFiles, read_results
from planner.profile.collect.imported import ImportOptions, as_name
from planner.profile.collect.importer import FORMATS, import_scores

FIXTURES = Path(__file__).parent.parent / "fixtures"
LM_EVAL = FIXTURES / "lm_eval" / "tiny__tiny-8b"
TIME = "2025-03-01T10-00-00.123456"


def imported(*paths, **options):
    return import_scores(read_results([Path(path) for path in paths]), ImportOptions(**options))


def scores(found):
    return {(row.prompt_id, row.model_name): row.score for row in found.rows}


def texts(**files):
    return ResultFiles(files, frozenset(files), {}, {})


# ---- lm-evaluation-harness -----------------------------------------------------------------------


def test_lm_eval_samples():
    found = imported(LM_EVAL)
    assert scores(found) == {
        ("gsm8k/0", "tiny-8b"): 1.0,
        ("gsm8k/1", "tiny-8b"): 0.0,
        ("gsm8k/2", "tiny-8b"): 0.0,
        ("arc_easy/0", "tiny-8b"): 1.0,
        ("arc_easy/1", "tiny-8b"): 0.0,
    }
    prompts = {prompt.prompt_id: prompt for prompt in found.prompts}
    assert prompts["gsm8k/0"].text.startswith("Question: Tom has 3 apples")
    assert (prompts["gsm8k/0"].class_name, prompts["gsm8k/0"].reference) == ("gsm8k", "... #### 7")
    notes = " ".join(found.notes)
    for said in ("strict-match counts; --filter chooses", "metric exact_match", "no tokens"):
        assert said in notes
    assert {row.output_tokens for row in found.rows if row.class_name == "arc_easy"} == {1}


def test_lm_eval_filter_and_metric_can_be_chosen():
    log = LM_EVAL / f"samples_gsm8k_{TIME}.jsonl"
    results = LM_EVAL / f"results_{TIME}.json"
    assert scores(imported(log, results, filter_name="flexible-extract"))["gsm8k/2", "tiny-8b"] == 1
    arc = LM_EVAL / f"samples_arc_easy_{TIME}.jsonl"
    assert set(scores(imported(arc, results, metric="acc_norm")).values()) == {1.0}
    named = imported(arc, model_name="mine", class_name="science")
    assert set(scores(named)) == {("science/0", "mine"), ("science/1", "mine")}


def test_lm_eval_faults(tmp_path):
    log = shutil.copy(LM_EVAL / f"samples_gsm8k_{TIME}.jsonl", tmp_path)
    with pytest.raises(InputError, match="--model-name NAME"):
        imported(log)
    with pytest.raises(InputError, match="no filter strict, got strict-match, flexible-extract"):
        imported(LM_EVAL / f"samples_gsm8k_{TIME}.jsonl", model_name="m", filter_name="strict")
    with pytest.raises(InputError, match=r"from 0 to 1, got None"):
        imported(log, model_name="m", metric="bleu")
    other = Path(log).rename(tmp_path / "mine.jsonl")
    with pytest.raises(InputError, match="--class NAME"):
        imported(other, model_name="m")


def test_old_lm_eval_logs_have_lists_of_arguments():
    line = {"doc_id": 4, "target": "x", "arguments": [["Ask?", {}]], "resps": [["Said"]],
            "filtered_resps": ["Said"], "acc": True}  # fmt: skip
    name = f"samples_t_{TIME}.jsonl"
    found = import_scores(texts(**{name: json.dumps(line)}), ImportOptions(model_name="m"))
    assert (found.prompts[0].text, found.rows[0].score) == ("Ask?", 1.0)


# ---- OpenAI evals --------------------------------------------------------------------------------


def test_openai_evals_logs():
    found = imported(FIXTURES / "openai_evals")
    own = {row.prompt_id.rpartition("/")[2]: row for row in found.rows}
    assert {key: row.score for key, row in own.items()} == {
        "capitals.dev.0": 1.0,
        "capitals.dev.1": 0.0,
        "capitals.dev.2": 1.0,
        "tone.dev.0": 1.0,
        "tone.dev.1": 0.5,
    }
    assert {row.model_name for row in found.rows} == {"tiny-1b"}
    assert {row.class_name for row in found.rows} == {"capitals.dev.v0", "tone.dev.v0"}
    first = own["capitals.dev.0"]
    assert (first.input_tokens, first.output_tokens) == (20, 2)  # as the usage says
    prompt = next(p for p in found.prompts if p.prompt_id.endswith("capitals.dev.0"))
    assert (prompt.text, prompt.reference) == ("Capital of France?", "Paris")
    notes = " ".join(found.notes)
    assert "without a score: 1" in notes
    assert "without usage" in notes


# ---- RouterBench ---------------------------------------------------------------------------------


def test_wide_tables():
    found = imported(FIXTURES / "routerbench" / "wide.csv")
    assert scores(found) == {
        ("mmlu-law/mmlu-law.val.1", "tiny-8b-chat"): 0.0,
        ("mmlu-law/mmlu-law.val.1", "big-70b"): 1.0,
        ("mmlu-law/mmlu-law.val.2", "tiny-8b-chat"): 1.0,
        ("grade-school-math/grade-school-math.dev.7", "tiny-8b-chat"): 0.25,
    }
    assert found.prompts[0].text == "Which one? \nA) yes\nB) no"
    assert found.prompts[1].text == 'And this, "quoted"?'
    long = next(row for row in found.rows if row.score == 0.25)
    assert long.output_tokens == 7  # 29 characters


def test_faults_of_wide_tables(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("sample_id,prompt,eval_name,m,m|total_cost\na,p,t,7,0\nb,p,t\nc,p,,1,0\n")
    with pytest.raises(InputError) as caught:
        imported(path)
    said = str(caught.value)
    for part in ("row 2.m: a score must be", "row 3: must have 5 cells", "row 4: has no sample_id"):
        assert part in said
    path.write_text("sample_id,prompt,eval_name,m\na,p,t,1\n")
    with pytest.raises(InputError, match="no column of a model"):
        imported(path)


# ---- All of them ---------------------------------------------------------------------------------


def test_mixed_folders_are_told_apart_by_content(tmp_path):
    for name in ("lm_eval", "openai_evals", "routerbench"):
        shutil.copytree(FIXTURES / name, tmp_path / name)
    (tmp_path / "other.json").write_text("{}")
    found = imported(tmp_path)
    assert len(found.rows) == 14
    assert found.formats == {
        "lm-evaluation-harness": 3, "OpenAI evals": 2, "RouterBench table": 1,
    }  # fmt: skip
    assert len(found.left_out) == 1


def test_a_named_file_of_no_known_format_is_a_fault(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="known are: lm-evaluation-harness"):
        imported(tmp_path / "other.json")
    with pytest.raises(InputError, match="no file holds a score"):
        imported(tmp_path)


def test_of_an_answer_given_twice_the_last_counts():
    line = {"doc_id": 1, "target": "x", "arguments": [], "resps": [], "filtered_resps": []}
    logs = {
        f"samples_t_2025-03-0{day}T10-00-00.json" + "l": json.dumps({**line, "acc": day - 1})
        for day in (1, 2)
    }
    found = import_scores(texts(**logs), ImportOptions(model_name="m"))
    assert [row.score for row in found.rows] == [1.0]
    assert "1 answers are there twice" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B"),
        ("/models/my model/", "my-model"),
        ("gpt-4o", "gpt-4o"),
        ("--", None),
        ("", None),
    ],
)
def test_names(text, name):
    assert as_name(text) == name


DAMAGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_are_faults_not_tracebacks(data):
    """Any value of any line is replaced by anything: an InputError, or scores that are scores."""
    name, text = data.draw(st.sampled_from(sorted(WHOLE.items())))
    lines = text.splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    if name.endswith(".csv"):
        lines[place] = lines[place].replace("0", data.draw(st.text(max_size=3)), 1)
    else:
        value = json.loads(lines[place])
        inner = value["data"] if "data" in value and data.draw(st.booleans()) else value
        inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(DAMAGE)
        lines[place] = json.dumps(value)
    broken = "\n".join(lines)[: data.draw(st.integers(1, 10_000))]
    try:
        found = import_scores(texts(**{name: broken}), ImportOptions(model_name="m"))
    except InputError:
        return
    assert all(0.0 <= row.score <= 1.0 and row.input_tokens >= 1 for row in found.rows)


WHOLE = {
    path.name: path.read_text()
    for folder in ("lm_eval/tiny__tiny-8b", "openai_evals", "routerbench")
    for path in (FIXTURES / folder).iterdir()
    if path.suffix in (".jsonl", ".csv")
}


def test_every_format_has_a_name():
    assert len({each.name for each in FORMATS}) == 3


# ---- The command ---------------------------------------------------------------------------------


def test_the_command_writes_what_rb_reads(rb):
    ran = rb("router", "import", "d", FIXTURES / "lm_eval", FIXTURES / "routerbench" / "wide.csv")
    assert ran.code == 0, ran.err
    faults = []
    table, _ = read_prompt_scores(Path("d/scores.csv"), None, 1.0, faults)
    prompts, _ = read_prompts(Path("d/prompts.jsonl"), faults)
    assert (faults, table.score.size, len(prompts)) == ([], 9, 8)
    assert "9 scores of 8 prompts" in ran.out
    again = rb("router", "import", "d", FIXTURES / "lm_eval", "--json")
    assert json.loads(again.out)["n_scores"] == 5
    with open("d/scores.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 10


def test_a_dry_run_writes_nothing(rb):
    ran = rb("router", "import", "d", FIXTURES / "lm_eval", "--dry-run")
    assert (ran.code, Path("d").exists()) == (0, False)
    assert "nothing was written" in ran.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("no/such",), "file not found"),
        ((FIXTURES / "lm_eval", "--model-name", "a/b"), "--model-name: is not a name, got 'a/b'"),
        ((FIXTURES / "lm_eval", "--class", "a b"), "--class: is not a name"),
    ],
)
def test_wrong_imports(rb, more, says):
    ran = rb("router", "import", "d", *more)
    assert (ran.code, ran.out, Path("d").exists()) == (2, "", False)
    assert says in ran.err
