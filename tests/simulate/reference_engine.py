"""One replica, or a group of data-parallel ranks, step by step: the truth of the engine's tests.

Nothing here is fast: every step looks at every request, blocks are added up anew whenever
somebody asks, and no step is ever skipped. It shares no code with the engine but the types of
its settings, so that an error of the engine cannot be an error of the reference too.

The words of the rules: a BOUNDARY is a moment at which one step ends and the next one is
composed. A request has `prompt` tokens, of which the last `fresh` ones are not in the prefix
cache; it ends with its `output`-th token. `generated` counts the tokens it has so far, `rest` the
tokens that its prefill still has to read, `blocks` the KV blocks that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens


@dataclass(eq=False)
class Request:
    """A request inside a replica; two of them are never equal, so that lists find the very one."""

    index: int
    order: int  # of submission to this replica
    at_ps: int
    prompt: int
    output: int
    priority: int
    rest: int
    generated: int = 0
    blocks: int = 0

    @property
    def tokens(self) -> int:
        """All tokens known so far: what a decode step reads, and a second prefill too."""
        return self.prompt + self.generated


@dataclass
class Step:
    """What one rank does between two boundaries."""

    decoding: list[Request] = field(default_factory=list)
    chunks: list[tuple[Request, int]] = field(default_factory=list)  # request, prompt tokens
    n_preempted: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.decoding and not self.chunks

    @property
    def context_tokens(self) -> int:
        return sum(request.tokens for request in self.decoding)

    def duration_ps(self, times: StepTimes) -> int:
        if self.is_empty:
            return 0
        n_decoding = len(self.decoding)
        prefilled = sum(chunk for _, chunk in self.chunks)
        attention = 0
        for request, chunk in self.chunks:
            earlier = request.tokens - request.rest
            attention += times.attention_ps * chunk * (2 * earlier + chunk) // 2
        return (
            times.decode_ps[n_decoding]
            + times.context_ps[n_decoding] * self.context_tokens
            + times.prompt_token_ps * prefilled
            + attention
        )


class Rank:
    """One scheduler: a waiting queue, the running requests in order of admission, KV blocks."""

    def __init__(self, settings: EngineSettings, times: Times) -> None:
        self.settings = settings
        self.times = times
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.ended: list[Request] = []  # at the last boundary: with a lag they still hold room
        self.n_decode_steps_in_a_row = 0

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self.settings.block_tokens)

    def free_blocks(self) -> int:
        held = sum(request.blocks for request in self.running + self.ended)
        return self.settings.kv_blocks - held

    def has_place(self) -> bool:
        return len(self.running) + len(self.ended) < self.settings.max_num_seqs

    def seen(self, seen_ps: int) -> list[Request]:
        """The waiting requests that the step may know of, in the order in which they are served."""
        known = [request for request in self.waiting if request.at_ps <= seen_ps]
        if self.settings.by_priority:
            known.sort(key=lambda request: (-request.priority, request.order))
        return known

    def compose(self, seen_ps: int) -> Step:
        """Returns the next step, given the requests that came at or before `seen_ps`."""
        step = Step()
        if self.settings.prefill == "pausing":
            self.compose_one_kind(step, seen_ps)
        elif self.settings.prefill == "elsewhere":
            self.decode(step)
            self.join_decoding(step, seen_ps)
        else:
            self.decode(step)
            self.prefill(step, seen_ps)
        return step

    def decode(self, step: Step) -> None:
        for request in list(self.running):
            still_there = request in self.running  # an earlier one may have taken its blocks
            if still_there and request.rest == 0 and self.grow(request, request.tokens, step):
                step.decoding.append(request)

    def prefill(self, step: Step, seen_ps: int) -> None:
        budget = self.settings.max_num_batched_tokens - len(step.decoding)
        for request in [r for r in self.running if r.rest > 0]:
            chunk = min(request.rest, budget)
            present = request.tokens - request.rest
            if chunk > 0 and self.grow(request, present + chunk, step):
                step.chunks.append((request, chunk))
                budget -= chunk
        if step.n_preempted:
            return
        for request in self.seen(seen_ps):
            if budget <= 0 or not self.has_place():
                return
            if self.settings.reserve_prompt and not self.has_blocks(request.tokens):
                return
            chunk = min(request.rest, budget)
            if not self.admit(request, request.tokens - request.rest + chunk):
                return
            step.chunks.append((request, chunk))
            budget -= chunk

    def join_decoding(self, step: Step, seen_ps: int) -> None:
        """The KV of the prompt comes with the request: it decodes in the step that admits it."""
        for request in [] if step.n_preempted else self.seen(seen_ps):
            if not self.has_place() or not self.admit(request, request.tokens):
                return
            step.decoding.append(request)

    def compose_one_kind(self, step: Step, seen_ps: int) -> None:
        """Either prompts alone, whole and with all the blocks they will ever need, or decoding."""
        settings = self.settings
        waiting = self.seen(seen_ps)
        due = (
            not self.running
            or len(waiting) >= settings.waiting_ratio * len(self.running)
            or self.n_decode_steps_in_a_row >= settings.most_decode_steps
        )
        budget = settings.max_num_batched_tokens
        for request in waiting if due else []:
            too_many = bool(step.chunks) and request.rest > budget
            last = request.prompt + request.output - 1
            if too_many or not self.has_place() or not self.admit(request, last):
                break
            step.chunks.append((request, request.rest))
            budget -= request.rest
        if step.chunks:
            self.n_decode_steps_in_a_row = 0
        else:
            step.decoding = list(self.running)
            self.n_decode_steps_in_a_row += 1

    def has_blocks(self, tokens: int) -> bool:
        return self.blocks_of(tokens) <= self.free_blocks()

    def admit(self, request: Request, tokens: int) -> bool:
        if not self.has_blocks(tokens):
            return False
        request.blocks = self.blocks_of(tokens)
        self.waiting.remove(request)
        self.running.append(request)
        return True

    def grow(self, request: Request, tokens: int, step: Step) -> bool:
        """Gives a running request the blocks for `tokens`; False when it had to go itself."""
        more = self.blocks_of(tokens) - request.blocks
        while more > 0 and more > self.free_blocks():
            victim = self.running[-1]
            if self.settings.by_priority:
                victim = min(self.running, key=lambda r: (r.priority, -r.order))
            self.preempt(victim, step)
            if victim is request:
                return False
        request.blocks = self.blocks_of(tokens)
        return True

    def preempt(self, victim: Request, step: Step) -> None:
        self.running.remove(victim)
        self.waiting.insert(0, victim)
        victim.blocks = 0
        if self.settings.prefill == "chunked":
            victim.rest = victim.tokens
        if victim in step.decoding:
            step.decoding.remove(victim)
        step.n_preempted += 1
        self.times.n_preempted[victim.index] += 1

    def end(self, step: Step, now_ps: int) -> None:
        """Hands out the tokens of a step that ends at `now_ps`."""
        for request in step.decoding:
            request.generated += 1
        for request, chunk in step.chunks:
            request.rest -= chunk
            if request.rest == 0:
                request.generated += 1
        for request in list(self.running):
            if request.generated >= 1 and self.times.first_ps[request.index] < 0:
                self.times.first_ps[request.index] = now_ps
            if request.generated == request.output:
                self.times.done_ps[request.index] = now_ps
                self.running.remove(request)
                self.ended.append(request)


Arrival = Callable[[int, Sequence["Rank"]], int]
"""(prompt tokens, ranks) -> the rank that a request goes to the moment it comes."""

Batch = Callable[[Sequence[int], Sequence["Rank"]], Sequence[tuple[int, int]]]
"""(tokens of the pooled requests, oldest first; ranks) -> pairs (pooled request, rank)."""


def first_rank(_tokens: int, _ranks: Sequence[Rank]) -> int:
    return 0


class ReferenceReplica:
    """Ranks that start and end every step together; a plain replica has one rank."""

    def __init__(
        self,
        settings: EngineSettings,
        tokens: Tokens,
        times: Times,
        priority: Sequence[int] = (),
        arrival: Arrival = first_rank,
        batch: Batch | None = None,
    ) -> None:
        self.settings = settings
        self.step_times = settings.steps
        self.tokens = tokens
        self.times = times
        self.priority = priority
        self.arrival = arrival
        self.batch = batch
        self.pool: list[Request] = []
        self.ranks = [Rank(settings, times) for _ in range(settings.n_ranks)]
        self.n_submitted = 0
        self.steps: list[Step] | None = None  # one per rank; None: idle
        self.durations_ps: list[int] = []  # of each alone: the longest is how long all take
        self.started_ps = 0
        self.boundary_ps: int | None = None  # the next one, if there will be one
        self.busy_ps = self.n_steps = self.n_decoded = self.n_prefilled_tokens = 0
        self.own_ps = 0  # what the steps of all ranks take by themselves
        self.spreads_tokens: list[int] = []  # per step: context of the most less the least loaded

    @property
    def n_running(self) -> int:
        return sum(len(rank.running) for rank in self.ranks)

    @property
    def n_waiting(self) -> int:
        return len(self.pool) + sum(len(rank.waiting) for rank in self.ranks)

    @property
    def n_outstanding(self) -> int:
        return self.n_running + self.n_waiting

    @property
    def kv_tokens(self) -> int:
        return sum(request.tokens for request in self.outstanding())

    @property
    def barrier_idle_ps(self) -> int:
        """How long a rank waited for slower ones: the mean over the ranks, rounded down."""
        n_ranks = len(self.ranks)
        return (n_ranks * self.busy_ps - self.own_ps) // n_ranks

    @property
    def imbalance_tokens(self) -> float:
        """The context of the most less that of the least loaded rank, in the mean step."""
        return sum(self.spreads_tokens) / self.n_steps

    def outstanding(self) -> list[Request]:
        """All that is unfinished, in order of submission."""
        lists = [self.pool, *(rank.waiting + rank.running for rank in self.ranks)]
        return sorted((r for requests in lists for r in requests), key=lambda r: r.order)

    def submit(self, index: int, at_ps: int) -> bool:
        request = self.new_request(index, at_ps)
        if self.ranks[0].blocks_of(request.prompt + request.output - 1) > self.settings.kv_blocks:
            return False
        self.n_submitted += 1
        if self.batch is None:
            self.ranks[self.arrival(request.prompt, self.ranks)].waiting.append(request)
        else:
            self.pool.append(request)
        if self.boundary_ps is None:
            self.boundary_ps = at_ps
        return True

    def new_request(self, index: int, at_ps: int) -> Request:
        return Request(
            index=index,
            order=self.n_submitted,
            at_ps=at_ps,
            prompt=self.tokens.prompt[index],
            output=self.tokens.output[index],
            priority=self.priority[index] if self.priority else 0,
            rest=0 if self.settings.prefill == "elsewhere" else self.tokens.fresh[index],
        )

    def advance(self, until_ps: int, to_completion: bool = False) -> bool:
        """Handles all boundaries before `until_ps`; True: stopped where a request ended."""
        while self.boundary_ps is not None and self.boundary_ps < until_ps:
            if self.boundary() and to_completion:
                return True
        return False

    def drain(self) -> None:
        while self.boundary_ps is not None:
            self.boundary()

    def fail(self, at_ps: int) -> list[int]:
        """Drops everything unfinished and returns it, in order of submission."""
        self.advance(at_ps)
        lost = [request.index for request in self.outstanding()]
        self.pool.clear()
        for rank in self.ranks:
            rank.waiting.clear()
            rank.running.clear()
        self.steps = self.boundary_ps = None
        return lost

    def slow(self, at_ps: int, ratio: float) -> None:
        """Makes every step from `at_ps` on take `ratio` times as long."""
        self.advance(at_ps)
        self.step_times = self.settings.steps.scaled(ratio)

    def boundary(self) -> bool:
        """Ends the running step, if there is one, and begins the next; True: a request ended."""
        now_ps = self.boundary_ps
        assert now_ps is not None
        was_idle = self.steps is None
        if self.steps is not None:
            self.end_steps(self.steps, now_ps)
        n_ended = sum(len(rank.ended) for rank in self.ranks)
        lags = self.settings.lag_steps == 1 and not was_idle
        if not lags:
            self.forget_ended()
        steps = self.compose(self.started_ps if lags else now_ps)
        self.forget_ended()
        if lags and all(step.is_empty for step in steps):  # it need not wait for anything
            steps = self.compose(now_ps)
        self.begin(steps, now_ps)
        return n_ended > 0

    def end_steps(self, steps: list[Step], now_ps: int) -> None:
        self.busy_ps += now_ps - self.started_ps
        self.own_ps += sum(self.durations_ps)
        self.n_steps += 1
        context = [step.context_tokens for step in steps]
        self.spreads_tokens.append(max(context) - min(context))
        for rank, step in zip(self.ranks, steps, strict=True):
            self.n_decoded += len(step.decoding)
            self.n_prefilled_tokens += sum(chunk for _, chunk in step.chunks)
            rank.end(step, now_ps)

    def compose(self, seen_ps: int) -> list[Step]:
        if self.batch is not None:
            self.deal(self.batch, seen_ps)
        return [rank.compose(seen_ps) for rank in self.ranks]

    def deal(self, batch: Batch, seen_ps: int) -> None:
        """Moves pooled requests to the ranks that the batch policy names."""
        known = [request for request in self.pool if request.at_ps <= seen_ps]
        for which, rank in batch([request.tokens for request in known], self.ranks):
            self.pool.remove(known[which])
            self.ranks[rank].waiting.append(known[which])

    def forget_ended(self) -> None:
        for rank in self.ranks:
            rank.ended.clear()

    def begin(self, steps: list[Step], now_ps: int) -> None:
        if all(step.is_empty for step in steps):
            self.steps = self.boundary_ps = None
            return
        self.steps = steps
        self.durations_ps = [step.duration_ps(self.step_times) for step in steps]
        self.started_ps = now_ps
        self.boundary_ps = now_ps + max(self.durations_ps)
