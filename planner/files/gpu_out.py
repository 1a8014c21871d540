"""One entry of gpus.yaml out: every other entry stays as it is, comments and spacing included."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from planner.errors import Fault, InputError
from planner.files.faults import build, build_list
from planner.files.profiles import GPUS_FILE
from planner.files.text import MAX_YAML_BYTES, is_there, read_text, shown
from planner.files.write import write_text
from planner.files.yamls import parse_yaml, yaml_text
from planner.spec.base import Name
from planner.spec.hardware import Gpu

_NEWLINE = "\n"
_HEADER = "# GPUs: data sheet facts, prices, and what was measured; see `rb schema gpus`.\n\n"


@dataclass(frozen=True)
class GpusFile:
    """A gpus.yaml as it is; `text` is empty where there is none yet."""

    path: Path
    text: str
    parsed: tuple[Mapping[str, object], ...]
    gpus: tuple[Gpu, ...]

    def entry(self, name: str) -> Gpu | None:
        """Returns the entry of a name, if there is one."""
        return next((gpu for gpu in self.gpus if gpu.name == name), None)


@dataclass(frozen=True)
class GpusEdit:
    """What gpus.yaml will hold, before anything is written."""

    path: Path
    gpu: Gpu
    text: str


def check_name(name: str) -> str:
    """Returns the name of an entry as it is, before minutes are spent on measuring it.

    Raises:
        InputError: it is no name.
    """
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        fix = "use letters, digits, '.', '_', '+' and '-', starting with a letter or digit"
        raise InputError.single("--name", "", f"is not a name, got {name!r:.60}", fix) from error


def read_gpus(profiles: Path) -> GpusFile:
    """Returns the gpus.yaml of a profiles folder, which may be missing.

    Raises:
        InputError: the file is faulty; a faulty file is not written to.
    """
    path = profiles / GPUS_FILE
    if not is_there(path):
        return GpusFile(path, "", (), ())
    faults: list[Fault] = []
    text = read_text(path, MAX_YAML_BYTES, faults)
    data = parse_yaml(text, shown(path), faults) if text is not None else None
    gpus = build_list(Gpu, data, shown(path), faults) if data is not None else ()
    if faults or text is None or not isinstance(data, list):
        raise InputError(faults)
    return GpusFile(path, text, tuple(data), gpus)


def with_entry(file: GpusFile, facts: Mapping[str, object]) -> GpusEdit:
    """Returns the file with the entry named in `facts` added, or its keys replaced by those given.

    Args:
        file: the file as it is.
        facts: keys of the entry; keys of an existing entry that are not named stay.

    Raises:
        InputError: the entry is not valid, or the file is written in a form that cannot be edited.
    """
    name, faults = facts.get("name"), list[Fault]()
    names = [gpu.name for gpu in file.gpus]
    place = names.index(str(name)) if name in names else len(names)
    old = file.parsed[place] if place < len(names) else {}
    merged = {**old, **facts}
    gpu = build(Gpu, merged, shown(file.path), faults, f"[{name}]")
    if gpu is None:
        raise InputError(faults)
    changes = {key: value for key, value in facts.items() if key not in old or old[key] != value}
    wanted = [*file.parsed[:place], merged, *file.parsed[place + 1 :]]
    try:
        text = _changed(file.text, place, changes) if old else _appended(file.text, merged)
        # The text is edited as text; parsing it again proves that the file says what it should.
        proved = parse_yaml(text, "", faults) == parse_yaml(yaml_text(wanted), "", faults)
    except yaml.YAMLError:
        proved = False
    if faults or not proved:
        raise InputError.single(
            shown(file.path),
            f"[{name}]",
            "is written in a form that cannot be edited without touching other entries",
            "start each entry with '- ', and each of its keys on a line of its own",
        )
    return GpusEdit(file.path, gpu, text)


def write_gpus(edit: GpusEdit) -> Path:
    """Writes the file whole or not at all; returns its path."""
    write_text(edit.path, edit.text)
    return edit.path


def _appended(text: str, facts: Mapping[str, object]) -> str:
    """Returns the text with one more entry at its end."""
    if not text:
        return _HEADER + _lines(facts, "- ")
    ended = text if text.endswith(_NEWLINE) else text + _NEWLINE
    return f"{ended}\n{_lines(facts, ' ' * _list_in(text).column + '- ')}"


def _changed(text: str, place: int, changes: Mapping[str, object]) -> str:
    """Returns the text with some keys of one entry replaced, or added at its end."""
    for key, value in changes.items():
        lines = text.splitlines(keepends=True)
        found = _list_in(text)
        keys = found.entries[place]
        after = found.entries[place + 1][0].line if place + 1 < len(found.entries) else len(lines)
        # What follows an entry and is not indented below its dash belongs to the next one.
        between = re.compile(rf"\s*\Z| {{0,{found.column}}}#| *-\s*\Z")
        while between.match(lines[after - 1]):
            after -= 1
        lines[after - 1] = lines[after - 1].rstrip("\r\n") + _NEWLINE  # the last may lack it
        first, last = _span(keys, key, after)
        mark = lines[first][: keys[0].column] if first == keys[0].line else " " * keys[0].column
        lines[first:last] = [_lines({key: value}, mark)]
        text = "".join(lines)
    return text


def _span(keys: Sequence[_Key], name: str, after: int) -> tuple[int, int]:
    """Returns the lines of a key's text, from and before; those after the entry if it is new."""
    ends = [*(key.line for key in keys[1:]), after]
    found = ((key.line, end) for key, end in zip(keys, ends, strict=True) if key.name == name)
    return next(found, (after, after))


def _lines(facts: Mapping[str, object], mark: str) -> str:
    """Returns keys as YAML lines; the first stands after the mark, the others below it."""
    inner = [
        row
        for key, value in facts.items()
        for row in yaml_text({key: value}, rows=isinstance(value, Mapping | tuple)).splitlines()
    ]
    return "".join(f"{' ' * len(mark) if n else mark}{row}\n" for n, row in enumerate(inner))


@dataclass(frozen=True)
class _Key:
    """A key of an entry, and where it stands."""

    name: str
    line: int
    column: int


@dataclass(frozen=True)
class _List:
    """Where the entries of a list stand: the column of their dashes, and the keys of each."""

    column: int
    entries: list[list[_Key]]


def _list_in(text: str) -> _List:
    """Returns where the entries of a list stand.

    Raises:
        YAMLError: an entry is written inside braces, or the text is no YAML.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.SequenceNode) or root.flow_style:
        raise yaml.YAMLError("entries do not stand in lines of their own")
    if any(item.flow_style for item in root.value):
        raise yaml.YAMLError("keys do not stand in lines of their own")
    entries = [
        [_Key(key.value, key.start_mark.line, key.start_mark.column) for key, _ in item.value]
        for item in root.value
    ]
    return _List(root.start_mark.column, entries)
