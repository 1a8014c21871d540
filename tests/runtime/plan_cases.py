"""Plans to serve: four models on thirteen instances, two classes, with a cascade or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleets import HASH, class_sheet, pool_sheet, servers, sheet_of

from planner.runtime.ask import Headers, Refusal
from planner.runtime.body import Call, read_call
from planner.runtime.dispatch import Dispatcher
from planner.runtime.served import Served, Usage
from planner.runtime.setup import Options, Setup
from planner.runtime.ticket import Ticket
from planner.spec.plan import CascadeEntry, Routes, WeightedPool
from planner.spec.sheet import AnswerSheet, ClassSheet, ServingSheet

SHORT = Usage(10, 20)
CHAT = "/v1/chat/completions"
REPLICAS = {"3b-a30": 3, "7b-a30": 5, "14b-v100": 3, "72b-a100": 2}
MODEL_OF = {pool: "qwen-" + pool.partition("-")[0] for pool in REPLICAS}
QUALITY = {"3b-a30": 0.4, "7b-a30": 0.5, "14b-v100": 0.6, "72b-a100": 0.8}
USD_PER_H = {"3b-a30": 0.3, "7b-a30": 0.5, "14b-v100": 2.0, "72b-a100": 8.0}
SHARES = {
    "chat": {"3b-a30": 0.553121, "7b-a30": 0.310007, "14b-v100": 0.136872},
    "math": {"14b-v100": 0.25, "72b-a100": 0.75},
}
RATES = {"chat": 9.0, "math": 3.0}
FALLBACK = {
    "chat": ("3b-a30", "7b-a30", "14b-v100", "72b-a100"),
    "math": ("72b-a100", "14b-v100", "7b-a30", "3b-a30"),
}
MAY_USE = {"chat": tuple(REPLICAS), "math": ("14b-v100", "72b-a100", "7b-a30")}


def weighted(shares: Mapping[str, float]) -> tuple[WeightedPool, ...]:
    """These shares as routes hold them."""
    return tuple(WeightedPool(pool=pool, share=share) for pool, share in shares.items())


def cascade(
    first: str = "3b-a30",
    second: str = "72b-a100",
    share: float = 1.0,
    signal: str = "length",
    below: float = -100.0,
) -> CascadeEntry:
    """A cascade of two pools."""
    return CascadeEntry(
        share=share,
        signal=signal,
        below=below,
        escalated_ratio=0.3,
        quality=0.7,
        first=weighted({first: 1.0}),
        second=weighted({second: 1.0}),
    )


def routes(
    shares: Mapping[str, Mapping[str, float]] = SHARES,
    cascades: Mapping[str, Sequence[CascadeEntry]] | None = None,
    **more: object,
) -> Routes:
    """Routes of the plan."""
    return Routes(
        classes={name: weighted(each) for name, each in shares.items()},
        cascades={name: tuple(each) for name, each in (cascades or {}).items()},
        load_prices={},
        fallback={name: FALLBACK[name] for name in shares},
        plan_hash=HASH,
        **more,
    )


def sheet() -> ServingSheet:
    """What the plan expects of the four pools and two classes."""
    pools = {
        pool: pool_sheet(
            model_name=MODEL_OF[pool], n_replicas=n, usd_per_h=USD_PER_H[pool], rate_rps=float(n)
        )
        for pool, n in REPLICAS.items()
    }
    return sheet_of(pools, {name: _class(name) for name in SHARES})


def _class(name: str) -> ClassSheet:
    answers = {
        pool: AnswerSheet(
            input_tokens=100.0,
            output_tokens=50.0,
            quality=QUALITY[pool],
            work_s=0.2,
            work_s_per_input_token=1e-4,
            work_s_per_output_token=2e-3,
        )
        for pool in MAY_USE[name]
    }
    priority = 2 if name == "math" else 1
    base = class_sheet(list(answers), priority=priority, rate_rps=RATES[name])
    return base.model_copy(update={"answers": answers})


def endpoints(replicas: Mapping[str, int] = REPLICAS) -> dict[str, tuple]:
    """So many servers of each pool, all at addresses of their own."""
    return {pool: servers(n, 8000 + 100 * k) for k, (pool, n) in enumerate(replicas.items())}


def setup(
    of: Routes | None = None,
    known: ServingSheet | str | None = "plan",
    replicas: Mapping[str, int] = REPLICAS,
    **options: object,
) -> Setup:
    """A setup of the plan; no admission, so that what is refused is refused for its own sake."""
    return Setup(
        routes=of or routes(),
        endpoints=endpoints(replicas),
        sheet=sheet() if known == "plan" else known,
        models=MODEL_OF,
        options=Options(**{"admission": False, **options}),
    )


def call(model: str = "rb/auto", path: str = CHAT, text: str = "what is 2 + 2?") -> Call:
    """A request for a model."""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "{text}"}}]}}'
    read = read_call(path, body.encode())
    assert isinstance(read, Call)
    return read


def headers(**values: object) -> Headers:
    """Headers of ours: rb_class="chat" is x-rb-class: chat."""
    return [(b"x-" + k.replace("_", "-").encode(), str(v).encode()) for k, v in values.items()]


class Site:
    """A dispatcher, what it said of every request, and a clock that stands until it is moved."""

    def __init__(self, of: Setup, **more: object) -> None:
        self.served: list[Served] = []
        self.now_s = 100.0
        self.dispatcher = Dispatcher(of, self.now_s, [self.served.append], **more)

    def begin(self, model: str = "rb/auto", **values: object) -> Ticket:
        """A request that is taken."""
        ticket = self.dispatcher.begin(call(model), headers(**values), self.now_s)
        assert isinstance(ticket, Ticket)
        return ticket

    def refused(self, model: str = "rb/auto", **values: object) -> Refusal:
        """A request that is not taken."""
        refusal = self.dispatcher.begin(call(model), headers(**values), self.now_s)
        assert isinstance(refusal, Refusal)
        return refusal

    def ask(self, model: str = "rb/auto", **values: object) -> Served:
        """A request that is answered at once by whoever gets it."""
        ticket = self.begin(model, **values)
        assert self.dispatcher.next_instance(ticket, self.now_s) is not None
        self.dispatcher.first_token(ticket, self.now_s)
        self.end(ticket)
        return self.served[-1]

    def end(self, ticket: Ticket, usage: Usage | None = SHORT) -> None:
        """Ends a request well."""
        self.dispatcher.ended(ticket, self.now_s, "ok", "", usage, 200)

    def take_down(self, pool: str, n_failures: int = 20) -> None:
        """Lets every server of a pool refuse connections until nobody sends there."""
        fleet = self.dispatcher.fleet
        for instance in fleet.instances:
            if instance.pool == pool:
                for _ in range(n_failures):
                    fleet.failed(instance, self.now_s, "connect")
        assert not fleet.is_up(pool, self.now_s)

    def n_in_flight(self) -> int:
        """How many requests are at the instances, as the fleet sees it."""
        return sum(int(each["n_in_flight"]) for each in self.dispatcher.fleet.status(self.now_s))
