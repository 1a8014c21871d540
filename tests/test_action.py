"""The CI pieces, run as CI runs them: each step's script by bash, in a repository with two plans.

Only how rb is installed is replaced, which would need a network: where the step would have put
`rb` lies a script that starts this one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from hand_plan import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
GITLAB = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
INSTALL = "Install rb"
PLAN = "plans/demo"
POLICY = "policy.yaml"
Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Ran:
    """What the steps of an action left behind."""

    code: int
    out: str
    err: str
    outputs: dict[str, str]
    summary: str


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a repository with a plan and a policy on main, from which others are cloned."""
    folder = tmp_path_factory.mktemp("origin")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copytree(ROOT / "plans" / "demo", folder / PLAN, ignore=shutil.ignore_patterns("*.json"))
    for path in (ROOT / "tests" / "demo_plan").glob("*.json"):
        shutil.copy(path, folder / PLAN)
    (folder / POLICY).write_text("version: 1\nmax_cost_usd_per_h: 1\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=plan")


def cloned(origin: Path, home: Path) -> Path:
    """Returns a shallow clone, as actions/checkout makes it."""
    folder = home / "checkout"
    git(home, "clone", "--quiet", "--depth=1", f"file://{origin}", str(folder))
    return folder


@pytest.fixture
def checkout(origin: Path, tmp_path: Path) -> Path:
    """Returns a clone of the test's own."""
    return cloned(origin, tmp_path)


@pytest.fixture(scope="module")
def clean(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a clone that no test changes."""
    return cloned(origin, tmp_path_factory.mktemp("clean"))


def stand_in(path: Path, script: str) -> None:
    """Puts a program at a path that does what a script says."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def rb_at(path: Path) -> None:
    """Puts a program at a path that is this rb."""
    stand_in(path, f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m planner "$@"')


def run_action(
    folder: Path,
    base: str = "",
    until: str = "judge",
    rb: Callable[[Path], None] | None = rb_at,
    **inputs: str,
) -> Ran:
    """Returns what the action does in a checkout, its inputs as a workflow gives them.

    Args:
        folder: the checkout.
        base: the commit that the pull request is to be merged into.
        until: the step after which nothing more is run.
        rb: what puts the program where the step that is left out would; None: it is there.
        inputs: those of the action.
    """
    place = folder.parent / "runner"
    place.mkdir(exist_ok=True)
    if rb is not None:
        rb(place / "rb" / "bin" / "rb")
    known = {f"inputs.{name}": each.get("default", "") for name, each in ACTION["inputs"].items()}
    known |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
    known["github.event.pull_request.base.sha"] = base
    out, err, code = "", "", 0
    for step in ACTION["runs"]["steps"]:
        if "run" not in step or step["name"] == INSTALL:
            continue
        done, outputs = run_step(step, folder, place, known)
        known |= {f"steps.{step['id']}.outputs.{k}": v for k, v in outputs.items()}
        out, err, code = out + done.stdout, err + done.stderr, done.returncode
        if code or step["id"] == until:
            break
    wanted = {name: filled(each["value"], known) for name, each in ACTION["outputs"].items()}
    for name in ("against", "policy"):
        wanted[name] = known.get(f"steps.before.outputs.{name}", "")
    summary = place / "summary"
    return Ran(code, out, err, wanted, summary.read_text() if summary.exists() else "")


def run_step(
    step: Mapping[str, object], folder: Path, place: Path, known: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Runs the script of a step as a runner does, and returns its outputs."""
    script, told = place / "step.sh", place / "output"
    script.write_text(str(step["run"]))
    told.write_text("")
    given = step.get("env") or {}
    assert isinstance(given, Mapping)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "RUNNER_TEMP": str(place),
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(told),
        "GITHUB_STEP_SUMMARY": str(place / "summary"),
        **{name: filled(value, known) for name, value in given.items()},
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [row.split("=", 1) for row in told.read_text().splitlines()]
    return done, dict(rows)


def filled(text: str, known: Mapping[str, str]) -> str:
    """Returns a text with its expressions replaced; one that nobody has set is empty."""

    def value(found: re.Match[str]) -> str:
        names = found[1].split("||")
        return next((known[n.strip()] for n in names if known.get(n.strip())), "")

    return re.sub(r"\$\{\{ *([\w.| -]+?) *\}\}", value, text)


def edited(folder: Path, edit: Edit) -> None:
    edit(folder / PLAN)
    commit(folder)


def cheaper_than_it_is(plan: Path) -> None:
    text = (plan / "plan.json").read_text()
    data = json.loads(text)
    data["predicted"]["cost_usd_per_h"] = 50.0
    data["title"] = "`x` | @everybody <img src=x>"
    (plan / "plan.json").write_text(json.dumps(data, indent=2) + "\n")


def half_a_file(plan: Path) -> None:
    text = (plan / "plan.json").read_text()
    (plan / "plan.json").write_text(text[: len(text) // 2])


def test_a_clean_plan_passes_and_is_reviewed_beside_the_base(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")
    ran = run_action(checkout, base, plan=PLAN, comment_file="review.md")
    assert (ran.code, ran.err) == (0, "")
    assert ran.outputs == {
        "exit-code": "0",
        "comment-file": "review.md",
        "sarif-file": "",
        "against": f"{base}:{PLAN}",
        "policy": "",
    }
    review = (checkout / "review.md").read_text()
    assert review == ran.summary
    assert "Safe: the plan keeps every rule" in review.splitlines()[0]
    assert "the same replicas and the same routes as before" in review
    assert "::error" not in ran.out


def test_a_broken_plan_fails_with_the_line_that_is_wrong(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")
    (checkout / POLICY).write_text("version: 1\nmax_cost_usd_per_h: 1000\n")
    edited(checkout, cheaper_than_it_is)
    files = {"sarif_file": "rb.sarif", "junit_file": "rb.xml"}
    ran = run_action(checkout, base, plan=PLAN, policy=POLICY, **files)
    assert (ran.code, ran.outputs["exit-code"]) == (1, "1")
    errors = [row for row in ran.out.splitlines() if row.startswith("::error ")]
    lines = (checkout / PLAN / "plan.json").read_text().splitlines()
    form = r"::error file=([^,]+),line=(\d+),title=rb prediction-drift::plan.json:predicted.cost"
    place = next(found for row in errors if (found := re.match(form, row)))
    assert place[1] == f"{PLAN}/plan.json"
    assert lines[int(place[2]) - 1].strip() == '"cost_usd_per_h": 50.0,'
    assert any("title=rb policy-cost::" in row for row in errors)  # by the policy of the base
    log = json.loads((checkout / "rb.sarif").read_text())
    rules = {result["ruleId"] for result in log["runs"][0]["results"]}
    assert {"prediction-drift", "policy-cost"} <= rules
    assert int(ET.parse(checkout / "rb.xml").getroot().get("failures", "0")) >= 1
    assert ran.summary.startswith("### ❌ Not safe")
    assert len(ran.summary.splitlines()) < 40
    assert "<img" not in ran.summary and "@everybody" not in ran.summary  # it is the plan's title


def test_a_plan_that_cannot_be_read_is_no_judgement(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")
    edited(checkout, half_a_file)
    ran = run_action(checkout, base, plan=PLAN)
    assert (ran.code, ran.outputs["exit-code"]) == (2, "2")
    assert "could not be judged" in ran.summary
    assert "    plans/demo/plan.json" in ran.summary  # indented: shown as it is
    assert obeyed(ran.out) == ["::error title=rb check::The plan could not be judged, see the log."]
    assert "plans/demo/plan.json" in ran.out and ran.err == ""


def obeyed(log: str) -> list[str]:
    """The commands in a log that a runner would carry out."""
    rows = iter(log.splitlines())
    found = []
    for row in rows:
        if row.startswith("::stop-commands::"):
            word = row.removeprefix("::stop-commands::")
            assert len(word) == 32
            while next(rows) != f"::{word}::":
                pass
        elif row.lstrip().startswith("::") or "##[" in row:
            found.append(row)
    return found


SAYS = "printf '::set-output name=exit-code::0\\n ##[error]x\\n' >&2"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"{SAYS}; exit 2", 2),
        (f"{SAYS}; exit 70", 70),
        (f"{SAYS}; exit 1", 70),  # python itself ends so where it cannot even begin
        (f"{SAYS}; exit 0", 70),
    ],
)
def test_what_cannot_judge_is_never_taken_for_a_judgement(
    tmp_path: Path, script: str, code: int
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "review.md").write_text("Safe, said an earlier run")
    stand_in(tmp_path / "runner" / "rb" / "bin" / "rb", script)
    ran = run_action(folder, plan="p", against="none", comment_file="review.md", rb=None)
    assert (ran.code, ran.outputs["exit-code"]) == (code, str(code))
    assert ran.summary.startswith("### ❌ The plan could not be judged\n\n    ::set-output")
    assert ran.summary == (folder / "review.md").read_text()
    assert len(obeyed(ran.out)) == 1 and "::set-output" in ran.out


def test_a_base_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "checkout")
    ran = run_action(tmp_path / "checkout", "0" * 40, until="before", plan=PLAN)
    assert ran.code == 2
    assert obeyed(ran.out) == [
        "::error title=rb check::The base of the pull request cannot be fetched."
    ]


def test_a_merge_queue_has_a_base_too() -> None:
    (base,) = [s["env"]["BASE"] for s in ACTION["runs"]["steps"] if "BASE" in s.get("env", {})]
    assert filled(base, {"github.event.merge_group.base_sha": "abc"}) == "abc"
    assert filled(base, {"github.event.pull_request.base.sha": "def"}) == "def"
    assert filled(base, {}) == ""


def test_the_base_of_a_shallow_checkout_is_fetched(origin: Path, checkout: Path) -> None:
    base = git(origin, "rev-parse", "HEAD")
    git(origin, "checkout", "--quiet", "-B", "head")
    try:
        (origin / "README").write_text("other")
        commit(origin)
        git(checkout, "fetch", "--quiet", "--depth=1", "origin", "head")
        git(checkout, "checkout", "--quiet", "FETCH_HEAD")
        git(checkout, "update-ref", "-d", "refs/remotes/origin/main")
    finally:
        git(origin, "checkout", "--quiet", "main")
    ran = run_action(checkout, base, until="before", plan=f"./{PLAN}/")
    assert (ran.code, ran.outputs["against"]) == (0, f"{base}:{PLAN}")
    assert git(checkout, "cat-file", "-t", base) == "commit"


@pytest.mark.parametrize(
    ("plan", "against", "found"),
    [
        ("plans/new one", "", ""),  # the base has no plan there
        (PLAN, "none", ""),
        (PLAN, "v1:plans/old", "v1:plans/old"),
    ],
)
def test_what_is_compared_with(clean: Path, plan: str, against: str, found: str) -> None:
    base = git(clean, "rev-parse", "HEAD")
    ran = run_action(clean, base, until="before", rb=None, plan=plan, against=against)
    assert (ran.code, ran.outputs["against"]) == (0, found)
    assert ("There is no plan in plans/new one at the base" in ran.out) == (plan != PLAN)


def test_the_policy_is_that_of_the_base(checkout: Path) -> None:
    base = git(checkout, "rev-parse", "HEAD")

    def found(policy: str, base: str = base, against: str = "none") -> tuple[str, bool]:
        inputs = {"plan": PLAN, "policy": policy, "against": against}
        ran = run_action(checkout, base, until="before", rb=None, **inputs)
        assert ran.code == 0, ran.err
        return ran.outputs["policy"], "This pull request changes policy.yaml" in ran.out

    of_base = f"{base}:{POLICY}"
    assert found(POLICY) == found(f"./{POLICY}") == found(POLICY, against="") == (of_base, False)
    (checkout / POLICY).unlink()
    edited(checkout, lambda plan: None)
    assert found(POLICY) == (of_base, True)
    for own in (f"HEAD:{POLICY}", "a new one.yaml", str(checkout / POLICY), ""):
        assert found(own) == (own, False)
    assert found(POLICY, base="") == (POLICY, False)  # a push has no base


def test_a_base_that_cannot_be_had_leaves_no_policy(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "checkout")
    inputs = {"plan": PLAN, "policy": POLICY, "against": "none"}
    ran = run_action(tmp_path / "checkout", "0" * 40, until="before", rb=None, **inputs)
    assert (ran.code, ran.outputs["policy"]) == (2, "")


def test_scripts_take_nothing_but_variables() -> None:
    """A title or a branch name that is pasted into a script is run by it."""
    steps = ACTION["runs"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(step.get("shell") == "bash" for step in steps if "run" in step)
    read = {
        name
        for step in steps
        for value in (step.get("env") or {}).values()
        for name in re.findall(r"inputs\.([\w-]+)", value)
    }
    assert read | {"python-version"} == set(ACTION["inputs"])


def test_it_installs_itself_without_torch() -> None:
    step = next(s for s in ACTION["runs"]["steps"] if s.get("name") == INSTALL)
    assert '-c "$GITHUB_ACTION_PATH/constraints.txt" "$GITHUB_ACTION_PATH"' in step["run"]
    assert "[plan]" not in step["run"]
    assert (ROOT / "constraints.txt").is_file()
    done = subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False)
    assert done.returncode == 0


RECORDS = """
printf '%s\\n' "$@" > "$0.asked"
for word in "$@"; do case $word in markdown:*|junit:*) echo said > "${word#*:}";; esac; done
exit """


@pytest.mark.parametrize(
    ("code", "plan", "policy"),
    [(0, PLAN, POLICY), (1, f"./{PLAN}/", "a policy.yaml"), (2, "plans/new one", f"./{POLICY}")],
)
def test_the_gitlab_job_leaves_its_reports_and_its_exit_code(
    checkout: Path, code: int, plan: str, policy: str
) -> None:
    job = GITLAB[".rb-check"]
    base = git(checkout, "rev-parse", "HEAD")
    rb = checkout / ".rb" / "bin" / "rb"
    stand_in(rb, RECORDS + str(code))
    environment = {
        "PATH": os.environ["PATH"],
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        **job["variables"],
        "RB_PLAN": plan,
        "RB_POLICY": policy,
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(job["script"])],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    asked = Path(f"{rb}.asked").read_text().splitlines()
    against = ["--against", f"{base}:{PLAN}"] if "new" not in plan else []
    outs = ["--out", "junit:rb-junit.xml", "--out", "markdown:rb-review.md"]
    judged_by = ["--policy", policy if policy.startswith("a ") else f"{base}:{POLICY}"]
    assert asked == ["check", "--quiet", *against, *judged_by, *outs, "--", plan]
    left = [job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]]
    assert all((checkout / name).is_file() for name in left)
    assert job["artifacts"]["when"] == "always"


def test_the_gitlab_job_asks_where_rb_is() -> None:
    first = GITLAB[".rb-check"]["before_script"][0]
    for source, code in (("", 2), ("a folder", 0)):
        done = subprocess.run(
            ["bash", "-c", first],
            env={"PATH": os.environ["PATH"], "RB_SOURCE": source},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code


def test_the_hook_judges_the_plan_it_is_given(tmp_path: Path) -> None:
    (hook,) = HOOKS
    assert hook["language"] == "python" and hook["pass_filenames"] is False
    assert all(re.search(hook["files"], f"a/b.{end}") for end in ("json", "yaml", "csv", "jsonl"))
    assert not re.search(hook["files"], "README.md")
    rb = tmp_path / "bin" / "rb"
    stand_in(rb, RECORDS + "1")
    done = subprocess.run(
        [*shlex.split(hook["entry"]), PLAN, "--policy", "policy.yaml"],
        cwd=tmp_path,
        env={"PATH": f"{rb.parent}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 1
    asked = Path(f"{rb}.asked").read_text().split()
    assert asked == ["check", "--quiet", PLAN, "--policy", "policy.yaml"]


@pytest.mark.parametrize(
    ("schema", "data"),
    [("vendor.github-actions", ACTION), ("vendor.gitlab-ci", GITLAB)],
    ids=["github", "gitlab"],
)
def test_the_schemas_of_their_makers_accept_them(schema: str, data: object) -> None:
    builtin = pytest.importorskip("check_jsonschema.builtin_schemas")
    jsonschema = pytest.importorskip("jsonschema")
    assert not list(
        jsonschema.Draft7Validator(builtin.get_builtin_schema(schema)).iter_errors(data)
    )
