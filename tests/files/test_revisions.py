"""Plans of git revisions: read as they were, told by their names, nothing else touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from planner.errors import Fault, InputError
from planner.files.inputs import read_inputs
from planner.files.plans import read_plan
from planner.files.revisions import file_place, from_top, path_of, plan_place
from planner.files.revisions import repository as found_repository
from planner.spec.plan import Plan

PLAN = "plans/demo"


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *own, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", message)


@pytest.fixture
def repository(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose main has the demo's plan, and whose working tree has another."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    git(workspace, "init", "--quiet", "--initial-branch", "main")
    commit(workspace, "first")
    git(workspace, "branch", "feature/a-b/c")
    git(workspace, "tag", "v1")
    edit(workspace / PLAN / "plan.json", title="of the working tree")
    return workspace


def edit(path: Path, **fields: object) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **fields}), encoding="utf-8")


def plan_at(text: str) -> Plan:
    faults: list[Fault] = []
    with plan_place(text) as place:
        plan = read_plan(place, faults)
        if plan is None:
            raise InputError(faults)
    return plan


def refused(text: str) -> str:
    with pytest.raises(InputError) as error, plan_place(text):
        pytest.fail("it was not refused")
    return str(error.value)


# ---- What is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"main:{PLAN}",
        f"HEAD:{PLAN}/",
        f"HEAD~0:{PLAN}/plan.json",
        f"main:./{PLAN}",
        f"main:plans/../{PLAN}",
        f"main@{{0}}:{PLAN}",
        f"main^{{/first}}:{PLAN}",
        f"feature/a-b/c:{PLAN}",
        f"v1:{PLAN}",
    ],
)
def test_a_revision_is_read_as_it_was(repository: Path, text: str) -> None:
    now = plan_at(PLAN)
    then = plan_at(text)
    assert now.title == "of the working tree"
    assert then.model_copy(update={"title": now.title}) == now and then.title != now.title


def test_inputs_come_with_the_profiles_of_that_revision(repository: Path) -> None:
    before = read_inputs(repository / PLAN).hashes
    points = repository / "profiles" / "llama-3.1-8b-h100" / "points.csv"
    points.write_text("\n".join(points.read_text().splitlines()[:-1]) + "\n")
    after = read_inputs(repository / PLAN).hashes
    with plan_place(f"main:{PLAN}") as place:
        then = read_inputs(place).hashes
    assert then == before != after


def test_profiles_of_the_working_folder_serve_plans_that_lie_elsewhere(repository: Path) -> None:
    deep = repository / "teams" / "search" / "plans" / "prod"
    shutil.copytree(repository / PLAN, deep)
    commit(repository, "a plan without profiles near")
    shutil.rmtree(repository / "profiles")
    with plan_place("main:teams/search/plans/prod") as place:
        assert len(read_inputs(place).profiles.profiles) == 3


def test_profiles_outside_of_git_are_found_where_they_are(repository: Path) -> None:
    git(repository, "rm", "-r", "--quiet", "--cached", "profiles")
    git(repository, "commit", "--quiet", "--message", "profiles are kept elsewhere")
    with plan_place(f"main:{PLAN}") as place:
        assert read_inputs(place).profiles.folder == "profiles"


@pytest.mark.parametrize("place", ["plan.json", "", ".", "prod"])
def test_plans_at_the_top_of_a_repository(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    shutil.copytree(workspace / PLAN, top := workspace / "top")
    shutil.copytree(workspace / PLAN, top / "prod")
    shutil.copytree(workspace / "profiles", top / "profiles")
    git(top, "init", "--quiet", "--initial-branch", "main")
    commit(top, "first")
    monkeypatch.chdir(top)
    with plan_place(f"main:{place}") as found:
        folder = found.parent if found.suffix == ".json" else found
        assert read_plan(found, []) is not None
        inputs = read_inputs(folder)
    assert len(inputs.profiles.profiles) == 3
    assert inputs.profiles.folder != "profiles"  # those of the revision


def test_paths_are_seen_from_the_top_or_from_here(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "plans")
    assert plan_at(f"main:{PLAN}") == plan_at("main:./demo") == plan_at("main:../plans/demo")
    assert "did you mean main:./demo?" in refused("main:demo")


def test_worktrees_and_detached_heads(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "worktree", "add", "--quiet", "--detach", "../beside", "v1")
    monkeypatch.chdir(repository.parent / "beside" / "plans")
    assert plan_at(f"HEAD:{PLAN}") == plan_at("HEAD:./demo") == plan_at("demo")


def test_names_with_spaces_and_signs(repository: Path) -> None:
    shutil.copytree(repository / PLAN, repository / "plans" / "with *[a] (space) é")
    commit(repository, "odd names")
    assert plan_at("HEAD:plans/with *[a] (space) é").title == "of the working tree"


def test_a_repository_in_a_repository_is_not_looked_into(repository: Path) -> None:
    inner = repository / "teams"
    shutil.copytree(repository / PLAN, inner / "prod")
    git(inner, "init", "--quiet")
    commit(inner, "inner")
    git(repository, "-c", "advice.addEmbeddedRepo=false", "add", "teams")
    git(repository, "commit", "--quiet", "--message", "a submodule")
    assert "teams is a repository of its own" in refused("HEAD:teams/prod")


def test_one_that_git_does_not_trust_is_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "safe.directory" in refused(f"main:{PLAN}")


@pytest.mark.parametrize("text", ["C:\\plans\\demo", "C:/plans/demo"])
def test_a_drive_is_no_revision(repository: Path, text: str) -> None:
    git(repository, "branch", "C")
    with plan_place(text) as place:
        assert str(place) == text


def test_nothing_is_left_of_what_is_interrupted(repository: Path) -> None:
    with pytest.raises(KeyboardInterrupt), plan_place(f"main:{PLAN}") as place:
        raise KeyboardInterrupt
    assert not place.exists() and not any(
        p.name.startswith("rb-") for p in place.parents if p.exists()
    )


def test_what_exists_is_a_path_whatever_its_name(repository: Path) -> None:
    shutil.copytree(repository / PLAN, repository / "main:plans")
    assert plan_at("main:plans").title == "of the working tree"


def test_links_lead_to_files_of_the_revision_and_nowhere_else(repository: Path) -> None:
    outside = repository.parent / "secret.json"
    outside.write_text((repository / PLAN / "plan.json").read_text())
    prod = repository / "plans" / "prod"
    prod.mkdir()
    os.symlink("../demo/plan.json", prod / "plan.json")
    os.symlink(outside, prod / "absolute.json")
    os.symlink("../../../secret.json", prod / "relative.json")
    os.symlink("plan.json", prod / "chain.json")
    (repository / "secret.json").write_text("{}")  # not where ../../../secret.json leads
    commit(repository, "links")
    with plan_place("main:plans/prod") as place:
        assert read_plan(place, []) == plan_at(f"main:{PLAN}")
        assert [path.name for path in place.iterdir()] == ["plan.json"]


def test_nothing_is_left_behind_or_touched(repository: Path) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    with plan_place(f"main:{PLAN}") as place:
        assert place.is_dir() and repository not in place.parents
    assert not place.exists()
    with pytest.raises(RuntimeError), plan_place(f"main:{PLAN}") as place:
        raise RuntimeError
    assert not place.exists()
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == (
        before
    )


# ---- What is wrong -------------------------------------------------------------------------------


def test_faults_name_the_revision(repository: Path) -> None:
    edit(repository / PLAN / "plan.json", complete="perhaps")
    (repository / "profiles" / "gpus.yaml").write_text("- name: 7\n")
    (repository / PLAN / "class_scores.csv").write_text("class\n")
    commit(repository, "broken")
    with pytest.raises(InputError) as error:
        plan_at(f"HEAD:{PLAN}")
    assert f"HEAD:{PLAN}/plan.json:complete" in str(error.value)
    with pytest.raises(InputError) as error, plan_place(f"HEAD:{PLAN}") as place:
        read_inputs(place)
    files = {fault.file for fault in error.value.faults}
    assert {f"HEAD:{PLAN}/class_scores.csv", "HEAD:profiles/gpus.yaml"} <= files
    assert place.parent.parent.as_posix() not in str(error.value)


def test_what_was_never_committed_is_told_so(repository: Path) -> None:
    """As where .gitignore has plans/*/plan.json: to plan again would not help."""
    (repository / PLAN / "plan.json").unlink()
    commit(repository, "without")
    with pytest.raises(InputError) as error:
        plan_at(f"HEAD:{PLAN}")
    (fault,) = error.value.faults
    assert (fault.file, fault.what) == (f"HEAD:{PLAN}/plan.json", "file not found")
    assert fault.fix.startswith(f"commit it: git add {PLAN}/plan.json; git check-ignore -v {PLAN}/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"nobody:{PLAN}", "unknown revision nobody"),
        (f"main~9:{PLAN}", "unknown revision main~9"),
        ("main:plans/nowhere", "no such path at main"),
        ("main:../elsewhere", "leads out of the repository"),
        (f":{PLAN}", "no revision before the colon"),
        (":/first:plans", "no revision before the colon"),
        (f"--output=x:{PLAN}", "no revision can be named"),
        (f"-n1:{PLAN}", "no revision can be named"),
        ("main", "say what of it: main:plans/prod"),
        (f"nobody:{PLAN}", "fix: git branch --all and git tag list names"),
        (f"v1:{PLAN}".replace("/", "\\"), f"did you mean v1:{PLAN}? Paths of a revision"),
        ("v1:plans\\nowhere", "git ls-tree --name-only v1 lists what is there"),
    ],
)
def test_what_is_no_plan_of_a_revision_is_refused(repository: Path, text: str, said: str) -> None:
    assert said in refused(text)
    assert not (repository / "x").exists()


def test_what_a_shallow_clone_has_not_says_how_to_fetch_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", repository.as_uri(), "last")
    monkeypatch.chdir(tmp_path / "last")
    assert "git fetch --unshallow (fetch-depth: 0" in refused(f"v1~1:{PLAN}")


def test_a_path_that_is_not_there_is_left_to_its_readers(repository: Path) -> None:
    with plan_place("plans/nowhere") as place:
        assert place == Path("plans/nowhere")


def test_outside_of_a_repository(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    assert "no git repository here" in refused(f"main:{PLAN}")
    with plan_place("plans/nowhere") as place:
        assert place == Path("plans/nowhere")


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert "install git" in refused(f"main:{PLAN}")
    assert plan_at(PLAN).title == "of the working tree"
    with plan_place("plans/nowhere") as place:
        assert place == Path("plans/nowhere")


def test_too_much_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.files.revisions.MAX_FILES", 3)
    assert "name the folder of one plan" in refused(f"main:{PLAN}")


def test_one_file_comes_alone(repository: Path) -> None:
    with file_place(f"main:{PLAN}/plan.json") as place:
        assert [path.name for path in place.parent.iterdir()] == ["plan.json"]
        assert not any(path.name == "profiles" for path in place.parents[2].iterdir())
    with pytest.raises(InputError, match="is a folder"), file_place(f"main:{PLAN}"):
        pass
    with pytest.raises(InputError, match="say what of it: main:policy"), file_place("main"):
        pass


def test_paths_are_told_from_the_top(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = found_repository()
    assert top is not None and top.samefile(repository)
    assert from_top("plans/", top) == "plans/" and from_top(f"{top}/", top) == ""
    assert from_top("/elsewhere/x", top) == "/elsewhere/x" and from_top("x", None) == "x"
    monkeypatch.chdir(repository / "plans")
    assert from_top("../x.yaml", top) == "x.yaml" and from_top("./a/b/", top) == "plans/a/b/"
    for text in ("main:x.yaml", "main:../x.yaml", "../x.yaml"):
        assert from_top(str(path_of(text, top)), top) == "x.yaml"
    assert path_of("main:x.yaml", None) == Path("x.yaml")
    monkeypatch.setenv("PATH", str(repository))
    assert found_repository() is None
