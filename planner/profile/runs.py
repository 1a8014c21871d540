"""Result files as runs: which tool wrote each file, what it says, and every run counted once.

group   files by (folder, format)            a format joins the files of one run itself
parse   each group                           faults of all groups together
once    points that two runs have in common  a run that was exported twice is one measurement
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.errors import Fault, InputError
from planner.profile.doubles import without_doubles
from planner.profile.fields import Reading, base_name, is_broken_json, plain_text, shown
from planner.profile.formats import (
    aibrix,
    aiperf,
    guidellm,
    inference_perf,
    llmd_report,
    llmperf,
    own_csv,
    sglang_bench,
    vidur,
    vllm_bench,
)

_REPEATING = ".pytorch.json"  # `vllm bench serve` writes the figures of a run a second time


class Format(Protocol):
    """What a module of planner.profile.formats offers."""

    NAME: str

    def recognises(self, name: str, text: str) -> bool:
        """Returns whether a text is a file of this format, by its content."""

    def parse(self, files: Mapping[str, str]) -> list[Reading]:
        """Returns what all files of this format in one folder say."""


# The first that recognises a text reads it: those that look at more come before vLLM's flat keys.
FORMATS: tuple[Format, ...] = (
    guidellm,
    aiperf,
    inference_perf,
    llmd_report,
    llmperf,
    aibrix,
    sglang_bench,
    vllm_bench,
    own_csv,
    vidur,
)


@dataclass(frozen=True)
class Run:
    """What one file, or the files of one run, says, and which tool wrote it."""

    files: tuple[str, ...]
    format_name: str
    reading: Reading


@dataclass(frozen=True)
class Runs:
    """Every run of some files, which files are no results, and remarks for the reader."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_runs(texts: Mapping[str, str], named: Collection[str] | None = None) -> Runs:
    """Returns the runs of texts by file name; the order of the files does not matter.

    Args:
        texts: the content of each file.
        named: the files that must be results; others may be something else and are left out.
            None: all of them must.

    Raises:
        InputError: the faults of all files together.
    """
    faults: list[Fault] = []
    notes: list[str] = []
    left_out: list[str] = []
    groups: dict[tuple[str, int], dict[str, str]] = {}
    seen: dict[tuple[str, str], str] = {}
    for name in sorted(texts):
        folder, text = name.rpartition("/")[0], texts[name]
        twin = seen.setdefault((folder, text), name)
        if name.endswith(_REPEATING):
            notes.append(f"{base_name(name)}: left out, it repeats the figures of another file")
        elif twin != name:
            notes.append(f"{base_name(name)}: left out, its content is that of {base_name(twin)}")
        elif (place := _format_of(name, text)) is not None:
            groups.setdefault((folder, place), {})[name] = text
        elif named is None or name in named:
            faults.append(_unknown(name, text))
        elif is_broken_json(text):
            notes.append(f"{base_name(name)}: left out, it is broken JSON, perhaps cut off")
        else:
            left_out.append(name)
    runs: list[Run] = []
    for (_, place), files in groups.items():
        try:
            runs += _runs_of(FORMATS[place], files)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return Runs(tuple(runs), tuple(left_out), tuple(notes))


def once(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Returns runs in which every measurement counts once, and remarks on those met twice."""
    kept, remarks = without_doubles([(run.files[0], run.reading.points) for run in runs])
    found: list[Run] = []
    for run, points in zip(runs, kept, strict=True):
        gone = run.reading.points and not points  # then the other file says what is to know
        reading = run.reading._replace(points=points, notes=[] if gone else run.reading.notes)
        found.append(Run(run.files, run.format_name, reading))
    return found, remarks


def _format_of(name: str, text: str) -> int | None:
    """Returns the place in FORMATS of the format of a text, None where nothing recognises it."""
    return next((i for i, form in enumerate(FORMATS) if form.recognises(name, text)), None)


def _unknown(name: str, text: str) -> Fault:
    """Returns the fault of a file that must be a result and is none that is known."""
    try:
        start = plain_text(name, text).lstrip()[:30]
    except InputError as error:
        return error.faults[0]
    known = ", ".join(form.NAME for form in FORMATS)
    what = f"is a result of no tool that is known, got {shown(start)}"
    return Fault(name, "content", what, f"give results of one of: {known}")


def _runs_of(form: Format, files: Mapping[str, str]) -> list[Run]:
    """Returns the runs of the files of one format in one folder, each with the files it is from."""
    names, readings = tuple(files), form.parse(files)
    one_each = len(readings) == len(names)
    return [
        Run(_named_in(r, names) or ((names[n],) if one_each else names), form.NAME, r)
        for n, r in enumerate(readings)
    ]


def _named_in(reading: Reading, files: Sequence[str]) -> tuple[str, ...]:
    """Returns the files that a reading's points name as their source, or else its remarks."""
    sources = [p.source for p in reading.points] + [c.source for c in reading.capacity]
    first_words = {re.split(r"[ :]", source, maxsplit=1)[0] for source in sources or reading.notes}
    return tuple(name for name in files if base_name(name) in first_words)
