"""Wide tables as RouterBench has them (CSV): a row per prompt, three columns per model.

Facts of the format (RouterBench, arXiv 2403.12031; its data sets are tables of this shape): columns
sample_id, prompt, eval_name; for each model `<model>` (its score), `<model>|model_response` and
`<model>|total_cost` (USD); `oracle_model_to_route_to` is derived. A blank or nan score is a missing
cell. Tokens are not counted. Prompts of the public tables stand in brackets and quotes, as a list
of one text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from planner.errors import Fault, InputError
from planner.files.csvs import number, raw_rows
from planner.profile.collect.imported import (
    ImportOptions,
    Reading,
    as_name,
    as_score,
    estimated_tokens,
    first_line,
    prompt_key,
    prompt_line,
    score_fault,
)
from planner.spec.answers import ScoreRow
from planner.spec.prompts import PromptLine

NAME = "RouterBench table"
_RESPONSE, _COST = "|model_response", "|total_cost"
_NEEDED = ("sample_id", "prompt", "eval_name")
_MOST_FAULTS = 5


def recognises(name: str, text: str) -> bool:
    """Returns whether a text starts with the header of such a table."""
    first = first_line(text)
    return all(column in first for column in _NEEDED)


def parse(files: Mapping[str, str], options: ImportOptions) -> Reading:
    """Returns the scores of tables, in the order of their names.

    Raises:
        InputError: with the faults of all files.
    """
    rows: list[ScoreRow] = []
    prompts: list[PromptLine] = []
    faults: list[Fault] = []
    for name in sorted(files):
        table = _Table(name, raw_rows(files[name].removeprefix("\ufeff")), options)
        table.read()
        rows += table.rows
        prompts += table.prompts
        faults += table.faults
    if faults:
        raise InputError(faults)
    return Reading(
        tuple(rows),
        tuple(prompts),
        ("the tables count no tokens: they are estimated from characters",),
    )


class _Table:
    """One table while it is read."""

    def __init__(self, name: str, cells: Sequence[Sequence[str]], options: ImportOptions) -> None:
        self.rows: list[ScoreRow] = []
        self.prompts: list[PromptLine] = []
        self.faults: list[Fault] = []
        self._name = name
        self._cells = cells
        self._options = options
        header = list(cells[0]) if cells else []
        self._at = {column: place for place, column in enumerate(header)}
        self._models = _models(header)

    def read(self) -> None:
        """Returns nothing; the rows, prompts and faults are there."""
        missing = [column for column in _NEEDED if column not in self._at]
        if missing or not self._models:
            what = f"has no column {', '.join(missing) or 'of a model, such as <model>|total_cost'}"
            fix = "export the table with all its columns, cells quoted"
            self.faults.append(Fault(self._name, "header", what, fix))
            return
        for line, cells in enumerate(self._cells[1:], start=2):
            if len(cells) == len(self._at):
                self._row(line, cells)
            else:
                what = f"must have {len(self._at)} cells, got {len(cells)}"
                self.faults.append(Fault(self._name, f"row {line}", what, "quote cells"))
        rest = len(self.faults) - _MOST_FAULTS
        if rest > 0:
            more = Fault(self._name, "", f"and {rest} more such rows", "correct them too")
            self.faults = [*self.faults[:_MOST_FAULTS], more]

    def _row(self, line: int, cells: Sequence[str]) -> None:
        sample_id, asked, said = (cells[self._at[column]] for column in _NEEDED)
        task = as_name(self._options.class_name or said)
        if task is None or not sample_id:
            what = "has no sample_id or no eval_name"
            self.faults.append(Fault(self._name, f"row {line}", what, "fill it"))
            return
        prompt_id = prompt_key(task, sample_id)
        asked = _unwrapped(asked)
        self.prompts.append(prompt_line(prompt_id, task, asked, None))
        for column, model in self._models.items():
            cell = cells[self._at[column]]
            value = number(cell)
            if not cell or (value is not None and math.isnan(value)):
                continue
            score = as_score(value)
            if score is None:
                at = f"row {line}.{column}"
                self.faults.append(score_fault(self._name, at, cell if value is None else value))
                continue
            place = self._at.get(column + _RESPONSE)
            answer = _unwrapped(cells[place]) if place is not None else ""
            tokens = estimated_tokens(asked), estimated_tokens(answer)
            self.rows.append(ScoreRow(prompt_id, task, model, score, *tokens))


def _models(header: Sequence[str]) -> dict[str, str]:
    """Returns the name of each model by its column: those with a response or a cost beside them."""
    found = {}
    for column in header:
        beside = {column + _RESPONSE, column + _COST} & set(header)
        name = as_name(column)
        if beside and name is not None:
            found[column] = name
    return found


def _unwrapped(text: str) -> str:
    """Returns a text without the brackets and quotes of a list of one."""
    for quote in ("'", '"'):
        if text.startswith("[" + quote) and text.endswith(quote + "]"):
            return text[2:-2].replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"')
    return text
