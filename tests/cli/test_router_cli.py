"""rb router ...: learn from scores, judge it, explain one choice, say what to score next."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from questions import PROFILES
from router_folder import MODELS, OUTPUT_TOKENS, POOLS, QUALITY, SAID_IN, write_router_folder
from shell import Ran, Run

from planner.cli.app import run
from planner.files.question import read_question
from planner.files.router import ROUTER_FILE, read_router, write_router
from planner.quality.features import FEATURE_NAMES
from planner.quality.scores import scores_of
from planner.spec.router import PER_PROMPT, Contrast, GateResult

MATHS = " ".join(["prove", "the", "integral", "of", "this", "prime", "equation", "is", "matrix"])
COUNTS = {"chat": 60, "code": 60, "math": 40}
SECRET = "zebra-crossing-seventeen"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan folder with a trained router; copied, never changed."""
    folder = write_router_folder(tmp_path_factory.mktemp("learned") / "mine", COUNTS)
    assert run(["router", "train", str(folder), "--profiles", str(PROFILES), "-q"]) == 0
    return folder


@pytest.fixture
def mine(learned: Path, tmp_path: Path) -> Path:
    """A private copy of it in a folder of its own, beside the profiles."""
    shutil.copytree(learned, tmp_path / "plans" / "mine")
    shutil.copytree(PROFILES, tmp_path / "profiles", ignore=_not_needed)
    return Path("plans/mine")


def _not_needed(_folder: str, names: list[str]) -> list[str]:
    """The profiles of other pools than those of the question."""
    return [name for name in names if name.startswith("llama") and name not in POOLS]


def fresh(tmp_path: Path, counts: Mapping[str, int] = COUNTS, **changes: object) -> str:
    """A folder without a router, some keys of its question changed."""
    shutil.copytree(PROFILES, tmp_path / "profiles", ignore=_not_needed)
    write_router_folder(tmp_path / "plans" / "new", counts, **changes)
    return "plans/new"


def test_the_folder_holds_the_truth_that_it_states(tmp_path: Path) -> None:
    """Within four standard errors of 150 and 100 prompts, half as many of one cell."""
    files = read_question(write_router_folder(tmp_path), [])
    assert files is not None
    scores = scores_of(files)
    assert scores is not None and scores.n_prompts == 400
    for c, name in enumerate(scores.class_names):
        in_class = scores.class_code == c
        for m, model_name in enumerate(scores.model_names):
            score, tokens = scores.score[in_class, m], scores.output_tokens[in_class, m]
            n = np.isfinite(score).sum()
            truth = QUALITY[name][MODELS.index(model_name)]
            assert abs(np.nanmean(score) - truth) < 4.0 * np.sqrt(truth * (1.0 - truth) / n)
            stated = OUTPUT_TOKENS[name][MODELS.index(model_name)]
            assert np.nanmean(tokens) == pytest.approx(stated, rel=0.15)


# ---- train ---------------------------------------------------------------------------------------


def test_train_says_what_it_learned(rb: Run, mine: Path) -> None:
    ran = rb("router", "train", str(mine))
    assert ran.code == 0 and ran.err == ""
    assert "3 classes, 3 models, 160 prompts" in ran.out
    assert ran.out.endswith(f"wrote plans/mine/{ROUTER_FILE}\n")
    for name, n in (("chat", "60"), ("code", "60"), ("math", "40")):
        row = next(r.split() for r in ran.out.splitlines() if r.split()[:2] == [name, n])
        assert row[2:5] == ["its", "own", "means:"]
    assert "per-prompt terms are not used: no class has 300" in ran.out
    assert "is told from the text alone" in ran.out
    assert max(len(r) for r in ran.out.splitlines()) <= 80


def test_the_same_data_and_seed_give_the_same_bytes(rb: Run, mine: Path, learned: Path) -> None:
    assert rb("router", "train", str(mine), "-q").code == 0
    assert (mine / ROUTER_FILE).read_bytes() == (learned / ROUTER_FILE).read_bytes()


def test_train_as_data_and_in_silence(rb: Run, mine: Path) -> None:
    ran = rb("router", "train", str(mine), "--json")
    data = json.loads(ran.out)
    assert [c["n_labels"] for c in data["classes"]] == [60, 60, 40]
    assert data["inference_accuracy"] > 0.9 and not data["gate"]["passed"]
    assert "wrote" in ran.err
    assert rb("router", "train", str(mine), "--quiet") == Ran(0, "", "")


def test_without_texts_there_are_class_means(rb: Run, tmp_path: Path) -> None:
    ran = rb("router", "train", fresh(tmp_path, texts=False))
    assert ran.code == 0
    assert "requests must declare their class" in ran.out


def test_few_labels_fall_back_and_say_what_is_missing(rb: Run, tmp_path: Path) -> None:
    ran = rb("router", "train", fresh(tmp_path, {**COUNTS, "math": 12}))
    assert ran.code == 0
    assert "the means of all classes: fewer than 30 prompts" in " ".join(ran.out.split())
    assert "math: 18 more prompts for means of its own" in ran.out


def test_prompts_that_nothing_can_be_held_out_of(rb: Run, tmp_path: Path) -> None:
    """One prompt alone: every fold but one is empty, and nothing else is learned."""
    folder = fresh(tmp_path, {"chat": 1}, quality_at_least=None)
    question = Path(folder, "question.yaml")
    others = "- name: code\n  rate_rps: 30.0\n- name: math\n  rate_rps: 20.0\n"
    question.write_text(question.read_text().replace(others, ""))
    for command in ("train", "eval", "next"):
        ran = rb("router", command, folder)
        assert ran.code == 0, ran.err
        assert "nan" not in ran.out.split()
    assert "Who wins" in rb("router", "show", folder, "anything").out


def test_class_scores_alone_cannot_train(rb: Run) -> None:
    from hand_plan import ROOT

    ran = rb("router", "train", str(ROOT / "plans" / "demo"))
    assert ran.code == 2 and ran.out == ""
    assert "class_scores" in ran.err and "fix: " in ran.err and "rb router collect" in ran.err


def test_models_that_no_pool_serves_are_left_out(rb: Run, tmp_path: Path) -> None:
    folder = fresh(tmp_path, pools=list(POOLS[:2]))
    ran = rb("router", "train", folder)
    assert ran.code == 0
    assert f"left out, as no pool of the question serves them: {MODELS[2]}" in " ".join(
        ran.out.split()
    )
    assert rb("router", "eval", folder, "-q").code == 0  # and the file fits these data


def test_a_damaged_router_is_trained_anew(rb: Run, mine: Path, learned: Path) -> None:
    (mine / ROUTER_FILE).write_bytes(b"not a zip")
    assert rb("router", "train", str(mine), "-q").code == 0
    assert (mine / ROUTER_FILE).read_bytes() == (learned / ROUTER_FILE).read_bytes()


def test_a_question_that_infers_its_classes_can_be_trained(rb: Run, tmp_path: Path) -> None:
    folder = fresh(tmp_path, router={"classes": "inferred"})
    assert rb("router", "train", folder, "-q").code == 0


# ---- eval ----------------------------------------------------------------------------------------


def test_eval_judges_what_was_trained(rb: Run, mine: Path) -> None:
    ran = rb("router", "eval", str(mine))
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith("ships class means; judged on 160 prompts")
    assert max(len(r) for r in ran.out.splitlines()) <= 80


def test_a_router_of_other_data_is_stale(rb: Run, mine: Path) -> None:
    scores = (mine / "scores.csv").read_text()
    (mine / "scores.csv").write_text(scores.replace(",0.0,", ",1.0,", 1))
    ran = rb("router", "eval", str(mine))
    assert ran.code == 1
    assert "router.npz was trained on other data than today's" in ran.out
    quiet = rb("router", "eval", str(mine), "--quiet")
    assert quiet.code == 1 and quiet.out == "" and "rb router train DIR" in quiet.err


def test_eval_says_what_the_file_ships(rb: Run, mine: Path) -> None:
    """Whatever the gate says today: the per-prompt terms are in the file."""
    router = read_router(mine / ROUTER_FILE, [])
    assert router is not None
    n = len(FEATURE_NAMES)
    terms = Contrast(np.zeros(n), np.ones(n), np.zeros((n, 3)))
    trust = np.full(3, PER_PROMPT)
    write_router(mine, replace(router, contrast=terms, trust=trust))
    data = json.loads(rb("router", "eval", str(mine), "--json").out)
    assert data["router"] == "fits" and data["ships_prompt_terms"]


def test_eval_needs_no_router(rb: Run, mine: Path) -> None:
    (mine / ROUTER_FILE).unlink()
    ran = rb("router", "eval", str(mine), "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["router"] == "missing"


@pytest.mark.parametrize(("per_prompt", "ships"), [("auto", True), ("off", False)])
def test_eval_says_what_training_would_ship(
    rb: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_prompt: str, ships: bool
) -> None:
    """An open gate ships nothing that the question does not want."""
    opened = GateResult(True, 0.5, 0.1, 0.9, 0.1, 0.05, 0.2, 160, 5, "per-prompt terms gain")
    monkeypatch.setattr("planner.quality.gate.run_gate", lambda *_: opened)
    folder = fresh(tmp_path, router={"per_prompt": per_prompt})
    data = json.loads(rb("router", "eval", folder, "--json").out)
    assert (data["router"], data["ships_prompt_terms"]) == ("missing", ships)


def test_eval_of_a_damaged_router_is_refused(rb: Run, mine: Path) -> None:
    content = bytearray((mine / ROUTER_FILE).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (mine / ROUTER_FILE).write_bytes(bytes(content))
    ran = rb("router", "eval", str(mine))
    assert ran.code == 2 and ran.out == ""
    assert ROUTER_FILE in ran.err and "fix: " in ran.err


# ---- show ----------------------------------------------------------------------------------------


def test_show_infers_the_class_and_names_a_winner(rb: Run, mine: Path) -> None:
    ran = rb("router", "show", str(mine), MATHS, "--usd-per-point", "1")
    assert ran.code == 0 and ran.err == ""
    assert "llama-3.1-405b answers; class inferred: math" in ran.out
    assert "instead" in ran.out
    assert max(len(r) for r in ran.out.splitlines()) <= 80


def test_what_quality_is_worth_decides(rb: Run, mine: Path) -> None:
    cheap, dear = (
        json.loads(rb("router", "show", str(mine), MATHS, "--usd-per-point", usd, "--json").out)
        for usd in ("0.00001", "10")
    )
    assert cheap["winner"] == "llama-3.1-8b" and dear["winner"] == "llama-3.1-405b"
    starts = [w["usd_per_quality"] for w in cheap["wins_from_usd_per_quality"]]
    assert starts[0] == 0.0 and starts == sorted(starts)
    assert dear["usd_per_quality"] == 1.0  # $10 for 0.01 of 1,000 answers
    assert cheap["models"][0]["net_usd"] == max(m["net_usd"] for m in cheap["models"])


def test_a_declared_class_counts_and_not_the_words(rb: Run, mine: Path) -> None:
    ran = rb("router", "show", str(mine), MATHS, "--class", "chat", "--json")
    data = json.loads(ran.out)
    assert data["class"] == {"known": "declared", "probabilities": {"chat": 1.0}}
    assert data["winner"] is None  # there is no plan, and nobody said what quality is worth


def test_show_here_and_from_stdin(rb: Run, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = rb("router", "show", str(mine), MATHS).out
    monkeypatch.chdir(mine)
    assert rb("router", "show", MATHS).out == there
    monkeypatch.setattr("sys.stdin", io.StringIO(MATHS))
    assert rb("router", "show", "-").out == there


def test_no_prompt_enters_a_file_or_the_output(rb: Run, mine: Path) -> None:
    for options in ((), ("--json",)):
        ran = rb("router", "show", str(mine), f"{MATHS} {SECRET}", *options)
        assert ran.code == 0 and SECRET not in ran.out + ran.err
    assert rb("router", "train", str(mine), "-q").code == 0
    for path in mine.iterdir():
        assert SECRET.encode() not in path.read_bytes()
    words = SAID_IN["math"].split()
    stored = (mine / ROUTER_FILE).read_bytes()
    assert not any(word.encode() in stored for word in words if len(word) > 5)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["{mine}", ""], "PROMPT: is empty"),
        (["{mine}", "  \n "], "PROMPT: is empty"),
        (["plans", "hello"], "plans: is no plan folder fix: did you mean plans/mine?"),
        (["{mine}", "hello", "world"], "put the prompt in quotes"),
        (["{mine}", "hello", "--class", "maths"], "did you mean math?"),
        (["{mine}", "hello", "--usd-per-point", "0"], "is not above zero"),
        (["{mine}", "hello", "--usd-per-point", "nan"], "is not above zero"),
    ],
)
def test_show_refuses(rb: Run, mine: Path, arguments: list[str], what: str) -> None:
    ran = rb("router", "show", *(a.format(mine=mine) for a in arguments))
    assert ran.code == 2 and ran.out == ""
    assert what in " ".join(ran.err.split())


# ---- next ----------------------------------------------------------------------------------------


def test_next_names_prompts_that_are_not_scored(rb: Run, mine: Path) -> None:
    ran = rb("router", "next", str(mine), "--n", "50", "--json")
    data = json.loads(ran.out)
    assert ran.code == 0 and ran.err == ""
    asked = [(r["prompt_id"], r["model_name"]) for r in data["requests"]]
    scored = {tuple(np.array(r.split(","))[[0, 2]]) for r in _rows(mine / "scores.csv")}
    assert len(set(asked)) == len(asked) and not set(asked) & scored
    n_new = sum(cell["n_new_prompts"] for cell in data["cells"])
    assert len(asked) + n_new == 50 == sum(cell["n_labels"] for cell in data["cells"])


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def test_next_as_text(rb: Run, mine: Path) -> None:
    ran = rb("router", "next", str(mine))
    assert ran.code == 0
    assert ran.out.startswith("100 answers to score next")
    assert max(len(r) for r in ran.out.splitlines()) <= 80


def test_next_needs_scores_of_prompts(rb: Run) -> None:
    from hand_plan import ROOT

    ran = rb("router", "next", str(ROOT / "plans" / "demo"))
    assert ran.code == 2 and "scores of single prompts" in ran.err


# ---- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "eval", "show", "next"])
def test_help_gives_an_example_in_80_columns(rb: Run, command: str) -> None:
    ran = rb("router", command, "--help")
    assert ran.code == 0
    assert f"Example: rb router {command}" in ran.out
    assert max(len(r) for r in ran.out.splitlines()) <= 80
