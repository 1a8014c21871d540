"""How sure the plan is: what is proved, what was simulated, what to measure first."""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.figures import count, number, percent, quality, usd
from planner.report.page.markup import Html, element, joined
from planner.report.page.origins import marked
from planner.report.page.parts import Column, Section, bullets, note, table, unfolding
from planner.report.page.subject import Subject
from planner.report.page.words import bound_sentence
from planner.spec.plan import Learned, Plan, Simulated, ToMeasure
from planner.spec.whole import proof_of


def surety_section(subject: Subject) -> Section:
    """Returns what the plan's promises rest on."""
    plan = subject.plan
    body = joined(
        element("h3", "Proved"),
        bullets(_proved(plan)),
        element("h3", "Simulated"),
        bullets(_simulated(plan)),
        _pools(plan.simulated) if plan.simulated else None,
        _learned(plan.learned),
        _measure_first(plan.measure_first),
    )
    lead = (
        "A proof speaks of the fitted tables, a simulation of a model of the engine: neither is "
        "the world."
    )
    return Section("surety", "How sure it is", lead, body)


def _proved(plan: Plan) -> Iterator[str]:
    bound = proof_of(plan)
    if bound is None:
        yield "Nothing is proved of how close this plan is to the best."
        return
    mean = "" if plan.periods is None else " on average"
    yield f"{bound_sentence(bound, mean)} By {bound.method}."
    yield (
        "It is a proof about the fitted tables at the plan's own mix, not about the world: what "
        "the measurements miss, no proof can see."
    )
    if plan.predicted.mix_shift_ratio > 0.005:
        shift = percent(plan.predicted.mix_shift_ratio)
        yield f"Class mixes at the pools differ by {shift} from those of the tables."


def _simulated(plan: Plan) -> Iterator[str]:
    tried = plan.simulated
    if tried is None:
        yield "This plan was not simulated: try it with rb simulate."
        return
    runs = count(len(tried.seeds), "run")
    each, before = f"{tried.duration_s / 60:.3g}", f"{tried.counted_from_s / 60:.3g}"
    yield (
        f"{tried.n_requests:,} requests in {runs} of {each} min each, after {before} min to "
        f"settle; {tried.balance.replace('_', ' ')} between replicas."
    )
    low, high = number(tried.goodput_low_rps), number(tried.goodput_high_rps)
    of = percent(tried.goodput_rps / tried.rate_rps) if tried.rate_rps else "-"
    yield (
        f"{number(tried.goodput_rps)} of {number(tried.rate_rps)} requests/s ({of}) are answered "
        f"within every percentile limit on them, 95% from {low} to {high}; quality "
        f"{quality(tried.quality)}."
    )
    yield (
        f"{count(tried.n_failed, 'request')} failed, {tried.n_refused:,} refused, "
        f"{tried.n_preempted:,} preempted."
    )
    if not tried.settled:
        yield "Latency still rose or fell at the end: a longer run would say otherwise."
    if tried.failures:
        yield f"With failures: {', '.join(tried.failures)}."


def _pools(tried: Simulated) -> Html:
    columns = (
        Column("Pool", "text"),
        Column("Requests/s", source="simulated"),
        Column("Busy", source="simulated"),
        Column("In flight", source="simulated"),
        Column("KV cache", source="simulated"),
        Column("Output tokens/s", source="simulated"),
        Column("Preempted", source="simulated"),
    )
    rows = [
        (
            p.pool,
            number(p.rate_rps),
            percent(p.busy_ratio, 0),
            number(p.n_in_flight_mean),
            percent(p.kv_ratio, 0),
            number(p.output_tokens_per_s),
            number(p.n_preempted),
        )
        for p in tried.pools
    ]
    remark = note("In flight: requests in one replica; KV cache: held by answers being written.")
    made = table(columns, rows, "What each pool did in simulation")
    return unfolding("What each pool did in simulation", made, remark)


def _learned(learned: tuple[Learned, ...]) -> Html | None:
    if not learned:
        return None
    columns = (
        Column("Pool", "text"),
        Column("Class", "text"),
        Column("Metric", "text"),
        Column("Up to", source="simulated"),
    )
    rows = [
        (
            e.pool,
            e.class_name or "every class",
            e.metric,
            f"x {max(e.slower_ratio, default=1.0):.2f}",
        )
        for e in learned
    ]
    remark = "The formula was too fast here; the plan counts with these corrections."
    return unfolding(
        "How much slower pools were than the formula",
        table(columns, rows, "What simulation taught about the pools"),
        note(remark),
    )


def _measure_first(first: tuple[ToMeasure, ...]) -> Html | None:
    if not first:
        return None
    names = {
        "usd_per_h": "Worth $/h",
        "quality": "Worth in quality",
        "rate_factor": "Worth, x traffic",
    }
    columns = (
        Column("Pool", "text"),
        Column("Known within"),
        Column(names[first[0].unit]),
        Column("Requests in flight to measure at"),
    )
    rows = [
        (
            row.pool,
            marked(f"+-{percent(row.band_ratio, 0)}".replace("+-", "±"), row.origin),
            usd(row.worth) if row.unit == "usd_per_h" else f"{row.worth:.4f}",
            "-" if row.concurrency is None else f"{max(row.concurrency, 1.0):.0f}",
        )
        for row in first
    ]
    remark = (
        "Worth: what a cautious team saves on average by knowing the pool's true speed. Measure "
        "one replica with rb profile run --loads."
    )
    return joined(
        element("h3", "What to measure first"),
        table(columns, rows, "Pools whose speed is worth knowing"),
        note(remark),
    )
