"""Where a finding points: the file and the line, as a review shows it beside the change.

Best effort, by the way that JSON and YAML are laid out: what belongs to a key stands below it,
further in. A finding whose place cannot be found points to the first line of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PLAN_FILE = "plan.json"  # findings that name no file are about it
_FILE = re.compile(r"^(?P<file>[^:\s]*\.(?:json|yaml|yml|csv|npz|jsonl))(?::(?P<field>.*))?$", re.S)
_PART = re.compile(r"\[(?P<index>[^\]]*)\]|\((?P<note>[^)]*)\)|(?P<word>[^.\[\](]+)")
_FILLERS = frozenset({"of", "all", "traffic", "the", "at"})
_SPAN = 12  # lines of the entry in which the words of a label stand, e.g. of 'p95 e2e of gsm'


@dataclass(frozen=True)
class Source:
    """A file as a repository shows it: its path with '/', and its text; '' where not at hand."""

    path: str
    text: str


Sources = Mapping[str, Source]
"""By the name that findings give a file, e.g. 'plan.json'. A name that ends in '/' is a folder:
'profiles/', and '' is the folder of the plan."""


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1."""

    path: str
    line: int


def place_of(where: str, sources: Sources) -> Place:
    """Returns the file and line that the `where` of a finding means."""
    found = _FILE.match(where)
    name, field = (found["file"], found["field"] or "") if found else (PLAN_FILE, _field(where))
    source = sources.get(name)
    if source is None:
        return Place(_path(name, sources), 1)
    return Place(source.path, line_of(source.text, field))


def _field(words: str) -> str:
    """Returns the field of plan.json that a finding means which names a figure or a pool."""
    figure = re.match(r"(?P<quality>quality )?(?:.* )?of (?P<whose>.+)$", words)
    if figure is None:
        return f"deployment[{words}]"  # in brackets a name stays whole, dots and all
    everybody = figure["whose"] == "all traffic"
    if figure["quality"]:
        return "predicted.quality" if everybody else f"predicted.class_quality[{figure['whose']}]"
    return f"predicted.latency({words.replace('all traffic', 'null')})"


def _path(name: str, sources: Sources) -> str:
    """Returns the path of a file that is not at hand, by that of its folder."""
    top, slash, rest = name.partition("/")
    folder = sources.get(f"{top}/") if slash else None
    if folder is not None:
        return folder.path + rest
    plan = sources.get("")
    return (plan.path if plan else "") + name


def line_of(text: str, field: str) -> int:
    """Returns the line of a field, counted from 1; 1 where it cannot be found.

    Args:
        text: a JSON or YAML file.
        field: keys with dots between them, names and numbers of entries in brackets, and words:
            'predicted.latency[2].ms', 'deployment[llama-8b]', 'p95 e2e of gsm'.
    """
    lines = text.splitlines()
    first, end, at = 0, len(lines), 0
    for part in _parts(field):
        found = part.find(lines, first, end)
        if found is not None:
            at = found
            first, end = part.within(lines, found)
    return at + 1


@dataclass(frozen=True)
class _Word:
    """A key or a value."""

    word: str

    def find(self, lines: Sequence[str], first: int, end: int) -> int | None:
        key = re.compile(rf'\s*(?:-\s+)?"?{re.escape(self.word)}"?\s*:')
        keys = [i for i in range(first, end) if key.match(lines[i])]
        if keys:
            return min(keys, key=lambda i: (_indent(lines[i]), i))
        return next((i for i in range(first, end) if _says(lines[i], self.word)), None)

    def within(self, lines: Sequence[str], at: int) -> tuple[int, int]:
        is_key = re.match(rf'\s*(?:-\s+)?"?{re.escape(self.word)}"?\s*:', lines[at])
        return _below(lines, at) if is_key else _around(lines, at)


@dataclass(frozen=True)
class _Index:
    """The entry of a list, by its number."""

    number: int

    def find(self, lines: Sequence[str], first: int, end: int) -> int | None:
        filled = [i for i in range(first, end) if lines[i].strip()]
        inner = min((_indent(lines[i]) for i in filled), default=0)
        level = [i for i in filled if _indent(lines[i]) == inner]
        entries = [i for i in level if lines[i].strip()[0] not in "]}"]
        return entries[self.number] if self.number < len(entries) else None

    def within(self, lines: Sequence[str], at: int) -> tuple[int, int]:
        return _below(lines, at)[0] - 1, _below(lines, at)[1]


@dataclass(frozen=True)
class _Label:
    """Several words that stand in one entry, in any order."""

    words: tuple[str, ...]

    def find(self, lines: Sequence[str], first: int, end: int) -> int | None:
        for i in range(first, end):
            if any(_says(lines[i], word) for word in self.words):
                entry = lines[slice(*_around(lines, i))][:_SPAN]
                if all(any(_says(row, word) for row in entry) for word in self.words):
                    return i
        return None

    def within(self, lines: Sequence[str], at: int) -> tuple[int, int]:
        return _around(lines, at)


def _parts(field: str) -> Iterator[_Word | _Index | _Label]:
    for found in _PART.finditer(field):
        text = next(group for group in found.groups() if group is not None).strip()
        if found["index"] is not None and text.isdigit():
            yield _Index(int(text))
            continue
        words = tuple(word for word in text.split() if word not in _FILLERS)
        if len(words) > 1:
            yield _Label(words)
        elif words:
            yield _Word(words[0])


def _says(line: str, word: str) -> bool:
    return re.search(rf"(?<![\w.+-]){re.escape(word)}(?![\w.+-])", line) is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _below(lines: Sequence[str], at: int) -> tuple[int, int]:
    """Returns the lines of what belongs to a key: those after it that are further in."""
    inner = _indent(lines[at])
    end = at + 1
    # YAML lets the entries of a list begin where their key does.
    listed = lines[at].rstrip().endswith(":")
    while end < len(lines):
        row = lines[end]
        dash = listed and row.strip().startswith("- ") and _indent(row) == inner
        if row.strip() and _indent(row) <= inner and not dash:
            break
        end += 1
    return at + 1, end


def _around(lines: Sequence[str], at: int) -> tuple[int, int]:
    """Returns the lines of the entry that a value stands in."""
    inner = _indent(lines[at])
    first = at
    while first > 0 and not lines[first].strip().startswith("- "):
        row = lines[first - 1]
        if row.strip() and _indent(row) < inner:
            break
        first -= 1
    end = at + 1
    outer = _indent(lines[first]) + (1 if lines[first].strip().startswith("- ") else 0)
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) >= outer):
        end += 1
    return first, end
