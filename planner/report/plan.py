"""A plan as a person reads it: what to rent, what goes where, what it costs, what limits it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console

from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    plain,
    show,
    table,
)
from planner.report.figures import BINDS, count, letters, ms, number, percent, quality, share, usd
from planner.report.periods import period_sections
from planner.report.placement import placement_section
from planner.report.reasons import reasons_section
from planner.spec.plan import (
    CascadeRoute,
    FrontPoint,
    LatencyFigure,
    Plan,
    Predicted,
    QualityBasis,
    SimulatedFigure,
    Survived,
    ToMeasure,
)
from planner.spec.whole import HOURS_PER_MONTH

N_FRONT_ROWS = 7
N_TO_MEASURE = 3
POOL_WIDTH = 30  # columns that a pool's name may take beside the classes
CLASS_WIDTH = 16


def render_plan(plan: Plan, console: Console) -> None:
    """Writes what a person wants to know of a plan, section by section."""
    show(_sections(plan, console.width), console)


def _sections(plan: Plan, width: int) -> Iterator[RenderableType]:
    yield line(plan.title, "bold")
    if plan.periods is not None:
        yield from period_sections(plan.periods)
    yield line(_summary(plan.predicted))
    if not plan.complete:
        yield line("NOT COMPLETE: the search was interrupted, a better plan may exist.", "yellow")
    yield from _rent(plan)
    yield from placement_section(plan)
    yield from _routes(plan, width)
    yield from _quality_basis(plan.quality_basis)
    if plan.periods is None:  # else what all hours cost stands above
        yield from _cost(plan)
    yield from _latency(plan)
    yield from _survives(plan.survives)
    yield from _front(plan.front)
    yield from _why(plan)
    yield from reasons_section(plan)
    yield from _measure_first(plan.measure_first)
    yield from _provenance(plan)


def _summary(predicted: Predicted) -> str:
    parts = [f"{number(predicted.rate_rps)} requests/s planned"]
    if predicted.rate_factor is not None:
        parts.append(f"{predicted.rate_factor:.3f} times the stated traffic")
    parts += [f"{usd(predicted.cost_usd_per_h)} per hour", f"quality {quality(predicted.quality)}"]
    if predicted.latency_ratio is not None:
        parts.append(f"tightest limit used to {percent(predicted.latency_ratio)}")
    return ", ".join(parts)


def _rent(plan: Plan) -> Iterator[RenderableType]:
    yield heading("What to rent")
    made = table(["pool", "GPU"], ["replicas", "GPUs", "$/h", "load"], [""])
    figures = {f.pool: f for f in plan.predicted.pools}
    for row in plan.deployment:
        figure = figures.get(row.pool)
        made.add_row(
            "",
            row.pool,
            row.gpu or "hosted",
            str(row.replicas),
            f"{row.n_gpus:g}",
            f"{row.usd_per_h:,.2f}",
            percent(figure.utilisation_ratio if figure else None, 0),
            "extrapolated" if figure and figure.extrapolated else "",
        )
    n_replicas = sum(row.replicas for row in plan.deployment)
    n_gpus = sum(row.n_gpus for row in plan.deployment)
    rent = sum(row.usd_per_h for row in plan.deployment)
    made.add_row("", "together", "", str(n_replicas), f"{n_gpus:g}", f"{rent:,.2f}", "", "")
    yield made


def _routes(plan: Plan, width: int) -> Iterator[RenderableType]:
    """Yields the shares as pools x classes, in as many blocks as the width asks for."""
    yield heading("Where traffic goes (share of each class)")
    shares = {(r.class_name, r.pool): r.share for r in plan.routing}
    cascades = {f"cascade {letters(n)}": c for n, c in enumerate(plan.cascades)}
    shares |= {(c.class_name, name): c.share for name, c in cascades.items()}
    named = [r.class_name for r in plan.routing] + [c.class_name for c in plan.cascades]
    order = {name: n for n, name in enumerate(plan.predicted.class_rps)}
    classes = sorted(dict.fromkeys(named), key=lambda name: order.get(name, len(order)))
    pools = list(
        dict.fromkeys((*(d.pool for d in plan.deployment), *(r.pool for r in plan.routing)))
    )
    rates = {f.pool: f.rate_rps for f in plan.predicted.pools}
    for block in _blocks(classes, width - 3 - POOL_WIDTH - 10):
        made = table(["pool"], [*(name[:CLASS_WIDTH] for name in block), "req/s"])
        for pool in pools:
            cells = [share(shares.get((name, pool), 0.0)) for name in block]
            made.add_row("", pool, *cells, number(rates.get(pool)))
        for way, cascade in cascades.items():
            if cascade.class_name in block:
                cells = [share(shares.get((name, way), 0.0)) for name in block]
                made.add_row("", way, *cells, number(_asked_rps(plan, cascade)))
        means = [quality(plan.predicted.class_quality.get(name)) for name in block]
        made.add_row("", "quality", *means, "", style="italic")
        yield made
    for way, cascade in cascades.items():
        yield indented(f"{way}: {_described(cascade)}")
    if cascades:
        yield indented("requests/s of a pool: its own and those of its part in a cascade")


def _asked_rps(plan: Plan, cascade: CascadeRoute) -> float:
    """Returns the requests per second that come to a cascade."""
    return cascade.share * plan.predicted.class_rps.get(cascade.class_name, 0.0)


def _described(cascade: CascadeRoute) -> str:
    """Returns a cascade as a sentence, e.g. 'a, then b for 34% (length < -800), quality 0.61'."""
    first, second = (
        " and ".join(e.pool if len(stage) == 1 else f"{e.pool} ({share(e.share)})" for e in stage)
        for stage in (cascade.first, cascade.second)
    )
    asked = f"{percent(cascade.escalated_ratio, 0)} ({cascade.signal} < {cascade.below:g})"
    return f"{first}, then {second} for {asked}, quality {quality(cascade.quality)}"


def _quality_basis(basis: QualityBasis | None) -> Iterator[RenderableType]:
    """Yields what routers with more and less knowledge reach with this deployment."""
    if basis is None:
        return
    yield heading("What the quality rests on")
    made = table(["a router that knows"], ["quality", "95 % from", "to"], [""])
    note = f"{'held out' if basis.held_out else 'as stated'}, {basis.n_prompts:,} prompts"
    rows = [("the class", basis.by_class, note)]
    if basis.per_prompt is not None:
        rows.append(("the prompt, too", basis.per_prompt, _gain(basis)))
    for known, estimate, text in rows:
        figures = (quality(q) for q in (estimate.quality, estimate.low, estimate.high))
        made.add_row("", known, *figures, text)
    if basis.oracle is not None:
        note = "luck: out of reach"
        made.add_row(
            "", "each score in advance", quality(basis.oracle), "", "", note, style="italic"
        )
    yield made
    yield bullet(f"choosing by the prompt itself: {basis.why}")
    bound = basis.per_prompt_bound
    if bound is not None:
        yield bullet(
            f"by prompt the router expects {quality(bound.value)} of this deployment, and at most "
            f"{quality(bound.best_possible)} of any that costs no more"
        )


def _gain(basis: QualityBasis) -> str:
    """Returns by how many points of quality knowing the prompt is better than the class alone."""
    if basis.gain_low is None or basis.gain_high is None:
        return ""
    return f"{100 * basis.gain_low:+.2f} to {100 * basis.gain_high:+.2f} points"


def _blocks(classes: Sequence[str], width: int) -> Iterator[list[str]]:
    """Yields runs of classes whose columns fit into a width."""
    block: list[str] = []
    used = 0
    for name in classes:
        need = min(max(len(name), 7), CLASS_WIDTH) + 2
        if block and used + need > width:
            yield block
            block, used = [], 0
        block.append(name)
        used += need
    yield block


def _cost(plan: Plan) -> Iterator[RenderableType]:
    yield heading("What it costs")
    predicted = plan.predicted
    text = f"{usd(predicted.cost_usd_per_h)} per hour, "
    text += f"{usd(predicted.cost_usd_per_h * HOURS_PER_MONTH)} per month (730 h)"
    if predicted.usd_per_million_output_tokens is not None:
        text += f", {usd(predicted.usd_per_million_output_tokens)} per million output tokens"
    yield bullet(text)
    bound = plan.bound
    if bound is not None:
        words = {
            "cost_usd_per_h": "$/h",
            "rate_factor": "times the traffic",
            "latency_ratio": "of the tightest limit",
            "latency_ms": "ms",
        }
        best = f"{number(bound.best_possible)} {words.get(bound.objective, bound.objective)}"
        money = "" if bound.within_usd_per_h is None else " at this cost"
        text = f"the best possible{money} is {best}: proved within {percent(bound.gap_ratio)}"
        yield bullet(text)


def _latency(plan: Plan) -> Iterator[RenderableType]:
    """Yields the limited statistics against their limits, then those of all traffic."""
    figures = plan.predicted.latency
    limited = [f for f in figures if f.at_most_ms is not None]
    other = [f for f in figures if f.at_most_ms is None and f.class_name is None]
    common = _common_origin([*limited, *other])
    unit = f"ms, {common}" if common else "ms"
    tried = {f.key: f for f in plan.simulated.latency} if plan.simulated else {}
    if limited:
        yield heading(f"Limits: predicted against allowed ({unit})")
        columns = ["predicted", "band", *(["simulated"] if tried else []), "allowed", "used"]
        made = table(["limit"], columns, [""])
        for f in limited:
            used, seen = f.ms / (f.at_most_ms or 1.0), tried.get(f.key)
            cells = [ms(f.ms), _band(f), *([ms(seen.ms) if seen else "-"] if tried else [])]
            cells += [ms(f.at_most_ms), percent(used, 0)]
            made.add_row("", f.short_label, *cells, ", ".join(_notes(f, used, common, seen)))
        yield made
    if other:
        yield heading(f"Latency of all traffic ({unit})")
        made = table(["statistic"], ["predicted", "band"], [""])
        for f in other:
            made.add_row("", f.short_label, ms(f.ms), _band(f), "" if common else f.origin)
        yield made
    if limited or other:
        yield indented("band: how far off the prediction may be, by the fit of the measurements")
    if plan.simulated:
        n, runs = f"{plan.simulated.n_requests:,}", count(len(plan.simulated.seeds), "run")
        yield indented(f"simulated: {n} requests in {runs}; rb simulate tries more")


def _band(figure: LatencyFigure) -> str:
    """Returns the half-width of the band, which is symmetric unless it is cut at zero."""
    return f"+-{percent(figure.high_ms / figure.ms - 1.0, 0)}" if figure.ms else "-"


def _notes(
    figure: LatencyFigure, used: float, common: str | None, simulated: SimulatedFigure | None
) -> Iterator[str]:
    """Yields what is to be said about a limit: missed, binding, how it is known."""
    if figure.is_missed:
        yield "MISSED"
    elif simulated is not None and simulated.verdict == "missed":
        yield "contradicted"
    elif used >= BINDS:
        yield "binds"
    if common is None:
        yield figure.origin


def _common_origin(figures: Sequence[LatencyFigure]) -> str | None:
    """Returns the origin that all figures share, None when they differ (§8)."""
    origins = {f.origin for f in figures}
    return origins.pop() if len(origins) == 1 else None


def _survives(survives: Sequence[Survived]) -> Iterator[RenderableType]:
    """Yields what becomes of the plan in each scenario that it was asked to survive."""
    if not survives:
        return
    yield heading("What it survives")
    tried = any(each.verdict is not None for each in survives)
    columns = ["load", "limits used", *(["simulated"] if tried else []), "quality"]
    made = table(["scenario"], columns, [""])
    for each in survives:
        cells = [percent(each.utilisation_ratio, 0), percent(each.latency_ratio, 0)]
        cells += [percent(each.simulated_latency_ratio, 0)] if tried else []
        note = "" if each.survives else "NOT SURVIVED"
        if each.survives and each.verdict not in (None, "met"):
            note = "contradicted" if each.verdict == "missed" else "too close"
        made.add_row("", each.scenario, *cells, quality(each.quality), note)
    yield made
    yield indented("load: of the fullest pool; limits: of what is allowed while it lasts")


def _front(front: Sequence[FrontPoint]) -> Iterator[RenderableType]:
    """Yields a few alternatives around the chosen point, which is marked, and their pools."""
    if len(front) < 2:
        return
    points = sorted(front, key=lambda p: (p.cost_usd_per_h, -p.quality))
    rows = _few(points)
    yield heading(f"The choice ({len(rows)} of {len(points)} best deployments, > is this plan)")
    by_ratio = any(p.latency_ratio is not None for p in points)
    by_rate = any(p.rate_factor is not None for p in points)
    numbers = ["$/h", "quality", "limits used" if by_ratio else "latency ms"]
    by_trial = any(p.simulated_latency_ratio is not None for p in points)
    numbers += [*(["simulated"] if by_trial else []), *(["x traffic"] if by_rate else [])]
    by_proof = any(p.gap_ratio is not None for p in points)
    numbers += ["within"] if by_proof else []
    made = table([], numbers, ["replicas"])
    names = {
        pool: letters(i) for i, pool in enumerate(sorted({k for p in rows for k in p.deployment}))
    }
    for p in rows:
        latency = percent(p.latency_ratio, 0) if by_ratio else ms(p.latency_ms)
        cells = [f"{p.cost_usd_per_h:,.2f}", quality(p.quality), latency]
        cells += [percent(p.simulated_latency_ratio, 0)] if by_trial else []
        cells += [number(p.rate_factor)] if by_rate else []
        cells += [percent(p.gap_ratio)] if by_proof else []
        replicas = " ".join(f"{n}{names[pool]}" for pool, n in sorted(p.deployment.items()))
        made.add_row(">" if p.chosen else "", *cells, replicas, style="bold" if p.chosen else "")
    yield made
    for pool, short in names.items():
        yield indented(pool, f"   {short}")
    if by_proof:
        what = "traffic" if by_rate else "quality"
        yield indented(f"within: of the best {what} of any deployment of its cost and latency")


def _few(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Returns at most N_FRONT_ROWS points: both ends, the chosen one, the rest evenly between."""
    n = len(points)
    if n <= N_FRONT_ROWS:
        return list(points)
    keep = {round(i * (n - 1) / (N_FRONT_ROWS - 1)) for i in range(N_FRONT_ROWS)}
    chosen = next((i for i, p in enumerate(points) if p.chosen), None)
    if chosen is not None and chosen not in keep:
        inner = sorted(keep - {0, n - 1}, key=lambda i: abs(i - chosen))
        keep = (keep - {inner[0]}) | {chosen}
    return [points[i] for i in sorted(keep)]


def _why(plan: Plan) -> Iterator[RenderableType]:
    if plan.why:
        yield heading("Why")
        yield from (bullet(sentence) for sentence in plan.why)


def _measure_first(first: Sequence[ToMeasure]) -> Iterator[RenderableType]:
    """Yields the pools whose speed is worth knowing, and what knowing it would be worth."""
    if not first:
        return
    unit = {"usd_per_h": "$/h", "quality": "quality", "rate_factor": "x traffic"}[first[0].unit]
    yield heading("What to measure first")
    made = table(["pool", "latencies"], ["known within", f"worth {unit}", "in flight"])
    for row in first[:N_TO_MEASURE]:
        worth = f"{row.worth:,.2f}" if row.unit == "usd_per_h" else f"{row.worth:.4f}"
        within = f"+-{percent(row.band_ratio, 0)}"
        load = "-" if row.concurrency is None else f"{max(row.concurrency, 1.0):.0f}"
        made.add_row("", row.pool, row.origin, within, worth, load)
    yield made
    yield indented(
        "worth: what a cautious team saves on average by knowing the pool's true speed; in flight: "
        "the load of one replica in this plan, at which to measure (rb profile run --loads)"
    )


def _provenance(plan: Plan) -> Iterator[RenderableType]:
    made, predicted = plan.provenance, plan.predicted
    yield heading("Where this comes from")
    marks = _marks(
        (
            predicted.origin != "measured",
            f"the least certain input is {predicted.origin}, not measured",
        ),
        (any(p.extrapolated for p in predicted.pools), "some loads lie outside what was measured"),
        (
            predicted.mix_shift_ratio > 0.005,
            f"class mixes differ by {percent(predicted.mix_shift_ratio)} from those of the tables",
        ),
    )
    for mark in marks:
        yield bullet(mark)
    yield bullet(
        f"rb {plain(made.rb_version)}, method {made.method}, effort {made.effort}, "
        f"seed {made.seed}, {count(made.n_evaluations, 'deployment')} evaluated, "
        f"{count(len(made.inputs), 'input')}"
    )


def _marks(*marks: tuple[bool, str]) -> Iterable[str]:
    return [text for holds, text in marks if holds]
