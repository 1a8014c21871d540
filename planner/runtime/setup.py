"""All that a runtime is set up with, as one value that a reload replaces whole.

A setup is judged before any of it is used: whoever serves already goes on with the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.errors import Fault
from planner.runtime.signals import ANSWERED, SIGNALS
from planner.spec.endpoints import Server
from planner.spec.plan import PeriodRoutes, Routes

if TYPE_CHECKING:
    from planner.quality.graders import Kind
    from planner.spec.router import Router
    from planner.spec.sheet import ServingSheet


_ROUTES, _SHEET, _ENDPOINTS, _ROUTER = "routes.json", "serving.json", "endpoints.yaml", "router.npz"
_PLAN_AGAIN = "make both anew with: rb plan DIR"


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve, as the command line says it."""

    policy: str = "least_delay"  # among the instances of a pool
    rank_policy: str = "least_kv"  # among the data-parallel ranks of an instance
    route_by: str = "shares"  # shares, prices, or routebalance:PRESET
    shadow: bool = False  # decide and report, but send each request where it asked to go
    admission: bool = True
    max_tries: int = 3  # instances that one request may be sent to, in each stage of a cascade
    connect_timeout_s: float = 2.0
    first_token_timeout_s: float = 120.0
    answer_timeout_s: float = 600.0  # for the first byte of one that comes whole
    idle_timeout_s: float = 60.0  # between two chunks of an answer
    n_workers: int = 1  # that share the traffic: of what the plan allows each has its part
    request_prefix: str = "rb-"  # of the ids of requests that bring none; differs by worker
    answered_by: Kind | None = None  # the grader whose signal "answered" the cascades use


@dataclass(frozen=True, slots=True)
class Setup:
    """A plan, where its pools are, and how it is to be served."""

    routes: Routes
    endpoints: Mapping[str, tuple[Server, ...]]  # by pool, or by model where it has one pool
    sheet: ServingSheet | None = None
    models: Mapping[str, str] = field(default_factory=dict)  # by pool; needed without a sheet only
    keys: Mapping[str, str] = field(default_factory=dict)  # by environment variable
    router: Router | None = None
    options: Options = Options()

    def model_of(self, pool: str) -> str:
        """Returns the name of the model that a pool serves; the pool's own where nobody told."""
        if self.sheet is not None and pool in self.sheet.pools:
            return self.sheet.pools[pool].model_name
        return self.models.get(pool, pool)

    def scored_as(self, pool: str) -> str:
        """Returns the name of a pool's model in the router and the prices of models."""
        if self.sheet is not None and pool in self.sheet.pools:
            return self.sheet.pools[pool].scored_as
        return self.model_of(pool)

    def servers(self) -> dict[str, tuple[Server, ...]]:
        """Returns where each pool is served, by its own name or by that of its model."""
        return {
            pool: self.endpoints.get(pool) or self.endpoints.get(self.model_of(pool), ())
            for pool in self.pools
        }

    @property
    def pools(self) -> tuple[str, ...]:
        """Returns the pools that may get requests, as the routes and the sheet name them."""
        named: dict[str, None] = {}
        for _, table in _tables(self):
            for entries in table.classes.values():
                named.update(dict.fromkeys(entry.pool for entry in entries))
            for cascades in table.cascades.values():
                for each in cascades:
                    named.update(dict.fromkeys(e.pool for e in (*each.first, *each.second)))
            for pools in table.fallback.values():
                named.update(dict.fromkeys(pools))
        return tuple(named | dict.fromkeys(self.sheet.pools if self.sheet else ()))


def setup_faults(setup: Setup) -> list[Fault]:
    """Returns every reason why a setup cannot be served; none: it can."""
    parts = (_of_endpoints, _of_sheet, _of_shares, _of_cascades, _of_options, _of_router)
    return [fault for part in parts for fault in part(setup)]


def _of_endpoints(setup: Setup) -> Iterator[Fault]:
    pools = setup.pools
    members: dict[str, list[str]] = {}
    for pool in pools:
        members.setdefault(setup.model_of(pool), []).append(pool)
    for pool, servers in setup.servers().items():
        if not servers:
            fix = f"write '{pool}: http://HOST:PORT', or a list of its replicas"
            yield Fault(_ENDPOINTS, pool, "has no server, and the plan sends requests there", fix)
    for name in setup.endpoints:
        if name in pools:
            continue
        if name not in members:
            fix = f"take it out; the plan has the pools {', '.join(pools)}"
            yield Fault(_ENDPOINTS, name, "is no pool and no model of the plan", fix)
        elif len(members[name]) > 1:
            what = f"is the model of several pools: {', '.join(members[name])}"
            yield Fault(_ENDPOINTS, name, what, "list the servers of each pool by its own name")


def _of_sheet(setup: Setup) -> Iterator[Fault]:
    sheet, plan_hash = setup.sheet, setup.routes.plan_hash
    if sheet is not None and sheet.plan_hash != plan_hash:
        what = f"is of the plan {sheet.plan_hash[:12]}, and {_ROUTES} of {plan_hash[:12]}"
        yield Fault(_SHEET, "plan_hash", what, _PLAN_AGAIN)


def _tables(setup: Setup) -> Iterator[tuple[str, Routes | PeriodRoutes]]:
    """Yields the routes of every period, and where they stand in the file."""
    yield "", setup.routes
    for i, period in enumerate(setup.routes.periods):
        yield f"periods[{i}].", period


def _of_shares(setup: Setup) -> Iterator[Fault]:
    for at, table in _tables(setup):
        if not table.classes:
            yield Fault(_ROUTES, f"{at}classes", "names no class", _PLAN_AGAIN)
        for name, entries in table.classes.items():
            asked = table.cascades.get(name, ())
            if not any((*(e.share for e in entries), *(c.share for c in asked))):
                what = "no pool and no cascade has a share above 0"
                yield Fault(_ROUTES, f"{at}classes.{name}", what, _PLAN_AGAIN)
            for i, each in enumerate(asked):
                for stage, pools in (("first", each.first), ("second", each.second)):
                    if not any(entry.share > 0.0 for entry in pools):
                        place = f"{at}cascades.{name}[{i}].{stage}"
                        yield Fault(_ROUTES, place, "no pool has a share above 0", _PLAN_AGAIN)


def _of_cascades(setup: Setup) -> Iterator[Fault]:
    for at, table in _tables(setup):
        for name, entries in table.cascades.items():
            for i, each in enumerate(entries):
                place = f"{at}cascades.{name}[{i}].signal"
                if each.signal not in SIGNALS:
                    what = f"{each.signal} cannot be had from one answer while it is served"
                    fix = f"plan with cascades on {', '.join(SIGNALS)} only"
                    yield Fault(_ROUTES, place, what, fix)
                elif each.signal == ANSWERED and setup.options.answered_by is None:
                    what = "answered is what the grader of the scores says, and that is not known"
                    yield Fault(_ROUTES, place, what, "name the grader with --answered-by")


def _of_options(setup: Setup) -> Iterator[Fault]:
    from planner.runtime.ranks import RANK_POLICIES
    from planner.scheduling.least_delay import NAMES

    options, route_by = setup.options, setup.options.route_by
    if options.policy not in NAMES:
        known = ", ".join(NAMES)
        yield Fault("--policy", "", f"there is no policy {options.policy!r}", f"one of {known}")
    if options.rank_policy not in RANK_POLICIES:
        what = f"there is no policy {options.rank_policy!r}"
        yield Fault("--rank-policy", "", what, f"one of {', '.join(RANK_POLICIES)}")
    if options.max_tries < 1:
        yield Fault("--max-tries", "", f"must be at least 1, got {options.max_tries}", "3")
    if route_by == "shares":
        return
    kind, _, preset = route_by.partition(":")
    presets = _presets()
    if route_by != "prices" and (kind != "routebalance" or preset not in presets):
        ways = ["shares", "prices", *(f"routebalance:{name}" for name in presets)]
        fix = f"one of {', '.join(ways)}"
        yield Fault("--route-by", "", f"there is no way {route_by!r}", fix)
        return
    if setup.sheet is None:
        what = f"{route_by} needs {_SHEET}, which the plan folder lacks"
        yield Fault("--route-by", "", what, "make it with: rb plan DIR")
    if route_by == "prices" and setup.router is None:
        yield Fault(
            "--route-by", "", f"prices needs {_ROUTER}", "make it with: rb router train DIR"
        )
    if route_by == "prices" and not setup.routes.model_prices:
        what = "the plan has no prices of models: its router may not choose by the prompt"
        yield Fault(_ROUTES, "model_prices", what, "serve it by shares, or see `rb router eval`")


def _presets() -> tuple[str, ...]:
    from planner.scheduling.routebalance import PRESETS

    return tuple(PRESETS)


def _of_router(setup: Setup) -> Iterator[Fault]:
    router = setup.router
    if router is None:
        return
    known = set(router.class_names)
    if not known & set(setup.routes.classes):
        what = f"knows the classes {', '.join(sorted(known))}, none of which the plan has"
        yield Fault(_ROUTER, "class_names", what, "train it again: rb router train DIR")
    if setup.options.route_by != "shares":
        models = {setup.scored_as(pool) for pool in setup.pools}
        missing = sorted(models - set(router.model_names))
        if missing:
            what = f"was trained without {', '.join(missing)}, which the plan deploys"
            yield Fault(_ROUTER, "model_names", what, "train it again: rb router train DIR")
