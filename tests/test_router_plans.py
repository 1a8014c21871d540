"""Plans with a trained router: what it infers is planned for, and its age is seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from questions import PROFILES
from router_folder import RATES_RPS, write_router_folder

from planner.case import make_case
from planner.cli.app import run
from planner.errors import InputError
from planner.files.inputs import read_inputs
from planner.files.plans import need_plan
from planner.files.router import read_router
from planner.simulate.demand import drawn_workload, make_demand

SAID = ["--profiles", str(PROFILES), "--quiet"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose words tell the class of most prompts, with its router."""
    folder = write_router_folder(tmp_path_factory.mktemp("trained") / "q", signals=False)
    _blur(folder)
    assert run(["router", "train", str(folder), *SAID]) == 0
    return folder


def _blur(folder: Path) -> None:
    """Takes the words out of a third of the prompts of code, so that they look like chat."""
    lines = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    code = [line for line in lines if line["class"] == "code"]
    chat = [line for line in lines if line["class"] == "chat"]
    for k, line in enumerate(code[::3]):
        line["text"] = chat[k]["text"] + f" {k}"
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def with_question(folder: Path, source: Path, **changes: object) -> Path:
    """A copy of a trained folder with some keys of its question changed."""
    folder.mkdir()
    for name in ("scores.csv", "prompts.jsonl", "router.npz"):
        (folder / name).write_bytes((source / name).read_bytes())
    question = yaml.safe_load((source / "question.yaml").read_text())
    (folder / "question.yaml").write_text(yaml.safe_dump({**question, **changes}))
    return folder


def test_what_is_inferred_is_planned_for(trained: Path, tmp_path: Path):
    declared = read_inputs(trained, PROFILES)
    folder = with_question(tmp_path / "q", trained, router={"classes": "inferred"})
    inferred = read_inputs(folder, PROFILES)
    faults: list = []
    router = read_router(trained / "router.npz", faults)
    names = [c.name for c in declared.question.classes]
    confusion = router.confusion[np.ix_(*[[router.class_names.index(n) for n in names]] * 2)]
    assert 0.2 < confusion[names.index("code"), names.index("chat")] < 0.5
    expected = np.array(list(RATES_RPS.values())) @ confusion
    assert [c.rate_rps for c in inferred.question.classes] == pytest.approx(expected.tolist())
    before, after = make_case(declared).workload, make_case(inferred).workload
    assert after.total_rps == pytest.approx(before.total_rps)
    # Who takes everything sees the same mean score and the same tokens, whatever it is taken for.
    for p in range(before.n_pools):
        assert after.weights @ after.quality[:, p] == pytest.approx(
            before.weights @ before.quality[:, p]
        )
        tokens = [
            sum(
                rate * row[p].mean_output_tokens
                for rate, row in zip(w.rate_rps, w.shapes, strict=True)
            )
            for w in (before, after)
        ]
        assert tokens[1] == pytest.approx(tokens[0])
    # What was code and looks like chat drags the score of chat down.
    small = after.pool_names.index("llama-3.1-8b-h100")
    assert after.quality[names.index("chat"), small] < before.quality[names.index("chat"), small]


def test_the_simulator_draws_the_same_mixture(trained: Path, tmp_path: Path):
    folder = with_question(tmp_path / "q", trained, router={"classes": "inferred"})
    inputs = read_inputs(folder, PROFILES)
    workload = drawn_workload(inputs.files, inputs.candidates)
    demand = make_demand(inputs.files, workload, duration_s=600.0, seed=0)
    seen = np.bincount(demand.class_index) / demand.class_index.size
    assert seen == pytest.approx(workload.weights, abs=0.01)


def test_a_plan_with_a_router_is_clean_until_the_router_or_the_scores_change(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    question = {"classes": "inferred", "cascades": "off"}
    fixed = {
        "llama-3.1-405b-fp8-h100-tp8": {"max": 0},
        "llama-3.1-70b-h100-tp4": {"min": 2, "max": 3},
        "llama-3.1-8b-h100": {"min": 1, "max": 2},
    }
    folder = with_question(tmp_path / "q", trained, router=question, replicas=fixed)
    assert run(["plan", str(folder), "--effort", "quick", *SAID]) == 0
    plan = need_plan(folder)
    assert plan.quality_basis is not None and plan.quality_basis.held_out
    assert plan.quality_basis.per_prompt is None  # far too few prompts for its gate
    assert any("is taken for another class" in text for text in plan.why)
    assert "router.npz" in plan.provenance.inputs
    assert run(["check", str(folder), *SAID]) == 0
    assert run(["router", "train", str(folder), "--seed", "3", *SAID]) == 0
    assert run(["check", str(folder), *SAID]) == 1
    assert "router.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"router": {"classes": "inferred"}, "classes": [
            {"name": name, "rate_rps": 1.0} for name in (*RATES_RPS, "poems")]}, "poems"),
        ({"router": {"classes": "guessed"}}, "router.classes"),
        ({"router": {"classes": "inferred"}, "classes": [
            {"name": name, "rate_rps": rate, "not_pools": ["llama-3.1-8b-h100"]}
            for name, rate in RATES_RPS.items()]}, "not_pools"),
    ],
)  # fmt: skip
def test_what_cannot_be_inferred_is_a_fault(
    trained: Path, tmp_path: Path, changes: dict[str, object], said: str
):
    folder = with_question(tmp_path / "q", trained, **changes)
    with pytest.raises(InputError) as caught:
        read_inputs(folder, PROFILES)
    assert any(said in f"{fault.field} {fault.what}" for fault in caught.value.faults)


def test_inferred_classes_need_a_router(tmp_path: Path):
    folder = write_router_folder(tmp_path / "q", router={"classes": "inferred"})
    with pytest.raises(InputError) as caught:
        read_inputs(folder, PROFILES)
    (fault,) = caught.value.faults
    assert fault.field == "router.classes" and "rb router train" in fault.fix
    assert read_inputs(folder, PROFILES, with_router=False).files.router is None
