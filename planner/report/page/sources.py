"""Where it all comes from: how the plan was made, of which files, and how each figure is known."""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.figures import count, listed, number
from planner.report.page.grades import rests_on
from planner.report.page.markup import Html, element, joined
from planner.report.page.origins import legend, marked
from planner.report.page.parts import Column, Section, bullets, chip, note, table, unfolding
from planner.report.page.rent import load_origin
from planner.report.page.subject import Subject
from planner.spec.base import worst_origin
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.pool import Profile
from planner.spec.whole import proof_of

SHORT = 12  # digits of a hash that are shown


def why_section(subject: Subject) -> Section | None:
    """Returns the plan's own sentences; None where it has none."""
    said = bullets(subject.plan.why)
    if said is None:
        return None
    return Section("why", "Why this plan", "What the planner found, in its own words.", said)


def sources_section(subject: Subject) -> Section:
    """Returns how the plan was made and how every figure is known."""
    plan = subject.plan
    made = plan.provenance
    lead = f"Made by rb {made.rb_version}; the same inputs, version and seed give the same bytes."
    body = joined(
        _how_made(plan),
        element("h3", "The origin of every number"),
        legend(),
        _by_figure(subject),
        _pools(subject.inputs, plan) if subject.inputs is not None else None,
        _prices(subject.inputs, plan) if subject.inputs is not None else None,
        _inputs(subject),
        _faults(subject),
    )
    return Section("sources", "Where this comes from", lead, body)


def _how_made(plan: Plan) -> Html:
    made = plan.provenance
    bound = proof_of(plan)
    rows = [
        ("rb version", made.rb_version),
        ("Method", made.method),
        ("Effort", made.effort),
        ("Seed", str(made.seed)),
        ("Deployments evaluated", f"{made.n_evaluations:,}"),
        ("Search", "complete" if plan.complete else "interrupted"),
        ("Proof", bound.method if bound else "none"),
    ]
    columns = (Column("What", "text"), Column("How", "text"))
    return table(columns, rows, "How the plan was made")


def _by_figure(subject: Subject) -> Html:
    """Returns the origin of each kind of figure."""
    plan = subject.plan
    rows: list[tuple[str, str]] = [
        ("Traffic", marked("the question's rates and arrivals", "given")),
        ("Limits, floors, budget", marked("the question", "given")),
        ("Prices of GPUs", marked("the price list, or the question", "given")),
        ("Quality", _scores(subject)),
        *_latencies(plan),
        ("Load of pools", marked("of the capacity that the fit gives", load_origin(plan))),
    ]
    if plan.simulated is not None:
        n = f"{plan.simulated.n_requests:,} requests"
        rows.append(("Columns “simulated”", marked(n, "simulated")))
    if proof_of(plan) is not None or any(p.gap_ratio is not None for p in plan.front):
        rows.append(("Distances from the best", marked("a solver, by the fitted tables", "proved")))
    rows.append(("Shadow prices, worths", "computed from the above"))
    if rests_on(subject) != plan.predicted.origin:
        rows.append(("What was compared", _compared(subject)))
    return table((Column("Figure", "text"), Column("From", "text")), rows, "Origin of each figure")


def _compared(subject: Subject) -> Html:
    """Returns which scores of models that do not run are less certain than all that is used."""
    origin = subject.plan.predicted.origin
    rows = subject.inputs.files.class_scores if subject.inputs is not None else ()
    names = sorted({row.model_name for row in rows if row.origin == origin})
    which = f"scores of {listed(names, 3)}" if names else "scores"
    return marked(f"{which}, which this plan does not run, weighed against it", origin)


def _scores(subject: Subject) -> Html:
    if subject.inputs is None:
        return marked("scores of the question's prompts", "estimated")
    files = subject.inputs.files
    if files.class_scores:
        origin = worst_origin(*(row.origin for row in files.class_scores))
        n = count(len(files.class_scores), "mean score", "mean scores")
        return marked(f"{n} of a model on a class", origin)
    n_prompts = len(files.prompts.prompt_ids) if files.prompts is not None else 0
    return marked(f"scores of {n_prompts:,} prompts", "measured")


def _latencies(plan: Plan) -> Iterator[tuple[str, Html]]:
    for metric in ("ttft", "tpot", "e2e"):
        origins = [f.origin for f in plan.predicted.latency if f.metric == metric]
        if origins:
            worst = worst_origin(*origins)
            yield f"Predicted {metric}", marked("the pools' fitted measurements", worst)


def _pools(inputs: Inputs, plan: Plan) -> Html | None:
    """Returns who measured the pools that run; None where no profile of them is there."""
    profiles = inputs.profiles.by_name()
    used = [profiles[d.pool] for d in plan.deployment if d.pool in profiles]
    if not used:
        return None
    columns = (
        Column("Pool", "text"),
        Column("Loads"),
        Column("Origin", "text"),
        Column("Source", "text"),
    )
    rows = [
        (p.name, str(len(p.points)), marked(_kinds(p), p.pool.origin), p.pool.source) for p in used
    ]
    return unfolding(
        "The pools' measurements", table(columns, rows, "Sources of the pools' figures")
    )


def _kinds(profile: Profile) -> str:
    kinds: dict[str, int] = {}
    for point in profile.points:
        kinds[point.origin] = kinds.get(point.origin, 0) + 1
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items())


def _prices(inputs: Inputs, plan: Plan) -> Html | None:
    """Returns what the GPUs cost, since when and by whose word; None without GPUs."""
    used = {d.gpu for d in plan.deployment}
    stated = inputs.question.prices
    columns = (
        Column("GPU", "text"),
        Column("$/h", source="given"),
        Column("As of", "text"),
        Column("Source", "text"),
    )
    rows = []
    for gpu in inputs.profiles.gpus:
        if gpu.name in used:
            price, source = stated.get(gpu.name, gpu.usd_per_h), gpu.source
            if gpu.name in stated:
                source = "the question's own price"
            rows.append((gpu.name, number(price), gpu.as_of.isoformat(), source))
    if not rows:
        return None
    remark = None
    if inputs.question.supply:
        remark = note("The question's supply states prices of its own, which the plan counts with.")
    return unfolding("The GPUs' prices", table(columns, rows, "Prices of the GPUs"), remark)


def _inputs(subject: Subject) -> Html:
    """Returns the files that the plan was made of, by hash, and whether they are as they were."""
    then = subject.plan.provenance.inputs
    now = None if subject.inputs is None else subject.inputs.hashes
    columns = [Column("Input", "text"), Column("sha256 then", "text")]
    columns += [] if now is None else [Column("Today", "text")]
    names = sorted({*then, *(now or {})})
    rows = [
        [
            name,
            element("code", then[name][:SHORT]) if name in then else "-",
            *([] if now is None else [_today(then.get(name), now.get(name))]),
        ]
        for name in names
    ]
    title = f"The {count(len(then), 'input')} and their hashes"
    return unfolding(title, table(columns, rows, "Inputs of the plan"))


def _today(then: str | None, now: str | None) -> Html:
    if then == now:
        return chip("unchanged", "good")
    if now is None:
        return chip("no longer used", "warn")
    return chip("new", "warn") if then is None else chip(f"changed: {now[:SHORT]}", "bad")


def _faults(subject: Subject) -> Html | None:
    """Returns why the inputs are missing, with what would help."""
    if not subject.faults:
        return None
    said = bullets(f"{f.file}: {f.what}. Fix: {f.fix}" for f in subject.faults[:5])
    return joined(element("h3", "What could not be read"), said)
