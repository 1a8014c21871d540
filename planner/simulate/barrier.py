"""Data-parallel ranks that start and end every step together, as one replica.

Notation
    g          a rank, 0 <= g < G
    d_g        what its composed step takes by itself, 0 if it has nothing to do     ps, (G,)
    s_g        by how much each calm step (scheduler.py) is longer than the last     ps, (G,)
    c_g        how many calm steps it has from the composed one on                   (G,)
    K_g, n_g   KV tokens that it reads in the composed step, for how many requests   (G,)

Program
    a step lasts       max_g d_g; then every rank ends its own step and composes the next
    while min_g c_g    is k > 0, k steps last max_g d_g + s_g j, j = 0 .. k-1 (envelope.py)
    a request goes     to a rank the moment it comes, by an arrival policy (scheduling/balance.py),
                       or into one pool (central.py), from which a batch policy
                       (scheduling/batch.py) fills the free places at every boundary

A rank to which nothing happens is not touched: only d_g and K_g move on, and its scheduler hears of
the steps that it has missed when something happens to it. Plain lists are twice as fast as numpy
for a few ranks, and as fast for 144.

Barrier idle time is the sum over steps and ranks of max_g d_g - d_g: together with what the steps
of the ranks take by themselves it is G times the busy time.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, mul

from planner.scheduling.balance import Policy, Workers, make_policy
from planner.scheduling.batch import BatchPolicy, DecodeWorkers, Running
from planner.scheduling.survival import Predictor
from planner.simulate.central import Places, WaitingPool
from planner.simulate.envelope import largest, total_of_all, total_of_largest, total_of_smallest
from planner.simulate.scheduler import FOREVER, IDLE
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.simulate.variants import make_scheduler


class Group:
    """A replica of G ranks under a step barrier; it is used like a Replica."""

    def __init__(
        self,
        settings: EngineSettings,
        tokens: Tokens,
        times: Times,
        priority: Sequence[int] = (),
        *,
        arrival: Policy | None = None,
        batch: BatchPolicy | None = None,
    ) -> None:
        """Builds an empty group.

        Args:
            arrival: picks the rank of each request when it comes; None: vLLM's own rule.
            batch: deals out one pool of waiting requests instead; where it looks ahead, its
                predictor hears of every request that ends.

        Raises:
            ValueError: a batch policy, which decides at the boundary itself and in what order, with
                async scheduling or priorities.
        """
        if batch is not None and (settings.lag_steps or settings.by_priority):
            raise ValueError("a batch policy needs lag_steps = 0 and by_priority = False")
        n_ranks = settings.n_ranks
        self._settings = settings
        self._prompt, self._output = tokens.prompt, tokens.output
        self._ranks = [make_scheduler(settings, tokens, times, priority) for _ in range(n_ranks)]
        self._arrival = arrival or make_policy("vllm", 0)
        self._pool = WaitingPool(batch) if batch is not None else None
        self._predictor: Predictor | None = getattr(batch, "predictor", None)
        self._places = Places(n_ranks, settings.max_num_seqs) if self._predictor else None
        self.kv_capacity_tokens = n_ranks * settings.kv_blocks * settings.block_tokens
        self.busy_ps = self.n_steps = 0
        self.own_ps = 0  # the sum over steps and ranks of d_g
        self.ended: list[int] = []  # who ended at the last boundary at which somebody did
        # Sums over steps of the tokens that a rank reads: largest - smallest; largest; all ranks'.
        self.spread_tokens = self.largest_tokens = self.read_tokens = 0
        self._clear()

    def _clear(self) -> None:
        """Forgets everything unfinished."""
        n_ranks = len(self._ranks)
        self._outstanding: dict[int, None] = {}  # in order of submission
        self._now_ps = 0  # the composed step began here
        self._is_composed = False
        # By rank, at the beginning of the composed step, which is the n_steps-th:
        self._own_ps, self._growth_ps = [0] * n_ranks, [0] * n_ranks
        self._read, self._n_decoding = [0] * n_ranks, [0] * n_ranks
        self._kv_beside = [0] * n_ranks  # tokens of outstanding requests that it does not read
        self._free = [self._settings.max_num_seqs] * n_ranks  # places
        self._known_to = [self.n_steps] * n_ranks  # steps that its scheduler has heard of
        self._calm_to = [self.n_steps] * n_ranks  # the step that its scheduler has to end itself
        self._is_idle = [True] * n_ranks
        self._stale = set(range(n_ranks))  # of whom `_places` is behind
        self._workers = Workers([0] * n_ranks, [0] * n_ranks, [0] * n_ranks, [True] * n_ranks)

    # What others may look at

    @property
    def n_outstanding(self) -> int:
        """Returns how many requests are here and not done."""
        return len(self._outstanding)

    @property
    def n_running(self) -> int:
        """Returns how many requests have a place on a rank."""
        return sum(self._workers.n_running)

    @property
    def n_waiting(self) -> int:
        """Returns how many requests wait, on a rank or in the pool."""
        return self.n_outstanding - self.n_running

    @property
    def kv_tokens(self) -> int:
        """Returns the tokens known of all outstanding requests, prompts and answers."""
        pooled = self._pool.kv_tokens if self._pool is not None else 0
        return pooled + sum(self._kv())

    @property
    def n_decoded(self) -> int:
        """Returns how many tokens decode steps have generated."""
        missed: int = sum(map(mul, self._n_missed(), self._n_decoding))
        return missed + sum(rank.n_decoded_tokens for rank in self._ranks)

    @property
    def n_prefilled_tokens(self) -> int:
        """Returns how many prompt tokens were read, again after a preemption included."""
        return sum(rank.n_prefilled_tokens for rank in self._ranks)

    @property
    def barrier_idle_ps(self) -> int:
        """Returns how long a rank waited for slower ones, the mean over the ranks, rounded down."""
        return self.busy_ps - -(-self.own_ps // len(self._ranks))

    @property
    def imbalance_tokens(self) -> float:
        """Returns the mean per step of the most less the least tokens read on a rank; NaN: none."""
        return self.spread_tokens / self.n_steps if self.n_steps else float("nan")

    @property
    def imbalance_ratio(self) -> float:
        """Returns by how much the most loaded rank reads more than the mean one, over all steps."""
        if not self.read_tokens:
            return float("nan")
        return len(self._ranks) * self.largest_tokens / self.read_tokens - 1.0

    @property
    def quiet_until_ps(self) -> int:
        """Returns a boundary before which nobody is done, and neither at it if it is calm."""
        if not self._outstanding:
            return FOREVER
        if not self._is_composed:
            return self._now_ps
        n_calm = self._n_calm()
        if not n_calm:
            return self._now_ps + max(self._own_ps)
        return self._now_ps + total_of_largest(self._own_ps, self._growth_ps, n_calm)

    # What happens to it

    def submit(self, i: int, at_ps: int) -> bool:
        """Takes request i; returns False when it could never finish here: it is refused."""
        if not self._ranks[0].accepts(i):
            return False
        if self._pool is not None:
            self._pool.append(i, self._prompt[i])
        else:
            self._submit_to_rank(i, at_ps)
        if not self._outstanding:
            self._now_ps = at_ps
        self._outstanding[i] = None
        return True

    def _submit_to_rank(self, i: int, at_ps: int) -> None:
        if self._arrival.reads_state:
            self._workers.kv_tokens = self._kv()
        g = self._arrival.pick(self._prompt[i], self._workers)
        self._catch_up(g, self.n_steps)
        rank = self._ranks[g]
        rank.submit(i, is_late=self._is_composed and at_ps > self._now_ps)
        self._note(g)
        self._calm_to[g] = self.n_steps + rank.calm_steps()

    def advance(self, until_ps: int, to_completion: bool = False) -> bool:
        """Handles all boundaries before `until_ps`.

        Returns True when it stopped right after one at which a request ended, which it only does
        for `to_completion`.
        """
        while self._outstanding and self._now_ps < until_ps:
            if not self._is_composed:
                self._start()
            n_calm = self._n_calm()
            if n_calm:
                if not self._jump(n_calm, until_ps):
                    return False
                continue
            end_ps = self._now_ps + max(self._own_ps)
            if end_ps >= until_ps:
                return False
            if self._boundary(end_ps) and to_completion:
                return True
        return False

    def drain(self) -> None:
        """Runs until nothing is left."""
        while self._outstanding:
            self.advance(FOREVER)

    def fail(self, at_ps: int) -> list[int]:
        """Loses everything unfinished at this moment; returns it, in order of submission."""
        self.advance(at_ps)
        lost = list(self._outstanding)
        for g, rank in enumerate(self._ranks):
            self._catch_up(g, self.n_steps)
            rank.drop()
        if self._pool is not None:
            self._pool.clear()
        self._clear()
        return lost

    def slow(self, at_ps: int, ratio: float) -> None:
        """Makes steps composed from this moment on take `ratio` times as long as the settings."""
        self.advance(at_ps)
        steps = self._settings.steps.scaled(ratio)
        for g, rank in enumerate(self._ranks):
            self._catch_up(g, self.n_steps)
            rank.use(steps)
            self._calm_to[g] = self.n_steps
            self._stale.add(g)

    # Calm steps

    def _n_calm(self) -> int:
        """Returns how many steps from the composed one on end without anything else."""
        if self._pool and any(self._free):
            return 0
        return min(self._calm_to) - self.n_steps

    def _jump(self, n_calm: int, until_ps: int) -> bool:
        """Ends those of the calm steps that end before `until_ps`; returns whether all did."""
        left_ps = until_ps - 1 - self._now_ps
        n = elapsed_ps = 0
        for piece in largest(self._own_ps, self._growth_ps, n_calm):
            n_here = piece.n_within(left_ps - elapsed_ps)
            n += n_here
            elapsed_ps += piece.total(n_here)
            if n_here < piece.n_steps:
                break
        if n:
            self._move_on(n, elapsed_ps)
        return n == n_calm

    def _move_on(self, n_steps: int, elapsed_ps: int) -> None:
        """Counts steps that last so long together, and lets all ranks have done them calmly."""
        own_ps, growth_ps = self._own_ps, self._growth_ps
        read, n_decoding = self._read, self._n_decoding
        most = total_of_largest(read, n_decoding, n_steps)
        least = total_of_smallest(read, n_decoding, n_steps)
        self.spread_tokens += most - least
        self.largest_tokens += most
        self.read_tokens += total_of_all(read, n_decoding, n_steps)
        self.own_ps += total_of_all(own_ps, growth_ps, n_steps)
        self.busy_ps += elapsed_ps
        self._now_ps += elapsed_ps
        self.n_steps += n_steps
        self._own_ps = [d + n_steps * s for d, s in zip(own_ps, growth_ps, strict=True)]
        self._read = [k + n_steps * n for k, n in zip(read, n_decoding, strict=True)]

    def _kv(self) -> list[int]:
        """Returns the tokens known of the outstanding requests of each rank."""
        return list(map(add, self._read, self._kv_beside))

    def _n_missed(self) -> list[int]:
        """Returns how many steps the scheduler of each rank has not heard of."""
        return [self.n_steps - known for known in self._known_to]

    def _catch_up(self, g: int, n_steps: int) -> None:
        """Tells the scheduler of a rank of the calm steps among the first so many."""
        missed = n_steps - self._known_to[g]
        if missed:
            self._ranks[g].skip(missed)
            self._known_to[g] = n_steps

    # Boundaries

    def _start(self) -> None:
        """Composes a step from everything there is, as after idling."""
        everyone = range(len(self._ranks))
        for g in everyone:
            self._catch_up(g, self.n_steps)
        self._deal()
        self._compose(everyone, fresh_start=True)
        if not self._is_composed:
            raise ValueError("the batch policy places nobody although all places are free")

    def _boundary(self, end_ps: int) -> bool:
        """Ends one step at this moment and composes the next; returns whether a request ended."""
        touched = [g for g, step in enumerate(self._calm_to) if step == self.n_steps]
        if self._pool:
            touched = sorted({*touched, *(g for g, free in enumerate(self._free) if free)})
        self._move_on(1, end_ps - self._now_ps)
        ended: list[int] = []
        for g in touched:
            ended += self._end_step(g, end_ps)
        for i in ended:
            del self._outstanding[i]
        if ended:
            self.ended = ended
        self._deal()
        self._compose(touched)
        if self._outstanding and not self._is_composed:
            self._start()  # async scheduling, and nobody had seen who waits
        return bool(ended)

    def _end_step(self, g: int, end_ps: int) -> list[int]:
        """Lets one rank end its step, after the calm ones before it; returns who is done."""
        rank = self._ranks[g]
        self._catch_up(g, self.n_steps - 1)
        rank.end_step(end_ps)
        self._known_to[g] = self.n_steps
        if self._predictor is not None:
            for i in rank.ended:
                self._predictor.observe(i, self._output[i])
        self._note(g)
        return rank.ended

    def _deal(self) -> None:
        """Gives pooled requests to ranks with free places, which all compose after this."""
        if self._pool and any(self._free):
            workers = DecodeWorkers(self._kv(), list(self._free), self._running())
            for i, g in self._pool.deal(workers):
                self._ranks[g].submit(i)

    def _running(self) -> Running | None:
        """Returns who decodes where, if the batch policy looks ahead."""
        if self._places is None:
            return None
        for g in self._stale:
            self._places.set(g, self._ranks[g].decoding())
        self._stale.clear()
        return self._places.running(self._n_missed())

    def _compose(self, touched: Sequence[int], fresh_start: bool = False) -> None:
        """Composes the next step of some ranks; the others go on as they were."""
        for g in touched:
            rank = self._ranks[g]
            own_ps = rank.compose(fresh_start)
            is_idle = own_ps == IDLE
            self._is_idle[g] = is_idle
            self._own_ps[g] = 0 if is_idle else own_ps
            self._growth_ps[g] = rank.growth_ps
            n_calm = FOREVER if is_idle and not rank.n_waiting else rank.calm_steps()
            self._calm_to[g] = self.n_steps + n_calm
            self._note(g)
        self._is_composed = not all(self._is_idle)

    def _note(self, g: int) -> None:
        """Reads off what a rank has become; its scheduler has heard of all steps."""
        self._stale.add(g)
        rank, workers = self._ranks[g], self._workers
        n_running, n_waiting = rank.n_running, rank.n_waiting
        workers.n_running[g], workers.n_waiting[g] = n_running, n_waiting
        self._free[g] = self._settings.max_num_seqs - n_running - n_waiting
        n_decoding = self._n_decoding[g] = rank.n_decoding
        read = self._read[g] = rank.context_tokens if n_decoding else 0
        self._kv_beside[g] = rank.kv_tokens - read
