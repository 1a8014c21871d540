"""What `rb router collect` reads before it asks anything: every fault of every file at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.files.scores_out import ScoresFolder
    from planner.profile.collect.client import ChatClient
    from planner.quality.graders import Kind
    from planner.spec.answers import Answer, AnswerKey, Label, Verdict
    from planner.spec.endpoints import Server
    from planner.spec.prompts import PromptLine

_MOST_NAMED = 3  # prompts in a fault


@dataclass(frozen=True)
class Asked:
    """The options that say what is to be read."""

    folder: Path
    prompts: Path | None
    endpoints: Path | None
    grader: str
    models: Sequence[str]
    limit: int | None
    only: Path | None
    prices: Mapping[str, float]
    rubric: Path | None
    judge: str | None
    labelled: Path | None
    regrade: bool
    profiles: Path | None
    timeout_s: float

    @property
    def kind(self) -> Kind | None:
        """Returns the grader as a pure function; None for the llm."""
        from planner.quality.graders import KINDS

        return next((kind for kind in KINDS if kind == self.grader), None)


class Read(NamedTuple):
    """What was read."""

    prompts: tuple[PromptLine, ...]
    fleet: Mapping[str, Sequence[ChatClient]]
    usd_per_million_output: Mapping[str, float]  # by model; of the judge by its own name
    only: frozenset[tuple[str, str]] | None  # prompts and models; None: every prompt of every model
    judge: Sequence[ChatClient]
    rubric: str
    labels: tuple[Label, ...]
    answers: dict[AnswerKey, Answer]
    n_stale: int
    verdicts: tuple[Verdict, ...]
    there: ScoresFolder


def read(asked: Asked) -> Read:
    """Returns everything that a collection needs; raises InputError with all faults."""
    from planner.files.answers import ANSWERS_FILE, VERDICTS_FILE, read_journal
    from planner.files.scores_out import read_scores_folder
    from planner.profile.collect.session import kept_answers
    from planner.spec.answers import Answer, Verdict

    faults: list[Fault] = _option_faults(asked)
    only = _only(asked, faults)
    prompts = _prompts(asked, only, faults)
    servers = _servers(asked, faults)
    fleet, prices = _fleet(asked, servers, faults)
    if only is not None and servers:
        fleet = _named(asked, only, fleet, faults)
    judge: Sequence[ChatClient] = ()
    if asked.judge is not None and asked.judge in servers:
        judge = _clients(asked.judge, servers[asked.judge], asked.timeout_s)
    rubric = _rubric(asked, faults)
    labels = _labels(asked, faults)
    found = read_journal(asked.folder / ANSWERS_FILE, Answer, faults)
    verdicts = read_journal(asked.folder / VERDICTS_FILE, Verdict, faults)
    classes = {p.class_name for p in prompts if p.class_name}
    there = read_scores_folder(asked.folder, classes, faults)
    if faults:
        raise InputError(faults)
    if asked.models and not asked.regrade:  # else all that is there is graded again
        found = [answer for answer in found if answer.model_name in fleet]
    answers, n_stale = kept_answers(found, prompts)
    return Read(
        *(prompts, fleet, prices, only, judge, rubric, labels, answers, n_stale),
        *(tuple(verdicts), there),
    )


def _option_faults(asked: Asked) -> list[Fault]:
    from planner.files.scores_out import PROMPTS_FILE
    from planner.files.text import is_there

    faults = []
    needed: list[tuple[str, object]] = []
    if not asked.regrade:
        there = asked.prompts or is_there(asked.folder / PROMPTS_FILE)
        needed += [("--endpoints", asked.endpoints), ("--prompts", there or None)]
    if asked.grader == "llm":
        needed += [("--rubric", asked.rubric), ("--judge", asked.judge)]
    for option, value in needed:
        if value is None:
            faults.append(Fault(option, "", "is missing", f"give {option}"))
    if asked.grader != "llm":
        given = {"--rubric": asked.rubric, "--judge": asked.judge, "--labelled": asked.labelled}
        for option in (name for name, value in given.items() if value is not None):
            what = f"belongs to the llm grader, got --grader {asked.grader}"
            faults.append(Fault(option, "", what, "leave it out, or give --grader llm"))
    if asked.only is not None:
        other = "--regrade" if asked.regrade else "--limit" if asked.limit is not None else None
        if other is not None:
            what = f"says which requests are sent, got {other}, too"
            faults.append(Fault("--only", "", what, f"leave {other} out"))
    return faults


def _only(asked: Asked, faults: list[Fault]) -> frozenset[tuple[str, str]] | None:
    """Returns the prompts and models that are to be asked; None: every prompt of every model."""
    from planner.files.requests import read_requests

    return None if asked.only is None else read_requests(asked.only, faults)


def _named(
    asked: Asked,
    only: frozenset[tuple[str, str]],
    fleet: dict[str, list[ChatClient]],
    faults: list[Fault],
) -> dict[str, list[ChatClient]]:
    """Returns the clients of the models that are to be asked; faults for those without any."""
    from planner.files.faults import unknown_name
    from planner.files.text import shown

    assert asked.only is not None
    wanted = {model_name for _, model_name in only}
    if not asked.models:  # else these are the only ones that are wanted
        faults += [
            unknown_name(shown(asked.only), "model_name", name, fleet, "model in --endpoints")
            for name in sorted(wanted - fleet.keys())
        ]
    return {name: clients for name, clients in fleet.items() if name in wanted}


def _prompts(
    asked: Asked, only: frozenset[tuple[str, str]] | None, faults: list[Fault]
) -> tuple[PromptLine, ...]:
    """Returns the prompts to be asked, in the order in which a limit takes them."""
    from planner.files.prompts import read_prompts
    from planner.files.scores_out import PROMPTS_FILE
    from planner.files.text import is_there, shown
    from planner.profile.collect.grading import reference_problems
    from planner.profile.collect.run import drawn, messages_of

    path = asked.prompts or asked.folder / PROMPTS_FILE
    if asked.prompts is None and not is_there(path) and not asked.regrade:
        return ()
    n_before = len(faults)
    prompts, _ = read_prompts(path, faults)
    prompts = drawn(prompts, asked.limit)
    name = shown(path)
    if only is not None and asked.only is not None:
        named = {prompt_id for prompt_id, _ in only}
        strange = sorted(named - {p.prompt_id for p in prompts})
        if len(faults) == n_before:  # a prompt may be missing only because its line is faulty
            fix = "add it there, or name another file as --prompts"
            what = f"is not in {name}"
            _fault_of(faults, shown(asked.only), "prompt_id", what, strange, fix)
        prompts = tuple(p for p in prompts if p.prompt_id in named)
    classless = [p.prompt_id for p in prompts if p.class_name is None]
    _fault_of(faults, name, "class", "is missing", classless, "say which class each is of")
    empty = [p.prompt_id for p in prompts if not any(m["content"] for m in messages_of(p))]
    _fault_of(faults, name, "text", "asks nothing", empty, "give it a text, or remove it")
    if asked.kind is not None:
        by_problem: dict[str, list[str]] = {}
        for prompt_id, problem in reference_problems(asked.kind, prompts).items():
            by_problem.setdefault(problem, []).append(prompt_id)
        fix = f"correct it, or grade them by another than {asked.kind}"
        for problem, ids in by_problem.items():
            _fault_of(faults, name, "reference", problem, ids, fix)
    return prompts


def _fault_of(
    faults: list[Fault], file: str, field: str, what: str, ids: Sequence[str], fix: str
) -> None:
    """Adds one fault that some prompts share."""
    if ids:
        named = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
        count = f"{len(ids)} prompts" if len(ids) > 1 else "prompt"
        faults.append(Fault(file, field, f"{what}, for {count} {named}", fix))


def _servers(asked: Asked, faults: list[Fault]) -> dict[str, tuple[Server, ...]]:
    """Returns the servers of the models to be asked, and of the judge, by name in the file."""
    from planner.files.endpoints import read_endpoints
    from planner.files.faults import unknown_name
    from planner.files.text import shown

    if asked.endpoints is None:
        return {}
    n_before = len(faults)
    servers = read_endpoints(asked.endpoints, faults)
    if len(faults) > n_before:  # a name may be missing only because its entry is faulty
        return {}
    named = [("--model", name) for name in asked.models]
    named += [("--usd-per-million-output", name) for name in asked.prices]
    named += [("--judge", asked.judge)] if asked.judge else []
    faults += [
        unknown_name(option, "", name, servers, "endpoint")
        for option, name in named
        if name not in servers
    ]
    wanted = {*(asked.models or servers), *([asked.judge] if asked.judge else [])}
    found = {name: entries for name, entries in servers.items() if name in wanted}
    for name, entries in found.items():
        for variable in dict.fromkeys(s.api_key_env for s in entries if s.api_key_env):
            if not os.environ.get(variable) and not asked.regrade:
                what = f"names a variable that is not set, got {variable}"
                at = f"{name}.api_key_env"
                faults.append(Fault(shown(asked.endpoints), at, what, f"export {variable}=..."))
    return found


def _fleet(
    asked: Asked, servers: Mapping[str, tuple[Server, ...]], faults: list[Fault]
) -> tuple[dict[str, list[ChatClient]], dict[str, float]]:
    """Returns the clients of each model, those of all its pools, and their highest price."""
    names = [name for name in servers if name in (asked.models or servers)]
    if not asked.models:
        names = [name for name in names if name != asked.judge]
    scored_as = _scored_as(names, asked, faults)
    fleet: dict[str, list[ChatClient]] = {}
    prices = {name: usd for name, usd in asked.prices.items() if name == asked.judge}
    for name in names:
        model_name = scored_as.get(name, name)
        clients = _clients(name, servers[name], asked.timeout_s)
        fleet.setdefault(model_name, []).extend(clients)
        if name in asked.prices:
            prices[model_name] = max(asked.prices[name], prices.get(model_name, 0.0))
    return fleet, prices


def _scored_as(names: Sequence[str], asked: Asked, faults: list[Fault]) -> dict[str, str]:
    """Returns for names of pools under which model their answers are scored."""
    from planner.files.profile_out import read_existing
    from planner.files.profiles import find_profiles

    folder = find_profiles(asked.folder, asked.profiles, faults if asked.profiles else [])
    if folder is None:
        return {}
    try:
        pools = read_existing(folder, names).pools
    except InputError as error:
        faults += error.faults
        return {}
    return {name: pool.scored_as for name, pool in pools.items()}


def _clients(name: str, servers: Sequence[Server], timeout_s: float) -> list[ChatClient]:
    from planner.profile.collect.client import ChatClient
    from planner.profile.load.client import Endpoint

    return [
        ChatClient(
            Endpoint(
                server.url,
                server.served_model_name or name,
                "chat",
                os.environ.get(server.api_key_env) if server.api_key_env else None,
            ),
            timeout_s=timeout_s,
        )
        for server in servers
    ]


def _rubric(asked: Asked, faults: list[Fault]) -> str:
    from planner.files.text import MAX_YAML_BYTES, read_text, shown

    if asked.rubric is None:
        return ""
    text = read_text(asked.rubric, MAX_YAML_BYTES, faults)
    if text is not None and not text.strip():
        what = "is empty"
        faults.append(Fault(shown(asked.rubric), "", what, "say what a good answer is"))
    return text or ""


def _labels(asked: Asked, faults: list[Fault]) -> tuple[Label, ...]:
    from planner.files.csvs import read_csv
    from planner.files.text import shown
    from planner.spec.answers import Label

    if asked.labelled is None:
        return ()
    labels, _ = read_csv(asked.labelled, Label, faults)
    seen = set()
    for label in labels:
        if label.key in seen:
            at = " / ".join(map(str, label.key))
            faults.append(Fault(shown(asked.labelled), at, "given twice", "keep one row"))
        seen.add(label.key)
    return labels
