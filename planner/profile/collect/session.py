"""A collection from its first request to its last: a pilot, what the rest will take, the rest.

left   = the requests of all models, prompts and samples without those that are answered
pilot  = PILOT of them for each model; with a judge, some of the answers are judged, too
budget = what is left, at what the answers so far took
rest   = what is left; then what is left for the judge
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import Fault, InputError
from planner.profile.collect.budget import PILOT, Budget, Taken, budget
from planner.profile.collect.client import ChatClient, Reply, Request
from planner.profile.collect.grading import references
from planner.profile.collect.judge import MAX_TOKENS, asked_sha256, questions
from planner.profile.collect.run import (
    Failure,
    Fleet,
    Task,
    Worked,
    answer_of,
    messages_of,
    pilots,
    wanted,
    work_off,
)
from planner.profile.load.client import Outcome
from planner.spec.answers import Answer, AnswerKey, Verdict
from planner.spec.prompts import PromptLine

Moved = Callable[[int, int, str], None]
"""Called with the requests done, all of them, and a note on failures."""


@dataclass(frozen=True)
class Settings:
    """How models are asked."""

    n_samples: int = 1
    max_tokens: int = 2048
    temperature: float = 0.0
    concurrency: int = 8
    usd_per_million_output: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Judge:
    """Who grades, by which rubric, and what it has said so far."""

    name: str
    clients: Sequence[ChatClient]
    rubric: str
    verdicts: dict[AnswerKey, Verdict]
    save: Callable[[Verdict], None]

    @property
    def label(self) -> str:
        """Returns the name under which its share of the work is shown."""
        return f"{self.name} (judge)"

    def task(self, prompt: PromptLine, answer: Answer) -> Task:
        """Returns the request to judge an answer."""
        asked = questions(self.rubric, prompt, references(prompt), answer.text)
        return Task(answer.key, self.name, Request(asked, MAX_TOKENS, 0.0))


class Collection:
    """The requests of a collection and what came of them; grows `answers` as they come."""

    def __init__(
        self,
        prompts: Sequence[PromptLine],
        fleet: Fleet,
        settings: Settings,
        answers: dict[AnswerKey, Answer],
        save: Callable[[Answer], None],
        judge: Judge | None = None,
        only: frozenset[tuple[str, str]] | None = None,
    ) -> None:
        """Takes what is to be asked; `only` some pairs of prompt and model, or all of them."""
        self.answers = answers
        self._prompts = {prompt.prompt_id: prompt for prompt in prompts}
        self._fleet = fleet
        self._settings = settings
        self._save = save
        self._judge = judge
        tasks = wanted(
            prompts,
            list(fleet),
            settings.n_samples,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
        )
        self._tasks = tuple(
            task for task in tasks if only is None or (task.key.prompt_id, task.asks) in only
        )

    @property
    def left(self) -> tuple[Task, ...]:
        """Returns the requests that are not answered yet."""
        return tuple(task for task in self._tasks if task.key not in self.answers)

    @property
    def n_left(self) -> int:
        """Returns how many requests are left, those to the judge included."""
        return len(self.left) + self._n_left_to_judge()

    def pilot(self, moved: Moved) -> Worked:
        """Returns what became of the first few requests of each model that has no answers yet.

        Raises:
            InputError: a model has answered none of them.
        """
        known = {key.model_name for key in self.answers}
        left = tuple(task for task in self.left if task.asks not in known)
        tasks = pilots(left, PILOT)
        worked = self._ask(tasks, moved)
        if not worked.interrupted:
            self._check(tasks, worked)
        if self._judge is not None and not worked.interrupted and not self._judge.verdicts:
            worked = _both(worked, self._ask_judge(PILOT, moved))
        return worked

    def rest(self, moved: Moved) -> Worked:
        """Returns what became of the requests that were left; those that failed are among them."""
        worked = self._ask(self.left, moved)
        if self._judge is not None and not worked.interrupted:
            worked = _both(worked, self._ask_judge(None, moved))
        return worked

    def budget(self) -> Budget:
        """Returns what the requests that are left will take."""
        taken: dict[str, list[Taken]] = defaultdict(list)
        for answer in self.answers.values():
            taken[answer.model_name].append(Taken(answer.output_tokens, answer.duration_s))
        n_left = dict.fromkeys(self._fleet, 0)
        for task in self.left:
            n_left[task.asks] += 1
        max_tokens = dict.fromkeys(self._fleet, self._settings.max_tokens)
        prices = dict(self._settings.usd_per_million_output or {})
        if self._judge is not None:
            label = self._judge.label
            verdicts = self._judge.verdicts.values()
            taken[label] = [Taken(v.output_tokens, v.duration_s) for v in verdicts]
            n_left[label], max_tokens[label] = self._n_left_to_judge(), MAX_TOKENS
            if self._judge.name in prices:
                prices[label] = prices[self._judge.name]
        return budget(
            n_left,
            taken,
            max_tokens=max_tokens,
            concurrency=self._settings.concurrency,
            usd_per_million_output=prices,
        )

    def _ask(self, tasks: Sequence[Task], moved: Moved) -> Worked:
        def take(task: Task, reply: Reply) -> None:
            answer = answer_of(task, reply)
            self._save(answer)
            self.answers[task.key] = answer

        return _followed(tasks, self._fleet, self._settings.concurrency, take, moved)

    def _ask_judge(self, n_most: int | None, moved: Moved) -> Worked:
        judge = self._judge
        assert judge is not None
        own = [answer for key, answer in self.answers.items() if key not in judge.verdicts]
        tasks = [judge.task(self._prompts[answer.prompt_id], answer) for answer in own[:n_most]]

        def take(task: Task, reply: Reply) -> None:
            verdict = Verdict(
                prompt_id=task.key.prompt_id,
                model_name=task.key.model_name,
                sample=task.key.sample,
                asked_sha256=asked_sha256(task.request.messages),
                judge=judge.name,
                text=reply.text,
                output_tokens=reply.output_tokens,
                duration_s=round(reply.duration_s, 4),
            )
            judge.save(verdict)
            judge.verdicts[task.key] = verdict

        fleet = {judge.name: judge.clients}
        return _followed(tasks, fleet, self._settings.concurrency, take, moved)

    def _n_left_to_judge(self) -> int:
        if self._judge is None:
            return 0
        return len(self.left) + len(self.answers.keys() - self._judge.verdicts.keys())

    def _check(self, tasks: Sequence[Task], worked: Worked) -> None:
        """Raises InputError with a fault for every model that has answered nothing."""
        answered = {key.model_name for key in self.answers}
        faults = []
        for name in dict.fromkeys(task.asks for task in tasks):
            failures = [f for f in worked.failures if f.task.asks == name]
            if name not in answered and failures:
                clients = self._fleet[name]
                faults.append(_no_answer(name, failures[0], clients))
        if faults:
            raise InputError(faults)


def kept_answers(
    answers: Sequence[Answer], prompts: Sequence[PromptLine]
) -> tuple[dict[AnswerKey, Answer], int]:
    """Returns the answers to some prompts as they read today, and how many were to other texts."""
    hashes = {p.prompt_id: asked_sha256(messages_of(p)) for p in prompts}
    own = {a.key: a for a in answers if a.prompt_id in hashes}  # the last of each counts
    fresh = {key: a for key, a in own.items() if a.prompt_sha256 == hashes[key.prompt_id]}
    return fresh, len(own) - len(fresh)


def kept_verdicts(
    verdicts: Sequence[Verdict],
    judge: Judge,
    prompts: Mapping[str, PromptLine],
    answers: Mapping[AnswerKey, Answer],
) -> dict[AnswerKey, Verdict]:
    """Returns what the same judge said of the same answers by the same rubric."""
    asked = {
        key: asked_sha256(judge.task(prompts[key.prompt_id], answer).request.messages)
        for key, answer in answers.items()
    }
    return {
        v.key: v for v in verdicts if v.judge == judge.name and asked.get(v.key) == v.asked_sha256
    }


def _followed(
    tasks: Sequence[Task],
    fleet: Fleet,
    concurrency: int,
    take: Callable[[Task, Reply], None],
    moved: Moved,
) -> Worked:
    """Returns what became of requests; tells how far they are after each."""
    n_ok = n_failed = 0

    def tell() -> None:
        moved(n_ok + n_failed, len(tasks), f"{n_failed} failed" if n_failed else "")

    def answered(task: Task, reply: Reply) -> None:
        nonlocal n_ok
        take(task, reply)
        n_ok += 1
        tell()

    def failed(_: Failure) -> None:
        nonlocal n_failed
        n_failed += 1
        tell()

    tell()
    return work_off(tasks, fleet, concurrency, answered, failed) if tasks else Worked()


def _both(first: Worked, second: Worked) -> Worked:
    return replace(
        second,
        failures=first.failures + second.failures,
        given_up=first.given_up + second.given_up,
    )


_WHY = {
    Outcome.CONNECTION: ("cannot connect", "start the server, or correct its url"),
    Outcome.TIMEOUT: ("took too long", "give a longer --timeout, or fewer --max-tokens"),
    Outcome.STREAM: ("gives no whole answers", "see what the server logs"),
}
_KEY_FIX = "name the variable that holds the key as api_key_env"


def _no_answer(name: str, failure: Failure, clients: Sequence[ChatClient]) -> Fault:
    """Returns the fault of a model that answers nothing; a key that it repeats is blotted out."""
    reply, endpoint = failure.reply, clients[0].endpoint
    what, fix = _WHY.get(reply.outcome, (f"refuses requests ({reply.status})", "see what it says"))
    if reply.status in (401, 403):
        fix = _KEY_FIX
    elif reply.status == 404:
        fix = "correct the url, or give served_model_name"
    detail = reply.detail
    if endpoint.api_key:
        detail = detail.replace(endpoint.api_key, "***")
    return Fault(endpoint.url, name, f"{what}: {detail}" if detail else what, fix)
