"""Working off requests: side by side at each model, every answer handed on as it comes.

An interrupt ends the work between two awaits, never inside `on_reply`, so that what is written down
is whole. A model that fails several times in a row is given up; the others go on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import groupby

from planner.profile.collect.client import ChatClient, Message, Reply, Request
from planner.profile.collect.judge import asked_sha256
from planner.profile.load.client import Outcome
from planner.spec.answers import Answer, AnswerKey
from planner.spec.prompts import PromptLine

GIVEN_UP_AFTER = 8  # failures in a row, each tried several times

Fleet = Mapping[str, Sequence[ChatClient]]
"""The clients of each model, one for each of its servers."""


@dataclass(frozen=True)
class Task:
    """One request: whom to ask what, and which answer it is about."""

    key: AnswerKey
    asks: str  # the model that is asked: the answering one, or the judge
    request: Request


@dataclass(frozen=True)
class Failure:
    """A request that was not answered, and why."""

    task: Task
    reply: Reply


@dataclass(frozen=True)
class Worked:
    """What has become of requests: the failures, and whether all were tried."""

    failures: tuple[Failure, ...] = ()
    given_up: tuple[str, ...] = ()  # models
    interrupted: bool = False


def messages_of(prompt: PromptLine) -> tuple[Message, ...]:
    """Returns what a model is sent for a prompt."""
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages or ()]
    if prompt.text is not None:
        turns = [{"role": "user", "content": prompt.text}]
    if prompt.system is not None:
        turns.insert(0, {"role": "system", "content": prompt.system})
    return tuple(turns)


def drawn(prompts: Sequence[PromptLine], limit: int | None) -> tuple[PromptLine, ...]:
    """Returns at most so many prompts; a larger limit draws the same ones, and more."""
    if limit is None or limit >= len(prompts):
        return tuple(prompts)
    by_hash = sorted(prompts, key=lambda p: hashlib.sha256(p.prompt_id.encode()).digest())
    return tuple(by_hash[:limit])


def answer_of(task: Task, reply: Reply) -> Answer:
    """Returns what is kept of an answer."""
    return Answer(
        prompt_id=task.key.prompt_id,
        model_name=task.key.model_name,
        sample=task.key.sample,
        text=reply.text,
        finish_reason=reply.finish_reason,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        tokens_estimated=reply.tokens_estimated,
        mean_logprob=reply.mean_logprob,
        duration_s=round(reply.duration_s, 4),
        prompt_sha256=asked_sha256(task.request.messages),
        max_tokens=task.request.max_tokens,
        temperature=task.request.temperature,
    )


def wanted(
    prompts: Sequence[PromptLine],
    model_names: Sequence[str],
    n_samples: int,
    *,
    max_tokens: int,
    temperature: float,
) -> tuple[Task, ...]:
    """Returns all requests, model by model, prompt by prompt in their order."""
    requests = [Request(messages_of(prompt), max_tokens, temperature) for prompt in prompts]
    return tuple(
        Task(AnswerKey(prompt.prompt_id, name, sample), name, request)
        for name in model_names
        for prompt, request in zip(prompts, requests, strict=True)
        for sample in range(1, n_samples + 1)
    )


def pilots(tasks: Sequence[Task], n_each: int) -> tuple[Task, ...]:
    """Returns a few requests of each model, spread over its prompts: they show what all take."""
    found: list[Task] = []
    for _, group in groupby(tasks, key=lambda task: task.asks):
        own = list(group)
        n = min(n_each, len(own))
        found += [own[(2 * k + 1) * len(own) // (2 * n)] for k in range(n)]
    return tuple(found)


def work_off(
    tasks: Sequence[Task],
    fleet: Fleet,
    concurrency: int,
    on_reply: Callable[[Task, Reply], None],
    on_failure: Callable[[Failure], None] = lambda _: None,
) -> Worked:
    """Returns what has failed after asking everything, or what came before an interrupt.

    Args:
        tasks: the requests.
        fleet: clients by the name of the model.
        concurrency: requests in flight at each model.
        on_reply: takes each answer as it comes; what it raises ends the work.
        on_failure: takes each request that was not answered.
    """
    work = _Work(fleet, concurrency, on_reply, on_failure)
    try:
        asyncio.run(work.all_of(tasks))
    except KeyboardInterrupt:
        return Worked(tuple(work.failures), tuple(work.given_up), interrupted=True)
    except ExceptionGroup as group:  # the first is the cause: e.g. a disk that is full
        raise group.exceptions[0] from None
    return Worked(tuple(work.failures), tuple(work.given_up))


class _Work:
    """Requests while they are worked off."""

    def __init__(
        self,
        fleet: Fleet,
        concurrency: int,
        on_reply: Callable[[Task, Reply], None],
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.failures: list[Failure] = []
        self.given_up: list[str] = []
        self._fleet = fleet
        self._concurrency = concurrency
        self._on_reply = on_reply
        self._on_failure = on_failure
        self._n_in_a_row = dict.fromkeys(fleet, 0)  # failures

    async def all_of(self, tasks: Sequence[Task]) -> None:
        """Returns when every request was tried, or its model was given up."""
        queues = {
            name: iter(list(group)) for name, group in groupby(tasks, key=lambda task: task.asks)
        }
        async with AsyncExitStack() as stack:
            for name in queues:
                for client in self._fleet[name]:
                    await stack.enter_async_context(client)
            async with asyncio.TaskGroup() as group:
                for name, queue in queues.items():
                    for _ in range(self._concurrency):
                        group.create_task(self._work(name, queue))

    async def _work(self, name: str, queue: Iterator[Task]) -> None:
        """Returns when a model's queue is empty, or the model was given up."""
        for task in queue:
            if name in self.given_up:
                return
            client = min(self._fleet[name], key=lambda c: c.n_in_flight)
            reply = await client.ask(task.request)
            if reply.outcome is Outcome.OK:
                self._n_in_a_row[name] = 0
                self._on_reply(task, reply)
                continue
            failure = Failure(task, reply)
            self.failures.append(failure)
            self._on_failure(failure)
            self._n_in_a_row[name] += 1
            if self._n_in_a_row[name] >= GIVEN_UP_AFTER and name not in self.given_up:
                self.given_up.append(name)
