"""`rb check` with a policy, a plan before, other formats and files: what a CI job sees of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from shell import Run

from planner.cli.check_out import FORMATS, outs_of
from planner.gate.rules import RULES

PASSES = "version: 1\nmax_cost_usd_per_h: 100\n"
BREAKS = "version: 1\nmax_cost_usd_per_h: 10\nseverity: {incomplete: off}\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "team.yaml"
    path.write_text(BREAKS)
    return path


def changed(demo: Path, before: str, after: str) -> None:
    path = demo / "plan.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.fixture
def before(demo: Path) -> Path:
    """Returns the folder of a plan before, which was cheaper."""
    folder = demo.parent / "old"
    folder.mkdir()
    text = (
        (demo / "plan.json")
        .read_text()
        .replace('"cost_usd_per_h": 73.75', '"cost_usd_per_h": 60.0')
    )
    (folder / "plan.json").write_text(text)
    return folder


def git(folder: Path, *arguments: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


# ---- The policy ----------------------------------------------------------------------------------


def test_a_policy_that_is_kept_and_one_that_is_broken(rb: Run, demo: Path, policy: Path) -> None:
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert ran.code == 1
    assert "error policy-cost: plan.json:predicted.cost_usd_per_h" in ran.out
    assert "costs $73.75 per hour, at most $10.00 is allowed (+$63.75)" in ran.out
    assert "switched off by the policy: incomplete (0)" in ran.out
    policy.write_text(PASSES)
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert (ran.code, ran.out.startswith("clean:")) == (0, True)


def test_what_is_switched_off_is_counted(rb: Run, demo: Path, policy: Path) -> None:
    policy.write_text("version: 1\nseverity: {routes-missing: off}\n")
    (demo / "routes.json").unlink()
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert ran.code == 0
    assert "1 finding of rules switched off" in " ".join(ran.out.split())
    assert "switched off by the policy: routes-missing (1)" in ran.out
    data = json.loads(rb("check", "plans/demo", "--policy", "team.yaml", "--json").out)
    assert data["switched_off"] == {"routes-missing": 1}
    assert "routes-missing" not in data["judged"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_switched_off_is_told_in_every_format(
    rb: Run, demo: Path, policy: Path, format: str
) -> None:
    """On stdout alone: a comment or a log has no stderr beside it."""
    policy.write_text("version: 1\nseverity: {routes-missing: off}\n")
    (demo / "routes.json").unlink()
    ran = rb("check", "plans/demo", "--policy", "team.yaml", "--format", format)
    assert (ran.code, "routes-missing" in ran.out) == (0, True)


def test_a_policy_in_the_plan_folder_is_not_read_by_itself(rb: Run, demo: Path) -> None:
    (demo / "policy.yaml").write_text(BREAKS)
    ran = rb("check", "plans/demo")
    assert ran.code == 0
    told = "note: plans/demo/policy.yaml is not looked at: give it with --policy"
    assert told in ran.err
    assert rb("check", "plans/demo", "--quiet").err == ""
    assert rb("check", "plans/demo", "--policy", "plans/demo/policy.yaml").code == 1


def test_faults_of_plan_policy_and_plan_before_are_told_together(
    rb: Run, demo: Path, policy: Path
) -> None:
    policy.write_text("version: 1\nmax_cost: 1\n")
    (demo / "routes.json").write_text("{")
    ran = rb("check", "plans/demo", "--policy", "team.yaml", "--against", "plans/nowhere")
    assert (ran.code, ran.out) == (2, "")
    for place in ("team.yaml:max_cost", "plans/demo/routes.json", "plans/nowhere"):
        assert place in ran.err
    policy.write_text("version: 1\nforbidden_gpus: [h100]\n")
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert (ran.code, "did you mean h100-sxm-80g?" in ran.err) == (2, True)


def test_a_gpu_that_the_policy_misspells(rb: Run, demo: Path, policy: Path) -> None:
    policy.write_text("version: 1\nforbidden_gpus: [h100-smx-80g]\n")
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "team.yaml:forbidden_gpus.h100-smx-80g" in ran.err
    assert "did you mean h100-sxm-80g?" in ran.err


def test_a_policy_of_a_revision_is_not_weakened_by_a_later_one(
    rb: Run, demo: Path, policy: Path
) -> None:
    git(policy.parent, "init", "-q")
    git(policy.parent, "add", "team.yaml")
    git(policy.parent, "commit", "-q", "-m", "one")
    policy.write_text(PASSES)
    line = ("check", "plans/demo", "--format", "github", "--policy")
    assert rb(*line, "team.yaml").code == 0
    ran = rb(*line, "HEAD:team.yaml")
    assert (ran.code, "title=rb policy-cost::" in ran.out) == (1, True)
    for wrong, said in (("HEAD:gone.yaml", "no such path"), ("HEAD:", "is a folder")):
        ran = rb(*line, wrong)
        assert (ran.code, ran.out, f"{wrong}: {said}" in ran.err) == (2, "", True)
    policy.write_text("version: 1\nmax_cost: 1\n")
    git(policy.parent, "commit", "-q", "-a", "-m", "two")
    ran = rb(*line, "HEAD:team.yaml")
    assert (ran.code, "HEAD:team.yaml:max_cost: unknown key" in ran.err) == (2, True)


@pytest.mark.parametrize("policy", ["../team.yaml", "HEAD:team.yaml", "HEAD:../team.yaml"])
def test_files_are_named_from_the_top_of_the_repository(
    rb: Run, demo: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Wherever in it one stands: a review shows annotations by these paths."""
    home = demo.parent.parent
    (home / "team.yaml").write_text(f"{BREAKS}keep_limits: true\n")
    git(home, "init", "-q")
    git(home, "add", "team.yaml")
    git(home, "commit", "-q", "-m", "one")
    monkeypatch.chdir(demo.parent)
    ran = rb("check", "demo", "--policy", policy, "--format", "github")
    errors, warnings = (
        {row.split(",")[0] for row in ran.out.splitlines() if row.startswith(f"::{kind} ")}
        for kind in ("error", "warning")
    )
    assert errors == {"::error file=plans/demo/plan.json"}
    assert warnings == {"::warning file=team.yaml"}


# ---- The plan before -----------------------------------------------------------------------------


def test_against_a_folder_and_a_revision(rb: Run, before: Path, policy: Path) -> None:
    policy.write_text("version: 1\nmax_cost_increase_usd_per_h: 1\n")
    told = "goes from $60.00 to $73.75 per hour, +$13.75 (+22.9%): at most +$1.00 is allowed"
    ran = rb("check", "plans/demo", "--policy", "team.yaml", "--against", "plans/old")
    assert (ran.code, told in " ".join(ran.out.split())) == (1, True)
    assert ran.out.startswith("against the plan before: ")
    home = before.parent.parent
    git(home, "init", "-q")
    git(home, "add", "plans/old")
    git(home, "commit", "-q", "-m", "one")
    (before / "plan.json").unlink()
    ran = rb("check", "plans/demo", "--policy", "team.yaml", "--against", "HEAD:plans/old")
    assert (ran.code, told in " ".join(ran.out.split())) == (1, True)
    ran = rb("check", "plans/demo", "--policy", "team.yaml", "--against", "HEAD:plans/gone")
    assert (ran.code, ran.out, "HEAD:plans/gone" in ran.err) == (2, "", True)


def test_without_it_what_compares_is_a_warning(rb: Run, demo: Path, policy: Path) -> None:
    policy.write_text("version: 1\nkeep_limits: true\n")
    ran = rb("check", "plans/demo", "--policy", "team.yaml")
    assert (ran.code, "warning policy-not-judged" in ran.out) == (0, True)
    policy.write_text("version: 1\nkeep_limits: true\nseverity: {policy-not-judged: error}\n")
    assert rb("check", "plans/demo", "--policy", "team.yaml").code == 1


# ---- What is judged is not written over ----------------------------------------------------------


@pytest.mark.parametrize("name", ["question.yaml", "plan.json", "class_scores.csv"])
def test_what_is_judged_is_not_written_over(rb: Run, demo: Path, name: str) -> None:
    text = (demo / name).read_text()
    for out in (f"plans/../plans/demo/{name}", f"sarif:{demo / name}"):
        ran = rb("check", "plans/demo", "--format", "json", "--out", out)
        assert (ran.code, ran.out) == (2, "")
        assert f"demo/{name}: is data that is read, not a report" in ran.err
    assert (demo / name).read_text() == text


# ---- Formats and files ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", [PASSES, BREAKS])
def test_every_format_has_the_same_exit_code(
    rb: Run, before: Path, policy: Path, format: str, text: str
) -> None:
    policy.write_text(text)
    ran = rb(
        *("check", "plans/demo", "--policy", "team.yaml"),
        *("--against", "plans/old", "--format", format),
    )
    assert ran.code == int(text == BREAKS)
    assert ("policy-cost" in ran.out) or format in ("text", "markdown", "github")
    if text == BREAKS:
        assert "policy-cost" in ran.out
    if format == "json":
        assert set(json.loads(ran.out)) >= {"ok", "judged", "switched_off", "diff"}
    if format == "junit":
        cases = {case.get("name"): case for case in ET.fromstring(ran.out).iter("testcase")}
        assert (cases["policy-cost"].find("failure") is not None) == (text == BREAKS)
        assert (cases.get("incomplete") is not None) and cases["stale"].find("failure") is None
    if format == "sarif":
        rules = json.loads(ran.out)["runs"][0]["tool"]["driver"]["rules"]
        assert "policy-cost" in {rule["id"] for rule in rules}
    if format == "markdown":
        assert len(ran.out.splitlines()) < 40 and "$73.75" in ran.out


def test_files_are_written_beside_what_is_shown(
    rb: Run, demo: Path, policy: Path, tmp_path: Path
) -> None:
    ran = rb(
        *("check", "plans/demo", "--policy", "team.yaml", "--format", "github"),
        *("--out", "markdown:out/comment.md", "--out", "sarif:out/rb.sarif", "--out", "text:a.txt"),
    )
    assert ran.code == 1
    assert ran.out.startswith("::error file=plans/demo/plan.json,line=")
    assert (tmp_path / "out" / "comment.md").read_text().startswith("### ")
    assert json.loads((tmp_path / "out" / "rb.sarif").read_text())["version"] == "2.1.0"
    text = (tmp_path / "a.txt").read_text()
    assert "error policy-cost" in text and "\x1b" not in text


def test_out_without_a_format_takes_that_of_stdout(rb: Run, demo: Path, tmp_path: Path) -> None:
    ran = rb("check", "plans/demo", "--format", "junit", "--out", "j.xml")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("clean:")
    assert ET.parse(tmp_path / "j.xml").getroot().tag == "testsuites"
    assert rb("check", "plans/demo", "--json", "--out", "j.json", "--quiet").err == ""
    assert json.loads((tmp_path / "j.json").read_text())["ok"] is True


def test_files_of_out() -> None:
    outs = outs_of(["a.md", "json:b", "C:/x.txt", "sarif:c:d"], "markdown")
    assert [(out.format, str(out.path)) for out in outs] == [
        ("markdown", "a.md"),
        ("json", "b"),
        ("markdown", "C:/x.txt"),  # no format of that name: a path
        ("sarif", "c:d"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "Missing argument 'DIR'"),
        (["check", "plans/demo", "--format", "sarfi"], "did you mean sarif?"),
        (["check", "plans/demo", "--out", "json:"], "--out names no file"),
        (["check", "--list", "--format", "sarif"], "text, markdown or json"),
    ],
)
def test_usage(rb: Run, arguments: list[str], said: str) -> None:
    ran = rb(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())


# ---- The rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["text", "markdown", "json"])
def test_all_rules_are_listed(rb: Run, format: str) -> None:
    ran = rb("check", "--list", "--format", format)
    assert (ran.code, ran.err) == (0, "")
    assert [rule.id for rule in RULES if rule.id not in ran.out] == []
    if format == "json":
        assert [rule["id"] for rule in json.loads(ran.out)] == [rule.id for rule in RULES]
        assert rb("check", "--list", "--json").out == ran.out
    if format == "text":
        assert max(map(len, ran.out.splitlines())) <= 80


def test_a_list_of_rules_needs_no_numpy() -> None:
    """So that it is there at once."""
    import sys

    program = (
        "import sys\nfrom planner.cli.app import run\nassert run(['check', '--list']) == 0\n"
        "assert not {'numpy', 'torch', 'scipy'} & set(sys.modules)"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_same_check_gives_the_same_bytes(rb: Run, before: Path, policy: Path) -> None:
    line = ("check", "plans/demo", "--policy", "team.yaml", "--against", "plans/old")
    for format in FORMATS:
        assert rb(*line, "--format", format).out == rb(*line, "--format", format).out
