"""Where requests go by the plan: one book of routes for each period, and who is asked by name.

    rb/auto       by the plan's shares for the request's class
    rb/CLASS      the same, with the class declared
    MODEL         the pools of that model, in turn by their planned rates
    POOL          that pool

A request of which nothing tells the class goes by the shares of all traffic: each class's shares,
weighted by its planned rate. Everyone who has something to share out keeps whole counts of what it
gave to whom (scheduling/table.py), so that short windows are right too.

Where the pool of a request's turn has nobody to take it, the others of its class's fallback order
are tried, without those that the class may not use. A cascade is not played then: who takes over
answers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from planner.runtime.setup import Setup
from planner.runtime.signals import MEAN_LOGPROB, Test
from planner.scheduling.table import ALONE, RoutingTable, Turns
from planner.spec.plan import CascadeEntry, PeriodRoutes, Routes, WeightedPool

AUTO, PREFIX = "rb/auto", "rb/"
_UNKNOWN = ""  # in tables by class: of a request whose class nothing tells


class Cascade(NamedTuple):
    """A cascade that a request takes."""

    class_key: str
    place: int  # in the routes of its class
    label: str  # "small, then large"
    test: Test
    quality: float  # planned, of the answers of both stages
    second: str  # the pool that gives most of the second answers

    @property
    def needs_logprobs(self) -> bool:
        """Returns whether the first answer must tell the log-probabilities of its tokens."""
        return self.test.signal == MEAN_LOGPROB


class Path(NamedTuple):
    """Where a request goes: pools in the order in which they are to be tried."""

    pools: tuple[str, ...]
    cascade: Cascade | None = None  # its first stage is the first of the pools

    @property
    def stages(self) -> tuple[str, ...]:
        """Returns the pools of the answers that it may take, one after the other."""
        first, cascade = self.pools[0], self.cascade
        return (first,) if cascade is None else (first, cascade.second)


class Book:
    """The routes of one period."""

    def __init__(self, setup: Setup, routes: Routes | PeriodRoutes) -> None:
        classes, cascades, fallback = _with_unknown(setup, routes)
        whole = setup.routes.model_copy(
            update={"classes": classes, "cascades": cascades, "fallback": fallback, "periods": ()}
        )
        self._table = RoutingTable(whole)
        self._pools: dict[str, tuple[str, ...]] = {}
        self._paths: dict[tuple[str, str, int], Path] = {}
        self._seconds: dict[tuple[str, int, str], tuple[str, ...]] = {}
        for name, entries in classes.items():
            asked = cascades.get(name, ())
            order = _order(setup, name, entries, asked, fallback.get(name, ()))
            self._pools[name] = order
            for entry in entries:
                self._paths[name, entry.pool, ALONE] = Path(_first(entry.pool, order))
            for place, each in enumerate(asked):
                self._add_cascade(setup, name, place, each, order)

    def _add_cascade(
        self, setup: Setup, name: str, place: int, each: CascadeEntry, order: tuple[str, ...]
    ) -> None:
        models = (setup.model_of(stage[0].pool) for stage in (each.first, each.second))
        test = Test(each.signal, each.below, setup.options.answered_by)
        most = max(each.second, key=lambda entry: entry.share).pool
        cascade = Cascade(name, place, ", then ".join(models), test, each.quality, most)
        for entry in each.first:
            self._paths[name, entry.pool, place] = Path(_first(entry.pool, order), cascade)
        second = tuple(entry.pool for entry in each.second)
        for pool in second:
            self._seconds[name, place, pool] = _first(pool, second)

    def path(self, class_name: str | None) -> Path:
        """Returns where the next request of a class goes, and counts it; None: class unknown."""
        key = self._key(class_name)
        way = self._table.pick_way(key)
        return self._paths[key, way.pool, way.cascade]

    def pools(self, class_name: str | None) -> tuple[str, ...]:
        """Returns every pool that may answer a class, in its fallback order."""
        return self._pools[self._key(class_name)]

    @property
    def pools_by_class(self) -> Mapping[str, tuple[str, ...]]:
        """Returns `pools` of each class of the plan."""
        return {name: pools for name, pools in self._pools.items() if name != _UNKNOWN}

    def _key(self, class_name: str | None) -> str:
        return class_name if class_name is not None and class_name in self._pools else _UNKNOWN

    def second(self, cascade: Cascade) -> tuple[str, ...]:
        """Returns the pools for a request that a cascade sends on, and counts it."""
        pool = self._table.pick_second(cascade.class_key, cascade.place)
        return self._seconds[cascade.class_key, cascade.place, pool]


class Books:
    """The books of all periods, of which one is in force."""

    def __init__(self, setup: Setup) -> None:
        periods = setup.routes.periods
        self._spans = [(p.start_h, p.end_h, Book(setup, p)) for p in periods]
        self._round_h = max((p.end_h for p in periods), default=0.0)
        self._whole = None if periods else Book(setup, setup.routes)

    @property
    def has_periods(self) -> bool:
        """Returns whether the hour matters."""
        return self._whole is None

    def at(self, hour: float) -> Book:
        """Returns the book in force at an hour, counted from the first of any round."""
        if self._whole is not None:
            return self._whole
        since = hour % self._round_h
        return next((b for start, end, b in self._spans if start <= since < end), self._spans[0][2])


class Names:
    """The models that a client may ask for."""

    def __init__(self, setup: Setup) -> None:
        self.class_names = tuple(setup.routes.classes)
        rates = _planned_rates(setup)
        members: dict[str, list[str]] = {}
        for pool in setup.pools:
            members.setdefault(setup.model_of(pool), []).append(pool)
        self._groups = {pool: _Group([pool], rates) for pool in setup.pools}
        self._groups |= {model: _Group(pools, rates) for model, pools in members.items()}

    def class_of(self, model: str) -> str | None:
        """Returns the class that a name declares, e.g. rb/chat."""
        name = model.removeprefix(PREFIX)
        return name if model.startswith(PREFIX) and name in self.class_names else None

    def is_auto(self, model: str) -> bool:
        """Returns whether a name leaves it to the plan who answers."""
        return model == AUTO or self.class_of(model) is not None

    def path(self, model: str) -> Path | None:
        """Returns where the next request for a model or a pool goes; None: no such name."""
        group = self._groups.get(model)
        return None if group is None else group.next()

    @property
    def all(self) -> tuple[str, ...]:
        """Returns every name, the plan's own first."""
        return (AUTO, *(PREFIX + name for name in self.class_names), *self._groups)


class _Group:
    """The pools of one name, and whose turn it is."""

    def __init__(self, pools: Sequence[str], rates: Mapping[str, float]) -> None:
        total = sum(rates[pool] for pool in pools)
        shares = [rates[p] / total if total > 0.0 else 1.0 / len(pools) for p in pools]
        self._turns = Turns(shares)
        self._paths = [Path(_first(pool, pools)) for pool in pools]

    def next(self) -> Path:
        return self._paths[self._turns.next()]


def class_rates(setup: Setup) -> dict[str, float]:
    """Returns the planned rate of each class of the routes, req/s; 1 each where nobody knows."""
    known = {} if setup.sheet is None else setup.sheet.classes
    rates = {name: known[name].rate_rps if name in known else 0.0 for name in setup.routes.classes}
    return rates if sum(rates.values()) > 0.0 else dict.fromkeys(rates, 1.0)


def _planned_rates(setup: Setup) -> dict[str, float]:
    """Returns the planned rate of each pool; without a sheet, the number of its servers."""
    if setup.sheet is None:
        return {pool: float(len(servers)) for pool, servers in setup.servers().items()}
    known = setup.sheet.pools
    return {p: known[p].rate_rps if p in known else 0.0 for p in setup.pools}


_Tables = tuple[
    dict[str, tuple[WeightedPool, ...]],
    dict[str, tuple[CascadeEntry, ...]],
    dict[str, tuple[str, ...]],
]


def _with_unknown(setup: Setup, routes: Routes | PeriodRoutes) -> _Tables:
    """Returns shares, cascades and fallback by class, with those of an unknown class."""
    rates = class_rates(setup)
    total = sum(rates.get(name, 0.0) for name in routes.classes)
    shares: dict[str, float] = {}
    asked: list[CascadeEntry] = []
    for name, entries in routes.classes.items():
        weight = rates.get(name, 0.0) / total if total > 0.0 else 1.0 / len(routes.classes)
        for entry in entries:
            shares[entry.pool] = shares.get(entry.pool, 0.0) + weight * entry.share
        own = routes.cascades.get(name, ())
        asked += [each.model_copy(update={"share": weight * each.share}) for each in own]
    mixed = tuple(
        WeightedPool.model_construct(pool=pool, share=share) for pool, share in shares.items()
    )
    by_share = sorted(shares, key=lambda pool: -shares[pool])
    others = (pool for pools in routes.fallback.values() for pool in pools)
    return (
        {**routes.classes, _UNKNOWN: mixed},
        {**routes.cascades, _UNKNOWN: tuple(asked)},
        {**routes.fallback, _UNKNOWN: tuple(dict.fromkeys((*by_share, *others)))},
    )


def _order(
    setup: Setup,
    name: str,
    entries: Iterable[WeightedPool],
    cascades: Iterable[CascadeEntry],
    fallback: Iterable[str],
) -> tuple[str, ...]:
    """Returns the pools that a class may use: its fallback order, then what its routes name."""
    stages = (each for cascade in cascades for each in (*cascade.second, *cascade.first))
    own = dict.fromkeys(entry.pool for entry in (*entries, *stages))
    known = None if setup.sheet is None else setup.sheet.classes.get(name)
    others = (p for p in fallback if p in own or known is None or p in known.answers)
    return tuple(dict.fromkeys((*others, *own)))


def _first(pool: str, pools: Iterable[str]) -> tuple[str, ...]:
    """Returns pools with one of them moved to the front."""
    return (pool, *(other for other in pools if other != pool))
