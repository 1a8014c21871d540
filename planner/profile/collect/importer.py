"""Which format a result file has, and what all of them say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from planner.errors import Fault, InputError
from planner.files.results import ResultFiles
from planner.profile.collect.formats import lm_eval, openai_evals, routerbench
from planner.profile.collect.imported import ImportedScores, ImportOptions, Reading, together


class Format(NamedTuple):
    """One format of result files."""

    name: str
    recognises: Callable[[str, str], bool]
    parse: Callable[[Mapping[str, str], ImportOptions], Reading]


FORMATS = tuple(
    Format(each.NAME, each.recognises, each.parse) for each in (lm_eval, openai_evals, routerbench)
)


def import_scores(files: ResultFiles, options: ImportOptions) -> ImportedScores:
    """Returns the scores in result files.

    Args:
        files: their texts; of those that were named each must have a known format.
        options: what the user says beyond them.

    Raises:
        InputError: with the faults of all files together.
    """
    faults = list(files.faults)
    groups: dict[Format, dict[str, str]] = {each: {} for each in FORMATS}
    left_out = []
    for name, text in files.texts.items():
        own = next((each for each in FORMATS if each.recognises(name, text)), None)
        if own is not None:
            groups[own][name] = text
        elif name in files.named:
            known = ", ".join(each.name for each in FORMATS)
            what = "is the result of no evaluation tool that is known"
            faults.append(Fault(name, "content", what, f"known are: {known}"))
        else:
            left_out.append(name)
    readings = []
    for each, texts in groups.items():
        try:
            readings += [each.parse(texts, options)] if texts else []
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    n_files = {each.name: len(texts) for each, texts in groups.items() if texts}
    return together(readings, n_files, left_out)
