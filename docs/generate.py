"""Writes the generated parts of the manual anew: field tables, help texts, rules, targets.

    python docs/generate.py            writes docs/*.md
    python docs/generate.py --check    exit 1 where a page is not what the code says
    python docs/generate.py --review   the example of a review in gate.md, too (plans twice)

A page holds what a person wrote and, between two marks, what the code says:

    <!-- rb: fields question -->     the fields of a file kind (a name of `rb schema`)
    <!-- rb: help plan -->           the help of a command
    <!-- rb: rules plan -->          the rules of `rb check`; or those of a policy
    <!-- rb: targets -->             the targets of `rb export`
    <!-- /rb -->
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from planner.cli.app import app, run
from planner.cli.schema import kinds
from planner.spec.base import Spec
from planner.spec.described import described, parts

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REVIEW = re.compile(
    r"from\s+(?P<before>0\.\d+)\s+to\s+(?P<after>0\.\d+)\s.*?```yaml policy\n(?P<policy>.*?)```"
    r".*?```text\n(?P<command>.*?)\n```.*?```markdown\n(?P<shown>.*?)```",
    re.DOTALL,
)
"""The example of a review in gate.md: a changed floor, a policy, a command, and what it says."""

MARKED = re.compile(r"(<!-- rb: ([a-z]+)(?: ([^>]*?))? -->\n).*?(<!-- /rb -->)", re.DOTALL)
WIDTH = "80"


def commands() -> list[str]:
    """Returns every command that does something, e.g. 'plan', 'router train'."""
    names = [str(command.name) for command in app.registered_commands if not command.hidden]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            function = getattr(command.callback, "__name__", "")
            names.append(f"{group.name} {command.name or function.strip('_')}")
    return names


def made(text: str) -> str:
    """Returns a page with all its generated parts made anew."""

    def part(found: re.Match[str]) -> str:
        opening, what, of, closing = found.groups()
        lines = _MAKERS[what](of or "")
        text = "".join(f"{line}\n" for line in lines)
        return opening + re.sub(r"\n{3,}", "\n\n", text) + closing

    return MARKED.sub(part, text)


def fields(kind: str) -> Iterator[str]:
    """Yields the fields of a file kind and of every type that it is made of, as tables."""
    whole = kinds()[kind]
    for spec in parts(whole):
        if spec is not whole:
            yield f"\n**{spec.__name__}**: {_first_sentence(spec)}\n"
        yield "| field | is | default | means |"
        yield "|---|---|---|---|"
        for field in described(spec):
            default = "required" if field.required else f"`{field.default}`"
            default = "" if default == "``" else default
            yield f"| `{field.name}` | {_cell(field.kind)} | {_cell(default)} | {field.meaning} |"


def _first_sentence(spec: type[Spec]) -> str:
    return " ".join((spec.__doc__ or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def help_text(command: str) -> Iterator[str]:
    """Yields the help of a command, as a terminal of 80 columns shows it."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            run([*command.split(), "--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    yield "```text"
    yield "\n".join(line.rstrip() for line in shown.getvalue().strip().splitlines())
    yield "```"


def all_help(_: str) -> Iterator[str]:
    """Yields the help of every command under a heading of its own."""
    for command in commands():
        yield f"\n## rb {command}\n"
        yield from help_text(command)


def rules(of: str) -> Iterator[str]:
    """Yields the rules of the plan itself, or of a policy."""
    from planner.gate.rules import RULES

    yield "| rule | severity | asks that | fix |"
    yield "|---|---|---|---|"
    for rule in RULES:
        if rule.of == of:
            yield f"| `{rule.id}` | {rule.severity} | {_cell(rule.summary)} | {_cell(rule.fix)} |"


def targets(_: str) -> Iterator[str]:
    """Yields what `rb export` writes, what routes by shares, and what has been validated how."""
    from planner.export.targets import TARGETS

    yield "| target | writes | shares | validated by |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        cells = (target.writes, target.routes, target.validated)
        yield f"| `{target.name}` | " + " | ".join(_cell(cell) for cell in cells) + " |"


def review(page: str, folder: Path) -> tuple[str, str]:
    """Returns (shown, made): the review that a page shows, and what its own words lead to.

    Args:
        page: text of gate.md.
        folder: an empty one, in which the plans of the example are made.
    """
    found = REVIEW.search(page)
    assert found is not None
    for name in ("plans/a100", "profiles"):
        ignored = shutil.ignore_patterns("*.json", "*.html", "export")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    question = folder / "plans" / "a100" / "question.yaml"
    text = question.read_text(encoding="utf-8")
    floor = f"\nquality_at_least: {found['before']}\n"
    assert text.count(floor) == 1
    (folder / "policy.yaml").write_text(found["policy"], encoding="utf-8")
    with contextlib.chdir(folder):
        assert run(["plan", "plans/a100", "--effort", "quick", "--quiet"]) == 0
        shutil.copytree("plans/a100", "before/a100")
        changed = text.replace(floor, floor.replace(found["before"], found["after"]))
        question.write_text(changed, encoding="utf-8")
        assert run(["plan", "plans/a100", "--effort", "quick", "--quiet"]) == 0
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert run(shlex.split(found["command"])[1:]) == 1  # the policy is broken
    return found["shown"], shown.getvalue()


_MAKERS = {
    "fields": fields,
    "help": help_text,
    "commands": all_help,
    "rules": rules,
    "targets": targets,
}


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 where a page was not what the code says, and only --check."""
    stale = []
    if "--review" in arguments:
        page = DOCS / "gate.md"
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            page.write_text(text.replace(*review(text, Path(folder))), encoding="utf-8")
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = made(text)
        if new != text:
            stale.append(page.relative_to(DOCS).as_posix())
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    done = "not what the code says (make docs)" if "--check" in arguments else "written"
    for name in stale:
        print(f"{name}: {done}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
