"""What one rank of an engine does at each boundary: who decodes, who prefills, who is put back.

A scheduler knows no clock. It composes a step and says how long that step takes by itself; it is
told when the step ended. A replica (replica.py) or a group of ranks under a barrier (barrier.py)
owns the time. Rules that differ from chunked prefill are in variants.py.

Notation
    i           a request                                                    index
    p, f, o     its prompt tokens; those to prefill; its output tokens       tokens
    g           tokens generated so far                                      tokens
    B           tokens of a KV block (block_tokens)                          tokens
    J           decode steps ended so far                                    1
    e           the J at which a decoding request ends: e = J + o - g        1
    n           requests that decode in the step                             1
    K           tokens that they read, sum of p + g = p + o - (e - J)        tokens
    F, C, D, E  the step law, see settings.py                                ps

Every decoding request gains one token per decode step, so e never changes: a heap of e gives the
next end, and nothing has to be touched per token.

Program, at a boundary
    1. decode     each decoding request, in order of admission, takes ceil((p+g)/B) blocks in all;
                  while it needs one and none is free, the last admitted running request is
                  preempted: its blocks are free, it waits first in line and will prefill p + g
                  tokens again, g kept. By priority it is the running one with the least priority,
                  of these the latest submitted, and it goes back to its place in the queue. Who
                  is next to go depends on nobody's need: so they go until those that remain fit.
    2. prefill    with max_num_batched_tokens - n tokens to spend: the partly prefilled request goes
                  on (blocks as in 1; its chunk is fixed before); then, unless somebody was
                  preempted at this boundary, the head of the queue is admitted while tokens and
                  places last and its blocks ceil((cached + chunk)/B) are free; with
                  reserve_prompt those of all that it will prefill must be free, which it does not
                  take yet. vLLM does so by default (scheduler_reserve_full_isl).
    3. duration   F[n] + C[n]*K + D*P + sum over chunks of E*c*(2x+c)//2
At its end every decoding request has g += 1, and so has every request whose prefill is complete.

Calm steps. A step that only decodes is followed by the same step, one token per request later,
until somebody ends, somebody can be admitted, or blocks run out. Who waits behind a head that
cannot be admitted stays there: free blocks and places only shrink until somebody ends.
    next end      min(e) - J - 1 calm steps
    blocks        the decoding requests hold (K + sum over r of N[r]*((-r-J) mod B)) / B blocks,
                  where N[r] counts those with p + o - e = r mod B. B more steps take one block for
                  each of them, whatever r; the j-th of them takes N[(-J-j+1) mod B]. So whole
                  rounds of B steps are divided out, and at most B - 1 steps are counted.
                  K + n*(B-1) bounds the numerator: while that is below what there is, and mostly
                  it is, nothing is counted at all.
A request that has just finished its prefill does not decode yet (g = 1 comes with the step's end).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from operator import mul

from planner.simulate.queue import PriorityQueue
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens

IDLE = -1  # what compose() returns when there is nothing to do
FOREVER = 1 << 62  # calm steps of a rank with nothing to do
NOBODY = -1

# One integer per decoding request in the heap: e above, the request below. Tuples are slower.
SHIFT = 32
REQUEST = (1 << SHIFT) - 1


class Scheduler:
    """The requests of one rank with chunked prefill, first come first served or by priority."""

    __slots__ = (
        "_attention_ps", "_context_ps", "_decode_ps", "_done_ps", "_ends", "_finishing",
        "_first_ps", "_fresh", "_generated", "_heap", "_most_tokens", "_n_by_residue", "_output",
        "_partial", "_partial_rest", "_partial_tokens", "_preempting", "_prefill_tokens",
        "_prompt", "_prompt_token_ps", "_reserve_prompt", "_times", "_unused", "block_tokens",
        "by_priority", "capacity_tokens", "context_tokens", "ended", "max_num_batched_tokens",
        "max_num_seqs", "n_decode_steps", "n_decoded_tokens", "n_prefilled_tokens", "queued_tokens",
        "settled", "waiting",
    )  # fmt: skip

    def __init__(
        self, settings: EngineSettings, tokens: Tokens, times: Times, priority: Sequence[int] = ()
    ) -> None:
        self.max_num_seqs = settings.max_num_seqs
        self.max_num_batched_tokens = settings.max_num_batched_tokens
        self.block_tokens = settings.block_tokens
        self.by_priority = settings.by_priority
        self._reserve_prompt = settings.reserve_prompt
        self.capacity_tokens = settings.kv_blocks * settings.block_tokens
        self._most_tokens = self.capacity_tokens  # that one request may hold
        self._unused = [-r % self.block_tokens for r in range(2 * self.block_tokens)]
        self._prompt, self._fresh, self._output = tokens.prompt, tokens.fresh, tokens.output
        self._times = times
        self._first_ps, self._done_ps = times.first_ps, times.done_ps
        self.waiting: deque[int] | PriorityQueue = (
            PriorityQueue(priority) if settings.by_priority else deque()
        )
        self.use(settings.steps)
        self.n_prefilled_tokens = 0
        self.n_decoded_tokens = 0
        self.n_decode_steps = 0  # J
        self._clear()

    def _clear(self) -> None:
        """Forgets all requests."""
        self.waiting.clear()
        self.context_tokens = 0  # K
        self.queued_tokens = 0  # p + g of those that wait or prefill
        self.ended: list[int] = []  # who ended at the last boundary
        self.settled = False  # the next step is the same again, as far as the queue goes
        self._ends: dict[int, int] = {}  # request -> e, in order of admission
        self._heap: list[int] = []
        self._n_by_residue = [0] * self.block_tokens  # N
        self._generated: dict[int, int] = {}  # g of preempted requests until they decode again
        self._partial = NOBODY
        self._partial_rest = 0  # tokens it has yet to prefill after the composed step
        self._partial_tokens = 0  # tokens present after the composed step
        self._finishing: list[int] = []  # whose prefill the composed step completes
        self._prefill_tokens = 0  # P of the composed step
        self._preempting = False

    def use(self, steps: StepTimes) -> None:
        """Takes these times for steps composed from now on."""
        self._decode_ps, self._context_ps = steps.decode_ps, steps.context_ps
        self._prompt_token_ps, self._attention_ps = steps.prompt_token_ps, steps.attention_ps
        self.settled = False

    # What others may look at

    @property
    def n_decoding(self) -> int:
        """Returns how many requests decode in the composed step."""
        return len(self._ends)

    @property
    def n_running(self) -> int:
        """Returns how many requests hold a place."""
        return len(self._ends) + len(self._finishing) + (self._partial >= 0)

    @property
    def n_waiting(self) -> int:
        """Returns how many requests wait for a place."""
        return len(self.waiting)

    @property
    def n_steps(self) -> int:
        """Returns how many steps have ended."""
        return self.n_decode_steps

    @property
    def kv_tokens(self) -> int:
        """Returns the sum of p + g over all outstanding requests, waiting ones too."""
        return self.context_tokens + self.queued_tokens

    @property
    def growth_ps(self) -> int:
        """Returns by how much each calm step is longer than the one before it."""
        n = len(self._ends)
        return self._context_ps[n] * n

    def decoding(self) -> Iterator[tuple[int, int, int]]:
        """Yields (request, its tokens p + g, its generated tokens g), in order of admission."""
        for i, end in self._ends.items():
            g = self._output[i] - (end - self.n_decode_steps)
            yield i, self._prompt[i] + g, g

    # What happens to it

    def submit(self, i: int, is_late: bool = False) -> bool:
        """Queues request i; returns False when it could never finish here: it is refused.

        is_late: it came after the composed step began (of interest to async scheduling only).
        """
        if not self.accepts(i):
            return False
        if self.by_priority or not self.waiting:
            self.settled = False  # there is a new head
        self.waiting.append(i)
        self.queued_tokens += self._prompt[i]
        return True

    def accepts(self, i: int) -> bool:
        """Returns whether request i fits into the memory when it is alone there."""
        return self._prompt[i] + self._output[i] - 1 <= self._most_tokens

    def drop(self) -> list[int]:
        """Forgets everything unfinished; returns it, in order of submission."""
        running = [*self._ends, *self._finishing]
        if self._partial >= 0:
            running.append(self._partial)
        unfinished = self._in_order(running)
        self._clear()
        return unfinished

    def _in_order(self, running: list[int]) -> list[int]:
        """Returns the outstanding requests in order of submission.

        First come first served keeps those running ahead of those waiting: only the last admitted
        is ever put back, and it is put back first in line.
        """
        if isinstance(self.waiting, PriorityQueue):
            return sorted([*running, *self.waiting], key=self.waiting.submission)
        return [*running, *self.waiting]

    def compose(self, fresh_start: bool = False) -> int:
        """Composes the next step; returns its duration in ps, or IDLE when there is none.

        fresh_start: the engine was idle (of interest to async scheduling only).
        """
        n = len(self._ends)
        room = self.capacity_tokens - self.context_tokens - n * (self.block_tokens - 1)
        is_exact = room < self._partial_tokens + self.block_tokens
        if is_exact:
            room = self._make_room(self._partial_tokens)
        if self._partial >= 0 or self.waiting:
            return self._compose_with_prefill(room, is_exact)
        self.settled = True
        if n == 0:
            return IDLE
        return self._decode_ps[n] + self._context_ps[n] * self.context_tokens

    def _compose_with_prefill(self, room: int, is_exact: bool) -> int:
        """Composes steps 2 and 3 of the program.

        room: the tokens in blocks that the decoding requests leave, or a bound below them.
        """
        budget = self.max_num_batched_tokens - len(self._ends)
        spent = attention_ps = 0
        if self._partial >= 0:
            present = self._partial_tokens
            spent, attention_ps = self._continue(budget, room)
            room -= self._in_blocks(present + spent)
        if self.waiting and not self._preempting:
            more, more_ps = self._admit(budget - spent, room, is_exact)
            spent += more
            attention_ps += more_ps
        n = len(self._ends)
        self._prefill_tokens = spent
        self.settled = spent == 0 and not self._preempting
        self._preempting = False
        if n == 0 and spent == 0:
            return IDLE
        decode_ps = self._decode_ps[n] + self._context_ps[n] * self.context_tokens
        return decode_ps + self._prompt_token_ps * spent + attention_ps

    def _continue(self, budget: int, room: int) -> tuple[int, int]:
        """Prefills more of the partly prefilled request; returns tokens and ps of attention."""
        present = self._partial_tokens
        chunk = min(self._partial_rest, budget)
        if room < present + chunk + self.block_tokens:
            self._make_room(present + chunk)
            if self._partial < 0:
                return 0, 0
        if chunk == self._partial_rest:
            self._finishing.append(self._partial)
            self._partial = NOBODY
            self._partial_tokens = self._partial_rest = 0
        else:
            self._partial_tokens += chunk
            self._partial_rest -= chunk
        return chunk, self._attention_ps * chunk * (2 * present + chunk) // 2

    def _admit(self, budget: int, room: int, is_exact: bool) -> tuple[int, int]:
        """Admits from the head of the queue; returns tokens to prefill and ps of attention."""
        waiting, block = self.waiting, self.block_tokens
        places = self.max_num_seqs - self.n_running
        spent = attention_ps = 0
        while budget and places and waiting:
            i = waiting[0]
            rest = self._fresh[i]
            present = self._prompt[i] - rest  # cached
            if i in self._generated:  # comes back after a preemption
                rest = self._prompt[i] + self._generated[i]
                present = 0
            chunk = rest if rest <= budget else budget
            needed = present + chunk
            needed += -needed % block
            asked = needed
            if chunk < rest and self._reserve_prompt:
                asked = self._in_blocks(present + rest)
            if asked > room and not is_exact:
                room, is_exact = self._free_tokens(), True
            if asked > room:
                break
            waiting.popleft()
            room -= needed
            budget -= chunk
            places -= 1
            spent += chunk
            if self._attention_ps:
                attention_ps += self._attention_ps * chunk * (2 * present + chunk) // 2
            if chunk == rest:
                self._finishing.append(i)
            else:
                self._partial = i
                self._partial_rest = rest - chunk
                self._partial_tokens = present + chunk
        return spent, attention_ps

    def end_step(self, end_ps: int) -> None:
        """Ends the composed step at this moment; `ended` then holds who is done."""
        n = len(self._ends)
        self.n_decode_steps += 1
        self.n_decoded_tokens += n
        self.context_tokens += n
        if self.ended:
            self.ended = []
        if self._heap and self._heap[0] >> SHIFT == self.n_decode_steps:
            self._end_decodes(end_ps)
        if self._prefill_tokens:
            self._end_prefills(end_ps)
        if self.by_priority:
            self._forget_ended()

    def _forget_ended(self) -> None:
        if isinstance(self.waiting, PriorityQueue):
            self.waiting.forget(self.ended)

    def _end_decodes(self, end_ps: int) -> None:
        """Lets those go whose last token this was."""
        heap, step, block = self._heap, self.n_decode_steps, self.block_tokens
        while heap and heap[0] >> SHIFT == step:
            i = heappop(heap) & REQUEST
            del self._ends[i]
            tokens = self._prompt[i] + self._output[i]
            self.context_tokens -= tokens
            self._n_by_residue[(tokens - step) % block] -= 1
            self._done_ps[i] = end_ps
            self.ended.append(i)

    def _end_prefills(self, end_ps: int) -> None:
        """Gives the token of their prefill to those whose prefill is complete."""
        self.n_prefilled_tokens += self._prefill_tokens
        self._prefill_tokens = 0
        for i in self._finishing:
            g = 1
            if self._generated:
                g += self._generated.pop(i, 0)
            self.queued_tokens -= self._prompt[i] + g - 1
            if g == 1:
                self._first_ps[i] = end_ps
            if g == self._output[i]:
                self._done_ps[i] = end_ps
                self.ended.append(i)
            else:
                self._join(i, g)
        self._finishing.clear()

    def _join(self, i: int, g: int) -> None:
        """Lets a request decode from the next step on."""
        tokens = self._prompt[i] + g
        end = self.n_decode_steps + self._output[i] - g
        self._ends[i] = end
        heappush(self._heap, end << SHIFT | i)
        self.context_tokens += tokens
        self._n_by_residue[(tokens - self.n_decode_steps) % self.block_tokens] += 1

    # Many steps at once

    def calm_steps(self) -> int:
        """Returns how many steps, from the composed one on, do nothing but add their tokens."""
        if not self.settled:
            return 0
        n = len(self._ends)
        if n == 0:
            return FOREVER
        steps = (self._heap[0] >> SHIFT) - self.n_decode_steps - 1
        room = self.capacity_tokens - self.context_tokens - n * (self.block_tokens - 1)
        if steps * n > room:
            return self._steps_with_blocks(steps)
        return steps

    def skip(self, n_steps: int) -> None:
        """Ends so many calm steps; the composed step is then the one after them."""
        n_tokens = n_steps * len(self._ends)
        self.n_decode_steps += n_steps
        self.n_decoded_tokens += n_tokens
        self.context_tokens += n_tokens

    # Blocks, when they may run out

    def _in_blocks(self, n_tokens: int) -> int:
        """Returns the tokens rounded up to whole blocks."""
        return n_tokens + -n_tokens % self.block_tokens

    def _held(self) -> int:
        """Returns the tokens in blocks of those that decode in the step."""
        first = self.n_decode_steps % self.block_tokens
        unused = self._unused[first : first + self.block_tokens]  # (-r - J) mod B
        in_last_blocks: int = sum(map(mul, self._n_by_residue, unused))
        return self.context_tokens + in_last_blocks

    def _free_tokens(self) -> int:
        """Returns the tokens in free blocks while a step is composed."""
        held = self._held() + self._in_blocks(self._partial_tokens)
        held += sum(self._in_blocks(self._prefilled_tokens(i)) for i in self._finishing)
        return self.capacity_tokens - held

    def _prefilled_tokens(self, i: int) -> int:
        """Returns the tokens of a request at the end of its prefill."""
        return self._prompt[i] + self._generated.get(i, 0)

    def _steps_with_blocks(self, most: int) -> int:
        """Returns the largest number of calm steps, at most `most`, for which blocks last."""
        block, n_by_residue = self.block_tokens, self._n_by_residue
        free = self.capacity_tokens - self._held()  # the composed step has taken its blocks
        rounds = free // (block * len(self._ends))  # of one block for each, in `block` steps
        free -= rounds * block * len(self._ends)
        steps = rounds * block
        while steps < most:
            free -= block * n_by_residue[-(self.n_decode_steps + steps) % block]
            if free < 0:
                break
            steps += 1
        return min(steps, most)

    def _make_room(self, partial_tokens: int) -> int:
        """Preempts until the running requests fit, the partly prefilled one with so many tokens.

        Returns the tokens in blocks that the decoding requests leave.
        """
        needed = self._in_blocks(partial_tokens)
        room = self.capacity_tokens - self._held()
        while room < (needed if self._partial >= 0 else 0):
            self._preempt(self._victim())
            room = self.capacity_tokens - self._held()
        return room

    def _victim(self) -> int:
        """Returns the running request that is put back when blocks run out."""
        if isinstance(self.waiting, PriorityQueue):
            running = [*self._ends] if self._partial < 0 else [*self._ends, self._partial]
            return max(running, key=self.waiting.place)
        return self._partial if self._partial >= 0 else next(reversed(self._ends))

    def _preempt(self, i: int) -> None:
        """Puts a running request back into the queue; its blocks are free."""
        if i == self._partial:
            self._partial = NOBODY
            self._partial_tokens = self._partial_rest = 0
            g = self._generated.get(i, 0)
        else:
            end = self._ends.pop(i)
            self._heap.remove(end << SHIFT | i)
            heapify(self._heap)
            g = self._output[i] - (end - self.n_decode_steps)
            tokens = self._prompt[i] + g
            self.context_tokens -= tokens
            self.queued_tokens += tokens
            self._n_by_residue[(tokens - self.n_decode_steps) % self.block_tokens] -= 1
        self._generated[i] = g
        self.waiting.appendleft(i)
        self._times.n_preempted[i] += 1
        self._preempting = True
