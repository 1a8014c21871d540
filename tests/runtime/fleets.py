"""Small fleets to choose from, and requests whose size is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.runtime.ask import Ask, Size
from planner.runtime.fleet import Fleet
from planner.runtime.setup import Options, Setup
from planner.spec.endpoints import Server
from planner.spec.plan import Routes, WeightedPool
from planner.spec.question import Limit
from planner.spec.sheet import AnswerSheet, ClassSheet, PoolSheet, ServingSheet, StepKnots

HASH = "0" * 64
PLACES = 8


def pool_sheet(**changes: object) -> PoolSheet:
    """A pool whose steps take 10 ms and 0.5 ms per sequence, with 8 places."""
    facts: dict[str, object] = {
        "model_name": "model",
        "n_replicas": 2,
        "usd_per_h": 1.0,
        "max_num_seqs": PLACES,
        "max_num_batched_tokens": 512,
        "kv_capacity_tokens": 100_000.0,
        "steps": StepKnots(n=(0, PLACES), decode_ms=(10.0, 14.0), context_token_ms=(0.0, 1e-5)),
        "prompt_token_ms": 0.1,
        "request_ms": 1.0,
        "low_ratio": 0.9,
        "high_ratio": 1.2,
        "utilisation_ratio": 0.7,
        "max_load_ratio": 1.0,
        "rate_rps": 5.0,
    }
    return PoolSheet(**{**facts, **changes})


def class_sheet(
    pools: Sequence[str],
    priority: int = 1,
    limits: Sequence[Limit] = (),
    rate_rps: float = 5.0,
    input_tokens: float = 100.0,
    output_tokens: float = 50.0,
) -> ClassSheet:
    """A class of one size, which may use some pools."""
    answer = AnswerSheet(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        quality=0.5,
        work_s=0.2,
        work_s_per_input_token=1e-4,
        work_s_per_output_token=2e-3,
    )
    return ClassSheet(
        rate_rps=rate_rps,
        mean_rate_rps=rate_rps,
        priority=priority,
        input_tokens=input_tokens,
        cached_input_ratio=0.0,
        limits=tuple(limits),
        quality=0.5,
        latency=(),
        answers=dict.fromkeys(pools, answer),
    )


def sheet_of(
    pools: Mapping[str, PoolSheet],
    classes: Mapping[str, ClassSheet],
    limits: Sequence[Limit] = (),
) -> ServingSheet:
    """A sheet of these pools and classes."""
    return ServingSheet(
        plan_hash=HASH,
        title="a fleet",
        headroom_ratio=0.1,
        arrivals="poisson",
        arrival_cv=1.0,
        quality=0.5,
        limits=tuple(limits),
        latency=(),
        delay_price_per_s=0.0,
        pools=dict(pools),
        classes=dict(classes),
    )


def routes_of(pools: Sequence[str]) -> Routes:
    """Routes of one class to some pools, in even shares."""
    entries = tuple(WeightedPool(pool=pool, share=1.0 / len(pools)) for pool in pools)
    return Routes(classes={"chat": entries}, load_prices={}, fallback={}, plan_hash=HASH)


def servers(n: int, port: int = 8000, **changes: object) -> tuple[Server, ...]:
    """So many servers, one port each."""
    return tuple(Server(url=f"http://10.0.0.1:{port + k}", **changes) for k in range(n))


def setup_of(
    endpoints: Mapping[str, tuple[Server, ...]],
    sheet: ServingSheet | None = None,
    **options: object,
) -> Setup:
    """A setup of these servers."""
    return Setup(
        routes=routes_of(list(endpoints)),
        endpoints=endpoints,
        sheet=sheet,
        options=Options(**options),
    )


def known_setup(n: int = 3, **options: object) -> Setup:
    """One pool of n servers of which the plan knows how fast they are."""
    sheet = sheet_of({"pool": pool_sheet(n_replicas=n)}, {"chat": class_sheet(["pool"])})
    return setup_of({"pool": servers(n)}, sheet, **options)


def fleet_of(n: int = 3, **options: object) -> Fleet:
    """A fleet of one pool with n servers that the plan knows."""
    return Fleet(known_setup(n, **options), 0.0)


class Sized:
    """Requests of one size at every pool."""

    def __init__(self, input_tokens: float, fresh_tokens: float, output_tokens: float) -> None:
        self._size = Size(input_tokens, fresh_tokens, output_tokens)

    def size(self, ask: Ask, pool: str) -> Size:
        return self._size


def ask(
    input_tokens: float = 100.0,
    output_tokens: float = 50.0,
    *,
    class_name: str | None = "chat",
    priority: int = 1,
    session: int | None = None,
    deadline_ms: float | None = None,
) -> Ask:
    """A request of a known size."""
    return Ask(
        class_name=class_name,
        priority=priority,
        session=session,
        deadline_ms=deadline_ms,
        quality_at_least=None,
        budget_usd=None,
        prompt_tokens=input_tokens,
        max_tokens=None,
        sizes=Sized(input_tokens, input_tokens, output_tokens),
    )
