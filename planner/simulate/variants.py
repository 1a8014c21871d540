"""Engines that batch by other rules than chunked prefill: TGI, disaggregation, async scheduling.

Notation as in scheduler.py.

Pausing (text-generation-inference). A step is of prefills alone or of decodes alone. It is of
prefills when somebody waits and (nobody is running, or n_waiting >= waiting_ratio * n_running, or
most_decode_steps decode steps passed since the last step of prefills) and the head can be admitted:
whole prompts from the head, the first in any case, the next while max_num_batched_tokens, places
and blocks last. Blocks for p + o - 1 tokens are set aside at admission: nobody is ever preempted.

Elsewhere (prefill and decode disaggregated; this is the decoding side). The KV comes with the
request, so an admitted one decodes in the step that is being composed, reading p tokens, and its
first token ends that step. The others have taken their blocks before; nobody is admitted when one
of them was preempted. A preempted request comes back as it came, with its g tokens.

Lagged (async scheduling). The step that begins at a boundary was decided when the step before it
began: it sees what had been submitted by then, and requests that ended at the boundary hold their
places and their ceil((p+o-1)/B) blocks for one composition more. They do not decode. A fresh start
sees everything and holds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.simulate.scheduler import IDLE, Scheduler
from planner.simulate.settings import EngineSettings, Times, Tokens


class Pausing(Scheduler):
    """Prefills pause the decodes."""

    def __init__(
        self, settings: EngineSettings, tokens: Tokens, times: Times, priority: Sequence[int] = ()
    ) -> None:
        self._waiting_ratio = settings.waiting_ratio
        self._most_decode_steps = settings.most_decode_steps
        self._n_prefill_steps = 0
        self._last_prefill_step = 0  # the J of the last step of prefills
        super().__init__(settings, tokens, times, priority)

    def _clear(self) -> None:
        super()._clear()
        self._reserved_tokens = 0  # in blocks

    @property
    def n_decoding(self) -> int:
        """Returns how many requests decode in the composed step: none while prefills pause them."""
        return 0 if self._prefill_tokens else len(self._ends)

    @property
    def n_steps(self) -> int:
        """Returns how many steps of either kind have ended."""
        return self.n_decode_steps + self._n_prefill_steps

    def submit(self, i: int, is_late: bool = False) -> bool:
        """Queues request i; returns False when it is refused."""
        self.settled = False  # one more waits, which may be enough for a step of prefills
        return super().submit(i, is_late)

    def compose(self, fresh_start: bool = False) -> int:
        """Composes a step of prefills, or of decodes; returns its duration in ps, or IDLE."""
        n = len(self._ends)
        if self.waiting and self._is_prefill_turn():
            spent, attention_ps = self._admit_whole()
            if spent:
                self._prefill_tokens = spent
                self.settled = False
                return self._decode_ps[0] + self._prompt_token_ps * spent + attention_ps
        self.settled = True
        if n == 0:
            return IDLE
        return self._decode_ps[n] + self._context_ps[n] * self.context_tokens

    def _is_prefill_turn(self) -> bool:
        n = len(self._ends)
        return (
            n == 0
            or len(self.waiting) >= self._waiting_ratio * n
            or self._decode_steps_in_a_row() >= self._most_decode_steps
        )

    def _decode_steps_in_a_row(self) -> int:
        return self.n_decode_steps - self._last_prefill_step

    def _admit_whole(self) -> tuple[int, int]:
        """Admits whole prompts; returns tokens to prefill and ps of attention."""
        spent = attention_ps = 0
        while self.waiting and self._fits(self.waiting[0]):
            fresh = self._fresh[self.waiting[0]]
            if spent and spent + fresh > self.max_num_batched_tokens:
                break
            i = self.waiting.popleft()
            cached = self._prompt[i] - fresh
            self._finishing.append(i)
            self._reserved_tokens += self._reserve(i)
            spent += fresh
            attention_ps += self._attention_ps * fresh * (2 * cached + fresh) // 2
        return spent, attention_ps

    def _fits(self, i: int) -> bool:
        free = self.capacity_tokens - self._reserved_tokens
        return self.n_running < self.max_num_seqs and self._reserve(i) <= free

    def _reserve(self, i: int) -> int:
        """Returns the tokens in blocks that request i ever needs."""
        return self._in_blocks(self._prompt[i] + self._output[i] - 1)

    def end_step(self, end_ps: int) -> None:
        """Ends the composed step; those that are done give back what was set aside for them."""
        if self._prefill_tokens:
            self._n_prefill_steps += 1
            self._last_prefill_step = self.n_decode_steps
            self.ended = []
            self._end_prefills(end_ps)
            self._forget_ended()
        else:
            super().end_step(end_ps)
        self._reserved_tokens -= sum(map(self._reserve, self.ended))

    def calm_steps(self) -> int:
        """Returns how many steps go by before somebody ends or prefills have their turn."""
        steps = super().calm_steps()
        if steps and self.waiting and self._fits(self.waiting[0]):  # it only waits for its turn
            left = self._most_decode_steps - self._decode_steps_in_a_row() - 1
            return max(0, min(steps, left))
        return steps


class Elsewhere(Scheduler):
    """Requests arrive with their KV."""

    def _clear(self) -> None:
        super()._clear()
        self._firsts: list[int] = []  # whose first token ends the composed step

    def compose(self, fresh_start: bool = False) -> int:
        """Composes the next step; returns its duration in ps, or IDLE."""
        duration_ps = super().compose(fresh_start)
        if self._firsts:
            self.settled = False
        return duration_ps

    def _admit(self, budget: int, room: int, is_exact: bool) -> tuple[int, int]:
        """Admits from the head into the decodes of this step; nothing is prefilled."""
        places = self.max_num_seqs - self.n_running
        while places and self.waiting:
            i = self.waiting[0]
            g = self._generated.get(i, 0)
            needed = self._in_blocks(self._prompt[i] + g)
            if needed > room and not is_exact:
                room, is_exact = self._free_tokens(), True
            if needed > room:
                break
            self.waiting.popleft()
            self._generated.pop(i, None)
            self.queued_tokens -= self._prompt[i] + g
            self._join(i, g)
            if g == 0:
                self._firsts.append(i)
            room -= needed
            places -= 1
        return 0, 0

    def end_step(self, end_ps: int) -> None:
        """Ends the composed step at this moment."""
        for i in self._firsts:
            self._first_ps[i] = end_ps
        self._firsts.clear()
        super().end_step(end_ps)


class Lagged(Scheduler):
    """Async scheduling: a step is decided one step early."""

    def _clear(self) -> None:
        super()._clear()
        self._late: list[int] = []  # submitted after the composed step began

    @property
    def n_waiting(self) -> int:
        """Returns how many requests wait, seen or not."""
        return len(self.waiting) + len(self._late)

    def submit(self, i: int, is_late: bool = False) -> bool:
        """Queues request i, unseen for one composition if it is late; False: it is refused."""
        if not is_late:
            return super().submit(i)
        if not self.accepts(i):
            return False
        self.settled = False
        self._late.append(i)
        self.queued_tokens += self._prompt[i]
        return True

    def _in_order(self, running: list[int]) -> list[int]:
        return super()._in_order(running) + self._late

    def compose(self, fresh_start: bool = False) -> int:
        """Composes the step that was decided one step ago; returns its duration in ps, or IDLE."""
        if fresh_start:
            self._see_late()
            return super().compose()
        duration_ps = self._compose_beside_ended() if self.ended else super().compose()
        if self._late:
            self.settled = False
            self._see_late()
        return duration_ps

    def _compose_beside_ended(self) -> int:
        """Composes a step while those that have just ended hold their places and blocks."""
        n_held = len(self.ended)
        held_tokens = sum(
            self._in_blocks(self._prompt[i] + self._output[i] - 1) for i in self.ended
        )
        self.max_num_seqs -= n_held
        self.capacity_tokens -= held_tokens
        duration_ps = super().compose()
        self.max_num_seqs += n_held
        self.capacity_tokens += held_tokens
        if self.waiting:
            self.settled = False  # it may have waited for what they held
        return duration_ps

    def _see_late(self) -> None:
        self.waiting.extend(self._late)
        self._late.clear()


class LaggedPausing(Lagged, Pausing):
    """Prefills pause the decodes, each step decided one step early."""


class LaggedElsewhere(Lagged, Elsewhere):
    """Requests arrive with their KV, each step decided one step early."""


KINDS: dict[tuple[str, int], type[Scheduler]] = {
    ("chunked", 0): Scheduler,
    ("chunked", 1): Lagged,
    ("pausing", 0): Pausing,
    ("pausing", 1): LaggedPausing,
    ("elsewhere", 0): Elsewhere,
    ("elsewhere", 1): LaggedElsewhere,
}


def make_scheduler(
    settings: EngineSettings, tokens: Tokens, times: Times, priority: Sequence[int] = ()
) -> Scheduler:
    """Returns an empty scheduler of one rank that keeps to the rules of these settings.

    Raises ValueError when requests are served by priority and have none.
    """
    if settings.by_priority and len(priority) < len(tokens.prompt):
        raise ValueError("by_priority needs the priority of every request")
    return KINDS[settings.prefill, settings.lag_steps](settings, tokens, times, priority)
