"""A wrong name, wherever it is given: refused with exit 2, and the nearest right one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import Run

from planner.nearest import meant, nearest
from planner.spec.policy import Policy

POOLS = ["llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100", "llama-3.1-70b-b200-tp2"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("llama-3.1-8b-h10", "llama-3.1-8b-h100"),
        ("llama-3.1-70b-h100-tp2", "llama-3.1-70b-h100-tp4"),
        ("LLAMA-3.1-8B-H100", "llama-3.1-8b-h100"),
        ("llama-3.1-70b-b", "llama-3.1-70b-b200-tp2"),
    ],
)
def test_the_pool_that_is_meant(typed: str, found: str) -> None:
    assert nearest(typed, POOLS) == [found]


def test_nothing_like_it() -> None:
    assert nearest("zebra", POOLS) == []
    assert meant("zebra", ["b", "a"]) == "known: a, b"
    assert meant("zebra", []) == "known: none"
    assert meant("x", map(str, range(20))).endswith(", ...")


def test_a_beginning_is_like_what_it_begins() -> None:
    assert nearest("kube", ["kserve", "kubernetes", "compose"]) == ["kubernetes"]
    assert nearest("k", ["kubernetes"]) == []  # one letter says too little


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("max_cost", "max_cost_usd_per_h"),  # the shortest of those that begin so
        ("max_gap", "max_gap_ratio"),  # though max_gpus is more alike
        ("max_gups", "max_gpus"),
        ("latency", "max_latency_increase_ratio"),  # within
        ("quality_min", "min_quality"),
        ("lat", None),  # too little to look for within names
    ],
)
def test_the_key_of_a_policy_that_is_meant(typed: str, found: str | None) -> None:
    assert nearest(typed, Policy.model_fields) == ([found] if found else [])


def test_a_name_that_begins_almost_so() -> None:
    assert nearest("lama", POOLS) == ["llama-3.1-8b-h100"]
    assert nearest("b200", POOLS) == ["llama-3.1-70b-b200-tp2"]
    assert nearest("qwen", POOLS) == []
    assert nearest("Pool", ["pool-b", "POOL", "pool-a"], n=3) == ["POOL", "pool-a", "pool-b"]


@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=12), st.integers(1, 3))
def test_what_is_told_is_known(known: list[str], typed: str, n: int) -> None:
    found = nearest(typed, known, n)
    assert len(found) <= n and len(set(found)) == len(found)
    assert set(found) <= set(known)
    if typed in known:
        assert found[0].casefold() == typed.casefold()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chekc", "."], "Did you mean 'check'?"),
        (["check", "--polcy", "x", "."], "--policy"),
        (["plan", ".", "--effort", "quik"], "did you mean quick?"),
        (["plan", ".", "--method", "mob"], "did you mean mobo?"),
        (["check", "plans/demo", "--format", "markdwn"], "did you mean markdown?"),
        (["schema", "questoin"], "did you mean question?"),
        (["profile", "shwo"], "Did you mean 'show'?"),
        (["profile", "show", "llama-3.1-8b-h10"], "did you mean llama-3.1-8b-h100?"),
        (["completion", "bsh"], "did you mean bash?"),
        (["export", "plans/demo", "--to", "kubernets"], "did you mean kubernetes?"),
        (["simulate", "plans/demo", "--fail", "llama-3.1-8b-h10@0-60"], "llama-3.1-8b-h100"),
    ],
)
def test_a_wrong_word_on_the_command_line(
    rb: Run, demo: Path, arguments: list[str], says: str
) -> None:
    done = rb(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("plans/dmo", "plans/dmo: folder not found\n  fix: did you mean plans/demo?"),
        ("demo", "demo: folder not found\n  fix: did you mean plans/demo?"),
        ("plan/demo", "plan/demo: folder not found\n  fix: did you mean plans/demo?"),
        ("plans/other", "plans/other: folder not found\n  fix: make one with: rb init DIR"),
        ("plans", "plans: is no plan folder\n  fix: name one of: plans/demo, plans/quiet"),
        (
            "plans/demo/plan.json",
            "plans/demo/plan.json: is not a folder\n  fix: did you mean",
        ),
    ],
)
def test_the_plan_folder_that_is_meant(rb: Run, demo: Path, typed: str, says: str) -> None:
    (demo.parent / "quiet").mkdir()
    (demo.parent / "quiet" / "plan.json").write_text("{}")
    done = rb("check", typed)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(says), done.err
    assert done.err.count("fix:") == 1


@pytest.mark.parametrize(
    "arguments",
    [["report"], ["simulate"], ["serve"], ["drift", "--metrics", "x"], ["router", "show", "hi"]],
    ids=" ".join,
)
def test_every_command_offers_the_plan_folder_that_is_meant(
    rb: Run, demo: Path, arguments: list[str]
) -> None:
    *command, last = arguments
    words = [*command, "plans/dmo", last] if last == "hi" else [*arguments, "plans/dmo"]
    done = rb(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == "plans/dmo: folder not found\n  fix: did you mean plans/demo?\n"


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("quality_at_least:", "quality_at_lest:", "did you mean quality_at_least?"),
        ("stock: {h100-sxm-80g: 32", "stock: {h100-sxm-80: 32", "did you mean h100-sxm-80g?"),
        ("statistic: p95", "statistc: p95", "did you mean statistic?"),
    ],
)
def test_a_wrong_word_in_a_question(rb: Run, demo: Path, right: str, wrong: str, says: str) -> None:
    path = demo / "question.yaml"
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    done = rb("check", str(demo))
    assert done.code == 2
    assert says in done.err
