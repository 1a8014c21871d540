"""The manual tells the truth: generated parts are current, examples run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from router_folder import write_router_folder

from planner.cli.app import app, run
from planner.cli.schema import kinds
from planner.errors import Fault
from planner.files.endpoints import read_endpoints
from planner.files.faults import build
from planner.spec import glossary
from planner.spec.base import Spec
from planner.spec.described import described, parts, said

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = ("planner", "tests/s", "tests/g")
ROOMS = ("exact", "routing")  # whose modules a page may name alone, after it has named the room
BLOCK = re.compile(r"^```([a-z]+)?([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

spec_of = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
assert spec_of is not None
assert spec_of.loader is not None
generate = importlib.util.module_from_spec(spec_of)
spec_of.loader.exec_module(generate)


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """(page, rest of the opening line, text) of every block in a language."""
    for page in PAGES:
        for found, rest, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page.name, rest.strip(), text


def public_specs() -> list[type[Spec]]:
    found: dict[type[Spec], None] = {}
    for kind in kinds().values():
        found.update(dict.fromkeys(parts(kind)))
    return list(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.made(text) == text, "run: make docs"


def test_every_command_every_kind_and_every_rule_is_in_the_manual() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in generate.commands():
        assert f"## rb {command}\n" in text, command
    for kind in kinds():
        assert f"<!-- rb: fields {kind} -->" in text, kind


def test_every_field_of_every_file_says_what_it_means() -> None:
    for spec in public_specs():
        for field in described(spec):
            assert field.meaning.endswith((".", "!", "?")), f"{spec.__name__}.{field.name}"
            assert "anything" not in field.kind, f"{spec.__name__}.{field.name}"


def test_the_glossary_holds_nothing_that_nobody_reads() -> None:
    own, by_name = set[str](), set[str]()
    for spec in public_specs():
        for name in spec.model_fields:
            keys = [f"{base.__name__}.{name}" for base in spec.__mro__]
            found = next((key for key in keys if key in glossary.OWN), None)
            if found is not None:
                own.add(found)
            elif name not in said(spec):
                by_name.add(name)
    assert own == set(glossary.OWN)
    assert set(glossary.SHARED) <= by_name


def test_every_file_in_yaml_is_right(tmp_path: Path) -> None:
    """A block says of which kind it is; one with a + is laid over the whole question before it."""
    n_seen, before = 0, {}
    for page, kind, text in blocks("yaml"):
        assert kind, f"{page}: a block of YAML that nobody can check"
        data = yaml.safe_load(text)
        if kind.endswith("+"):
            data = {**before, **data}
        else:
            before = data
        faults: list[Fault] = []
        if kind == "endpoints":  # of which the kind is that of one server
            (tmp_path / page).write_text(text, encoding="utf-8")
            assert read_endpoints(tmp_path / page, faults), page
            assert not faults, faults
            continue
        assert build(kinds()[kind.rstrip("+")], data, page, faults) is not None, faults
        n_seen += 1
    assert n_seen >= 4


def test_every_command_line_is_one_that_rb_takes() -> None:
    """Commands in ```sh blocks: the command is there, and takes these options and arguments."""
    root = typer.main.get_command(app)
    lines = [(page, line) for page, _, text in blocks("sh") for line in text.splitlines()]
    lines = [(page, line) for page, line in lines if line.startswith("rb ")]
    assert len(lines) >= 20
    for page, line in lines:
        words = shlex.split(line, comments=True)[1:]
        command, parent = root, None
        while hasattr(command, "commands"):
            assert words[0] in command.commands, f"{page}: {line}"
            parent = command.make_context(words[0], [words[0]], resilient_parsing=True)
            command = command.commands[words.pop(0)]
        command.make_context("rb", words, parent=parent)  # raises where it does not take them


def test_every_link_leads_somewhere() -> None:
    n_seen = 0
    for page in PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"
            n_seen += 1
    assert n_seen >= 20


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_file_that_a_page_names_is_there() -> None:
    """`planner/x.py`, `tests/x.py`, folders of both, and scripts of benchmarks/ by their names."""
    names = [
        (page, name)
        for page in PAGES
        for name in re.findall(
            r"`((?:python |pytest )?[\w./-]+(?:\.py|/))`", page.read_text(encoding="utf-8")
        )
    ]
    code = [(page, name.split()[-1]) for page, name in names]
    code = [(page, name) for page, name in code if name.endswith(".py") or name[:7] in CODE]
    assert len(code) >= 40
    for page, name in code:
        folders = (ROOT, ROOT / "benchmarks", *(ROOT / f"planner/{room}" for room in ROOMS))
        assert any((folder / name).exists() for folder in folders), f"{page.name}: {name}"


def test_the_review_that_is_shown_can_be_made_again() -> None:
    """What makes it finds it on the page, and it is as short as promised: the slow test runs it."""
    found = generate.REVIEW.search((DOCS / "gate.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found["shown"].count("\n") < 40
    assert found["command"].startswith("rb check ")


def test_every_page_is_reached_from_the_first() -> None:
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name})" in text, page.name


@pytest.mark.slow
def test_console_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plans/a100", "plans/demo", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    write_router_folder(tmp_path / "plans" / "support", signals=False, stock={"h100-sxm-80g": 16})
    monkeypatch.chdir(tmp_path)
    n_run = 0
    for page, _, text in blocks("console"):
        for line in re.findall(r"^\$ (.*)$", text, flags=re.MULTILINE):
            program, *arguments = shlex.split(line)
            assert program == "rb"
            assert run(arguments) == 0, f"{page}: {line}"
            n_run += 1
    assert n_run >= 2


@pytest.mark.slow
def test_the_review_that_is_shown_is_the_one_that_is_made(tmp_path: Path) -> None:
    shown, made = generate.review((DOCS / "gate.md").read_text(encoding="utf-8"), tmp_path)
    assert made == shown, "run: python docs/generate.py --review"
