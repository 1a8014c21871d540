"""What the promises of a plan leave to a request: how much longer than alone things may take.

Notation and reasons are those of admission.py. Here is how the planned level is found.

    w_c     part of class c that the plan sends to the pool, escalated requests included        1
    l_c     w_c rate of c, per instance of the pool                                             1/ms
    n       requests that run on an instance as planned: sum_c l_c E2E_c(n), by repetition      1
    p, s    x at n, and at n + 3 sqrt(n): requests in progress are about Poisson                ms
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log, sqrt
from typing import TYPE_CHECKING, NamedTuple

from planner.runtime.instance import curve_of, ranks_together
from planner.scheduling.delay import Delay, Load, StepCurve, predict_delay
from planner.spec.base import Statistic, tail_ratio

if TYPE_CHECKING:
    from planner.runtime.ask import Ask
    from planner.runtime.setup import Setup
    from planner.spec.question import Limit
    from planner.spec.sheet import AnswerSheet, ClassSheet, ServingSheet

KEPT = 0.5
SLACK = 0.1
REFUSED = 4.0
PATIENCE_MS = 60_000.0
BURST_S = 1.0  # of what a provider allows
N_ROUNDS = 40  # to find the planned level; each brings it closer by the pool's utilisation

IDLE = Load()
_NORMAL_QUANTILE = {"mean": 0.0, "p50": 0.0, "p90": 1.2816, "p95": 1.6449, "p99": 2.3263}


class Excess(NamedTuple):
    """How much longer things take than on an idle instance: x, or x'."""

    ttft_ms: float
    tpot_ms: float


class Bound(NamedTuple):
    """How far ttft x_ttft + tpot x_tpot may go: to room_ms; where its mean is too much, kept_ms."""

    ttft: float
    tpot: float
    room_ms: float
    kept_ms: float
    mean_ms: float

    def overflow_ms(self, now: Excess, mean: Excess) -> float:
        """Returns by how much it is exceeded, at most 0 where it is not."""
        ttft, tpot, room_ms, kept_ms, mean_ms = self  # as `_of`, twice for every request
        is_pressed = ttft * mean[0] + tpot * mean[1] > mean_ms
        return ttft * now[0] + tpot * now[1] - (kept_ms if is_pressed else room_ms)

    def late(self, now: Excess) -> Excess:
        """Returns what a request counts as that is turned away: as one that is far too late."""
        missing_ms = max(REFUSED * self.room_ms - self._of(now), 0.0)
        if self.ttft:
            return Excess(now.ttft_ms + missing_ms, now.tpot_ms)
        return Excess(now.ttft_ms, now.tpot_ms + missing_ms)

    def _of(self, excess: Excess) -> float:
        return self.ttft * excess.ttft_ms + self.tpot * excess.tpot_ms


class _User(NamedTuple):
    """A class that uses a pool."""

    sheet: ClassSheet
    part: float  # w_c


class Promises:
    """The bounds of every pool, for requests of any class and priority."""

    def __init__(self, setup: Setup, sheet: ServingSheet) -> None:
        """Reads who uses which pool from the routes, and what was promised from the sheet."""
        self._sheet, self._n_workers = sheet, setup.options.n_workers
        servers = setup.servers()
        together = {
            name: ranks_together(pool, servers.get(name, ())) for name, pool in sheet.pools.items()
        }
        self.curves = {name: curve_of(pool, together[name]) for name, pool in sheet.pools.items()}
        self.users = _users(setup, sheet)
        self.levels: dict[str, tuple[Load, Load]] = {
            name: _levels(
                pool.n_replicas * pool.n_ranks // together[name],
                self.curves[name],
                name,
                self.users[name],
            )
            for name, pool in sheet.pools.items()
        }
        """Of one instance of each pool: at the planned rates, and at a peak of them."""

    def bounds(self, pool: str, class_name: str | None, priority: int) -> Iterator[Bound]:
        """Yields what a request may add on a pool; at least one bound, that of patience."""
        sheet, users = self._sheet.pools[pool], self.users[pool]
        above = {u.sheet.priority for u in users.values() if u.sheet.priority > priority}
        yield _always(PATIENCE_MS * KEPT ** len(above))
        if sheet.max_rps is not None:
            yield _always(1e3 * BURST_S * KEPT ** len(above))
        for name, user in users.items():
            if name == class_name or user.sheet.priority >= priority:
                theta = KEPT ** sum(each <= user.sheet.priority for each in above)
                views = _views(user.sheet, pool, self.curves[pool], self.levels[pool])
                yield from _promises(self._sheet, user.sheet, views, theta)

    def __contains__(self, pool: str) -> bool:
        """Returns whether the plan knows a pool."""
        return pool in self.curves

    def has_capacity_only(self, pool: str) -> bool:
        """Returns whether no latency model tells what requests wait for on a pool."""
        return self.curves[pool] is None or self._sheet.pools[pool].max_rps is not None

    def work_s(self, pool: str, ask: Ask, n_up: int) -> float | None:
        """Returns how long the part of n_up servers that is this worker's works on a request.

        None: nobody knows.
        """
        sheet = self._sheet.pools[pool]
        if sheet.max_rps is not None:
            return self._n_workers / sheet.max_rps
        answer = self._answer(pool, ask.class_name)
        if answer is None:
            return None
        size = ask.size_at(pool)
        work_s = (
            answer.work_s
            + (size.input_tokens - answer.input_tokens) * answer.work_s_per_input_token
            + (size.output_tokens - answer.output_tokens) * answer.work_s_per_output_token
        )
        return max(work_s, 0.0) * self._n_workers / (n_up * sheet.max_load_ratio)

    def _answer(self, pool: str, class_name: str | None) -> AnswerSheet | None:
        """Returns what a class's answers are like there; of an unknown one the first's."""
        known = self._sheet.classes
        if class_name in known and pool in known[class_name].answers:
            return known[class_name].answers[pool]
        return next((user.sheet.answers[pool] for user in self.users[pool].values()), None)


def _users(setup: Setup, sheet: ServingSheet) -> dict[str, dict[str, _User]]:
    """Returns, by pool, the classes that the plan sends there, and which part of each."""
    users: dict[str, dict[str, _User]] = {pool: {} for pool in sheet.pools}
    for name, each in sheet.classes.items():
        parts: dict[str, float] = {}
        for entry in setup.routes.classes.get(name, ()):
            parts[entry.pool] = parts.get(entry.pool, 0.0) + entry.share
        for cascade in setup.routes.cascades.get(name, ()):
            stages = ((cascade.first, 1.0), (cascade.second, cascade.escalated_ratio))
            for entries, ratio in stages:
                for entry in entries:
                    part = cascade.share * ratio * entry.share
                    parts[entry.pool] = parts.get(entry.pool, 0.0) + part
        for pool, part in parts.items():
            if pool in each.answers and pool in users:
                users[pool][name] = _User(each, part)
    return users


def _levels(
    n_instances: int, curve: StepCurve | None, pool: str, users: Mapping[str, _User]
) -> tuple[Load, Load]:
    """Returns the load of one instance at the planned rates, and at a peak of them."""
    if curve is None or curve.is_fixed:
        return IDLE, IDLE
    per_ms = 1e-3 / n_instances
    load = IDLE
    for _ in range(N_ROUNDS):
        n = decode_tokens = kv_tokens = prefill_ratio = 0.0
        for user, part in users.values():
            answer, rate = user.answers[pool], user.rate_rps * part * per_ms
            there = rate * _mean_request(user, pool, curve, load).e2e_ms
            n += there
            decode_tokens += there * 0.5 * answer.output_tokens
            kv_tokens += there * (answer.input_tokens + 0.5 * answer.output_tokens)
            fresh = answer.input_tokens * (1.0 - user.cached_input_ratio)
            prefill_ratio += rate * fresh * curve.prompt_token_ms
        load = _at_most(Load(n, 0.0, 0.0, decode_tokens, kv_tokens, 1.0, n, prefill_ratio), curve)
    peak = 1.0 + 3.0 / sqrt(max(load.n_running, 1e-9))
    busier = Load(
        load.n_running * peak,
        0.0,
        0.0,
        load.decode_tokens * peak,
        load.kv_tokens * peak,
        1.0,
        load.usual_running * peak,
        load.prefill_ratio,
    )
    return load, _at_most(busier, curve)


def _at_most(load: Load, curve: StepCurve) -> Load:
    """Returns the load, cut to one with a place left: waits are another matter."""
    ratio = min((curve.max_num_seqs - 1.0) / max(load.n_running, 1e-9), 1.0)
    return Load(
        load.n_running * ratio,
        0.0,
        0.0,
        load.decode_tokens * ratio,
        load.kv_tokens * ratio,
        1.0,
        load.usual_running * ratio,
        load.prefill_ratio,
    )


def _mean_request(user: ClassSheet, pool: str, curve: StepCurve, load: Load) -> Delay:
    answer = user.answers[pool]
    fresh = answer.input_tokens * (1.0 - user.cached_input_ratio)
    return predict_delay(curve, load, fresh, answer.input_tokens, answer.output_tokens)


def _always(room_ms: float) -> Bound:
    """Returns the bound of a wait that is the same however things are."""
    return Bound(1.0, 0.0, room_ms, room_ms, 0.0)


class _Views(NamedTuple):
    """A mean request of a class on a pool."""

    idle: Delay
    planned: Delay
    peak: Delay
    later_tokens: float  # o - 1
    end_ms: float  # t


def _views(
    user: ClassSheet, pool: str, curve: StepCurve | None, levels: tuple[Load, Load]
) -> _Views:
    answer = user.answers[pool]
    later = max(answer.output_tokens - 1.0, 0.0)
    if curve is None:  # a capacity is all that is known: a request takes its work
        idle = Delay(0.0, 0.0, 0.0, 1e3 * answer.work_s, 0.0)
        return _Views(idle, idle, idle, later, 0.0)
    idle, planned, peak = (
        _mean_request(user, pool, curve, load) for load in (IDLE, levels[0], levels[1])
    )
    if curve.is_fixed:
        return _Views(idle, planned, peak, later, 0.0)
    places = float(curve.max_num_seqs)
    context = places * (answer.input_tokens + 0.5 * answer.output_tokens)
    end_ms = answer.output_tokens * curve.step_ms(places, context) / places
    return _Views(idle, planned, peak, later, end_ms)


def _promises(
    sheet: ServingSheet, user: ClassSheet, views: _Views, theta: float
) -> Iterator[Bound]:
    """Yields what the limits of a class leave to requests that may use theta of the room."""
    for limit in (*user.limits, *sheet.limits):
        idle_ms = _of(limit, views.idle)
        level_ms, peak_ms = (_of(limit, each) - idle_ms for each in (views.planned, views.peak))
        room_ms = limit.at_most_ms - idle_ms
        if room_ms <= 0.0:
            continue
        if limit.metric == "ttft":
            in_time_ms = _in_time(room_ms, limit.statistic, views.end_ms)
            kept_ms, calm_ms = theta * in_time_ms, room_ms if theta == 1.0 else in_time_ms
            mean_ms = min(_part(limit.statistic) * room_ms, in_time_ms)
        else:
            planned_ms = _planned_ms(sheet, user, limit) or level_ms + idle_ms
            more_ms = max(limit.at_most_ms - planned_ms, SLACK * room_ms)
            kept_ms, calm_ms = min(level_ms + theta * more_ms, room_ms), room_ms
            mean_ms = peak_ms + 0.5 * more_ms
        tpot = {"ttft": 0.0, "tpot": 1.0, "e2e": views.later_tokens}[limit.metric]
        yield Bound(float(limit.metric != "tpot"), tpot, calm_ms, kept_ms, mean_ms)


def _of(limit: Limit, delay: Delay) -> float:
    """Returns the metric that is limited, ms."""
    return {"ttft": delay.ttft_ms, "tpot": delay.tpot_ms, "e2e": delay.e2e_ms}[limit.metric]


def _in_time(room_ms: float, statistic: Statistic, end_ms: float) -> float:
    """Returns y with y + z sqrt(t y) = room, ms."""
    spread = _NORMAL_QUANTILE[statistic] * sqrt(end_ms)
    return (0.5 * (sqrt(spread * spread + 4.0 * room_ms) - spread)) ** 2


def _part(statistic: Statistic) -> float:
    """Returns the mean of waits that just meet a limit, over the room; 1/2 for mean and p50."""
    tail = tail_ratio(statistic)
    return 0.5 if tail is None or tail >= 0.5 else 1.0 / log(1.0 / tail)


def _planned_ms(sheet: ServingSheet, user: ClassSheet, limit: Limit) -> float | None:
    """Returns what the plan predicts of what is limited, of the class, else of all traffic."""
    for latency in (*user.latency, *sheet.latency):
        if (latency.metric, latency.statistic) == (limit.metric, limit.statistic):
            return latency.ms
    return None
