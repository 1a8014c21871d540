"""What one instance has to do, by what was sent there and has not come back.

What is known are events: sent, first token, ended. Between them the account counts steps by the
time that has passed: prompts are prefilled in the order in which they were sent, answers get a
token per step. The next event puts right what was believed meanwhile; where first tokens are not
seen, as without streaming, what is believed stands.

Notation
    d, P      how many decode; tokens yet to prefill of those that do not       1, tokens
    g, D, B   step of the d, per prompt token, most tokens per step             ms, ms, tokens

    S, C      places; tokens of KV cache                                        1, tokens

Program, when a time t has passed
    while P > 0       a step lasts g + D c and prefills c = min(P, B - d) tokens
    then              a step lasts g
    the d             go on by the number of steps, in parts too (tally.py)

P is of the S - d prompts sent first: the others have no place. While the cache is full, nothing is
prefilled.

Others. An instance that serves somebody else, too, tells of more requests than were sent to it from
here. The difference at the moment of its telling is added, and counts half as much every
HALF_LIFE_S; for each of these what is usual here (habits.py) is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import ceil

from planner.scheduling.delay import Load, StepCurve
from planner.scheduling.habits import FASTEST_RATIO, Habits, Pace
from planner.scheduling.tally import GONE, QUEUED, Sent, Tally

HALF_LIFE_S = 5.0
HABITS_S = 0.5  # how late habits may be told of what has not changed
KEPT_S = 10.0  # how old what an instance says of itself may be
LEAST_MS = 1e-3  # of a step, so that a curve of zeros does no harm
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Seen:
    """What an instance says of itself."""

    n_running: int
    n_waiting: int
    kv_tokens: float | None  # in its cache; None: it does not say
    at_s: float  # when that was so


class Account:
    """The requests of one instance."""

    __slots__ = (
        "_at_s", "_chunk_tokens", "_habits", "_nominal", "_others", "_prefill_tokens", "_queue",
        "_queued_output", "_tally", "_there", "_weight", "curve",
    )  # fmt: skip

    def __init__(self, curve: StepCurve | None, pace: Pace, length_cv: float) -> None:
        """Starts with nothing sent.

        Args:
            curve: how fast the instance is; None: unknown.
            pace: of all instances with this curve.
            length_cv: how uncertain expected lengths are, standard deviation over mean.
        """
        self.curve = curve
        self._there: dict[Sent, None] = {}
        self._queue: dict[Sent, None] = {}  # those yet to decode, in the order of sending
        self._prefill_tokens = self._queued_output = 0.0  # sums over the queue
        self._chunk_tokens = 0.0  # that the step in progress prefills; 0: to be composed
        self._tally = Tally(min(length_cv * length_cv, 1.0))
        self._habits = Habits(pace)
        self._others = _Others()
        self._weight = 0.0  # of the others, by the age of what was told of them
        self._at_s = -FOREVER
        self._nominal = 0.0  # the steps that the curve has for the time so far

    @property
    def n_in_flight(self) -> int:
        """Returns how many requests were sent there and have not ended."""
        return len(self._there)

    @property
    def pace(self) -> Pace:
        """Returns what the instance has in common with all of its curve."""
        return self._habits.pace

    def renew(self, curve: StepCurve | None, pace: Pace) -> None:
        """Takes what the instance is in another plan; what was sent there stays."""
        if curve != self.curve:
            self._habits.forget_slowness()
        self._habits.pace = pace
        self.curve = curve
        self._chunk_tokens = 0.0

    def known_curve(self) -> StepCurve:
        """Returns how fast the instance is; raises ValueError where that is not known."""
        if self.curve is None:
            raise ValueError("nothing is known of how fast the instance is: it has no curve")
        return self.curve

    # Events

    def sent(
        self, input_tokens: float, fresh_tokens: float, output_tokens: float, now_s: float
    ) -> Sent:
        """Returns a request that is sent there now."""
        self.advance(now_s)
        self._note_habits()
        fresh_tokens = max(fresh_tokens, 1.0)  # one is prefilled of a prompt all in the cache
        one = Sent(input_tokens, output_tokens, self._at_s, fresh_tokens)
        prefill_ms = 0.0
        if self.curve is not None:
            prefill_ms = self.curve.prompt_token_ms * fresh_tokens * self._habits.slowness_ratio
        self._habits.came(input_tokens, output_tokens, prefill_ms)
        self._there[one] = self._queue[one] = None
        self._prefill_tokens += fresh_tokens
        self._queued_output += output_tokens
        self._chunk_tokens = 0.0
        return one

    def first_token(self, one: Sent, now_s: float) -> None:
        """Notes the first token of a request that is there; a second time says nothing new."""
        self.advance(now_s)
        if one.has_token:
            return
        self._leave(one)
        self._tally.begin(one)
        self._chunk_tokens = 0.0
        one.has_token = True
        one.token_nominal = self._nominal

    def ended(self, one: Sent, now_s: float, output_tokens: float | None) -> None:
        """Notes the end of a request that is there; its length, where it was answered in full."""
        self.advance(now_s)
        self._note_habits()
        if one.has_token and self.curve is not None and output_tokens is not None:
            self._learn(self._nominal - one.token_nominal, output_tokens - 1.0)
        self._leave(one)
        self._chunk_tokens = 0.0
        one.state = GONE
        del self._there[one]
        self._others.ended(one.at_s, self._at_s)

    def _learn(self, nominal_steps: float, tokens: float) -> None:
        """Takes in how long so many tokens took after the first one.

        What comes whole, as an answer that is not streamed, tells nothing of the steps it took.
        """
        if tokens > 0.0 and nominal_steps >= FASTEST_RATIO * tokens:
            self._habits.answered(nominal_steps, tokens)

    def reconcile(self, seen: Seen, now_s: float) -> None:
        """Takes what the instance says of itself; of a moment to come it is taken to be of now."""
        self.advance(now_s)
        others, now_s = self._others, self._at_s
        at_s = min(seen.at_s, now_s)
        if others.at_s < at_s and now_s - at_s <= KEPT_S:
            self._note_habits()
            others.told(seen, at_s, self._there, self._tally.kv_tokens, self._habits)
            self._weight = others.weight(now_s)

    # What it has to do

    def load(self, now_s: float) -> Load:
        """Returns what the instance has to do now."""
        self.advance(now_s)
        tally, others, habits = self._tally, self._others, self._habits
        prefill, kv = self._prefill_tokens, tally.kv_tokens
        decode = tally.decode_tokens + self._queued_output
        there, waiting = float(len(self._there)), 0.0
        weight = self._weight
        if weight:
            there += weight * others.n
            decode += weight * others.n * habits.output_tokens
            kv = max(kv + weight * others.kv_tokens, 0.0)
            waiting = weight * others.n_waiting
        curve = self.curve
        if curve is not None:
            places = there - curve.max_num_seqs
            waiting = places if places > waiting else waiting
            short = kv + prefill - curve.kv_capacity_tokens
            if short > 0.0 and prefill > 0.0:
                waiting = max(waiting, len(self._queue) * min(short / prefill, 1.0))
        waiting = waiting if waiting < there else there
        return Load(
            there - waiting,
            waiting,
            prefill,
            decode,
            kv,
            habits.slowness_ratio,
            habits.running,
            habits.prefill_ratio,
        )

    # Time

    def advance(self, now_s: float) -> None:
        """Lets the time pass up to now; a moment before the last one is that one."""
        passed_s = now_s - self._at_s
        if passed_s <= 0.0:
            return
        self._at_s = now_s
        if self._weight:
            self._weight = self._others.weight(now_s)
        if now_s - self._habits.at_s > HABITS_S:
            self._note_habits()
        curve = self.curve
        if curve is None or not self._there:
            return
        left_ms = 1e3 * passed_s
        if self._queue:
            left_ms = self._fill(left_ms, curve)
        if left_ms > 0.0 and self._tally.n:
            slowness = self._habits.slowness_ratio
            self._tick(left_ms / self._step_ms(curve, slowness), slowness)

    def _note_habits(self) -> None:
        """Tells the habits how many were there till now: before that changes, or now and then."""
        self._habits.passed(self._at_s, len(self._there) + self._weight * self._others.n)

    def _fill(self, passed_ms: float, curve: StepCurve) -> float:
        """Does the steps that prefill, in so long; returns what is left of it, below 0: nothing."""
        n, kv_tokens = self._decoding()
        room, places = curve.max_num_batched_tokens - n, ceil(curve.max_num_seqs - n)
        if places < 1 or room < 1.0 or kv_tokens >= curve.kv_capacity_tokens:
            return passed_ms
        tokens = self._prefill_tokens
        if places < len(self._queue):
            tokens = sum(one.unfilled_tokens for one in islice(self._queue, places))
        tokens = max(tokens, 1.0)
        # A step goes on as it was composed, however often somebody looks, until there is news.
        chunk = self._chunk_tokens = self._chunk_tokens or min(tokens, room)
        slowness = self._habits.slowness_ratio
        step_ms = self._step_ms(curve, slowness) + curve.prompt_token_ms * chunk * slowness
        n_steps = tokens / chunk
        left_ms = passed_ms - n_steps * step_ms
        if left_ms < 0.0:
            n_steps = passed_ms / step_ms
        self._tick(n_steps, slowness)
        self._prefill(chunk * n_steps if left_ms < 0.0 else FOREVER, places)
        return left_ms

    def _decoding(self) -> tuple[float, float]:
        """Returns how many decode there and what they hold, the requests of others too."""
        n, kv_tokens, weight = self._tally.n, self._tally.kv_tokens, self._weight
        if not weight:
            return n, kv_tokens
        others = self._others
        return n + weight * others.n, max(kv_tokens + weight * others.kv_tokens, 0.0)

    def _step_ms(self, curve: StepCurve, slowness_ratio: float) -> float:
        tally = self._tally
        n, kv_tokens = self._decoding() if self._weight else (tally.n, tally.kv_tokens)
        step_ms = curve.step_ms(n, kv_tokens) * slowness_ratio
        return step_ms if step_ms > LEAST_MS else LEAST_MS

    def _tick(self, n_steps: float, slowness_ratio: float) -> None:
        self._nominal += n_steps * slowness_ratio
        self._tally.tick(n_steps)

    def _prefill(self, tokens: float, places: int) -> None:
        """Prefills so many tokens, oldest prompts first; whose prompt is through, decodes."""
        queue = self._queue
        for _ in range(min(places, len(queue))):
            one = next(iter(queue))
            if one.unfilled_tokens > tokens:
                one.unfilled_tokens -= tokens
                self._prefill_tokens -= tokens
                return
            tokens -= one.unfilled_tokens
            self._leave(one)
            self._tally.begin(one)

    def _leave(self, one: Sent) -> None:
        """Takes a request out of where it is."""
        if one.state != QUEUED:
            self._tally.leave(one)
            return
        del self._queue[one]
        if self._queue:
            self._prefill_tokens = max(self._prefill_tokens - one.unfilled_tokens, 0.0)
            self._queued_output = max(self._queued_output - one.output_tokens, 0.0)
        else:  # exactly nothing: sums leave dust
            self._prefill_tokens = self._queued_output = self._chunk_tokens = 0.0


class _Others:
    """What an instance has told last, beside what was sent from here."""

    __slots__ = ("_gone", "at_s", "kv_tokens", "n", "n_waiting")

    def __init__(self) -> None:
        self._gone: deque[tuple[float, float]] = deque()  # sent and ended, s; of the last seconds
        self.at_s = -FOREVER
        self.n = 0  # requests of others
        self.n_waiting = 0  # that wait there for a place, whoever sent them
        self.kv_tokens = 0.0  # in the cache beside what is reckoned here; below 0: that is less

    def weight(self, now_s: float) -> float:
        """Returns how much what was told counts now, 0..1."""
        return float(0.5 ** ((now_s - self.at_s) / HALF_LIFE_S))

    def ended(self, sent_s: float, ended_s: float) -> None:
        """Notes an end, for a telling that is older."""
        gone = self._gone
        gone.append((sent_s, ended_s))
        while gone[0][1] < ended_s - KEPT_S:
            gone.popleft()

    def told(
        self,
        seen: Seen,
        at_s: float,
        there: Iterable[Sent],
        own_kv_tokens: float,
        habits: Habits,
    ) -> None:
        """Takes what the instance tells of a moment; what was sent from here is not of others."""
        self.at_s = at_s
        own = sum(one.at_s <= at_s for one in there)
        own += sum(sent_s <= at_s < ended_s for sent_s, ended_s in self._gone)
        self.n = max(seen.n_running + seen.n_waiting - own, 0)
        self.n_waiting = seen.n_waiting
        if seen.kv_tokens is None:
            self.kv_tokens = self.n * (habits.input_tokens + habits.output_tokens / 2.0)
        else:
            self.kv_tokens = seen.kv_tokens - own_kv_tokens
