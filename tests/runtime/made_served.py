"""Requests that have ended, written down."""

from __future__ import annotations

from planner.runtime.metrics import InstanceState, Meter, Report
from planner.runtime.served import Served
from planner.runtime.status import Planned
from planner.spec.question import Limit

ANSWERED = Served(
    request_id="r-1",
    operation="chat",
    class_name="math",
    asked_model="rb/auto",
    model_name="small",
    pool="small-l40s",
    instance="small-l40s/0",
    outcome="ok",
    why="",
    status=200,
    started_s=100.0,
    ttft_s=0.25,
    e2e_s=1.25,
    n_input=30,
    n_output=11,
    usage_known=True,
    n_tries=1,
    failed_tries=(),
    cascade=None,
    escalated=False,
    streamed=True,
    decision_s=1e-5,
)


def served(**changes: object) -> Served:
    """Returns a streamed answer of 11 tokens in 1.25 s, the first after 0.25 s, with changes."""
    return ANSWERED._replace(**changes)


def report(*records: Served, worker: int = 0, limits: tuple[tuple[str, float], ...] = ()) -> Report:
    """Returns what a worker tells that has served some requests since 100 s on the loop's clock."""
    meter = Meter(limits, now_s=100.0)
    for record in records:
        meter(record)
    recent, recent_s = meter.recent(130.0)
    return Report(
        worker=worker,
        plan_hash="ab" * 32,
        started_s=999_000.0,
        counted_from_s=1_000_000.0,
        scraped_s=1_000_030.0,
        bounds=meter.bounds,
        total=meter.total(),
        recent=recent,
        recent_s=recent_s,
        instances=[state("small-l40s/0"), state("big-h100/0", up=False, state="ejected")],
        prices={"small": 0.25},
    )


def state(instance: str, **changes: object) -> InstanceState:
    """Returns an instance that is up and has 2 of this worker's requests, with changes."""
    pool = instance.partition("/")[0]
    told = {"pool": pool, "instance": instance, "state": "up", "up": True, "n_running": 3.0}
    counts = {"n_waiting": 1.0, "n_in_flight": 2, "predicted_delay_s": 0.5}
    return InstanceState(**{**told, **counts, **changes})


def planned(**limits: tuple[Limit, ...]) -> Planned:
    """Returns what a plan of two classes says; limits by class, those of all traffic under ALL."""
    return Planned(
        plan_hash="ab" * 32,
        title="Two classes",
        shares={
            ("math", "small-l40s"): 0.75,
            ("math", "big-h100"): 0.25,
            ("code", "big-h100"): 1.0,
        },
        rates_rps={"math": 4.0, "code": 1.0},
        limits={"": limits.pop("ALL", ()), **limits},
        predicted_ms={("math", "ttft", "p95"): 280.0},
    )
