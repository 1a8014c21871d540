"""How far a policy wants a plan to be trusted: measured, proved, simulated, complete, survived."""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.finding import Finding, error, warning
from planner.gate.policy.case import PolicyCase, is_above, limited, ms, parts
from planner.nearest import meant
from planner.spec.base import Origin, worst_origin
from planner.spec.pool import Profile
from planner.spec.whole import proof_of

GUESSED: tuple[Origin, ...] = ("estimated", "assumed")
MEASURE = "measure it: rb profile run"


def extrapolated(case: PolicyCase) -> Iterator[Finding]:
    """Yields parts in which too many requests go to pools outside their measured loads."""
    most = case.policy.max_extrapolated_traffic_ratio
    for part in parts(case.plan):
        pools = part.plan.predicted.pools
        outside = [pool for pool in pools if pool.extrapolated]
        total = sum(pool.rate_rps for pool in pools)
        ratio = sum(pool.rate_rps for pool in outside) / total if total > 0 else 0.0
        if most is not None and is_above(ratio, most):
            names = ", ".join(pool.pool for pool in outside)
            what = (
                f"{ratio:.1%} of the requests{part.of} go to pools outside their measured loads "
                f"({names}), at most {most:.1%} is allowed"
            )
            fix = "measure those pools at the loads of the plan: rb profile run --loads"
            yield error("policy-extrapolated", f"{part.at}predicted.pools", what, fix)


def gap(case: PolicyCase) -> Iterator[Finding]:
    """Yields a plan that is not proved to be as near to the best as the policy asks for."""
    most, periods = case.policy.max_gap_ratio, case.plan.periods
    where = "plan.json:bound" if periods is None else "plan.json:periods.bound"
    bound = proof_of(case.plan)
    if most is None:
        return
    if bound is None:
        what = f"nothing is proved of the plan, it must be within {most:.1%} of the best possible"
        yield error("policy-gap", where, what, "rb plan DIR --method auto, or with more effort")
    elif is_above(bound.gap_ratio, most):
        what = (
            f"{bound.objective} is {bound.value:g}, the best possible may be as good as "
            f"{bound.best_possible:g}: a gap of {bound.gap_ratio:.4%}, {most:.4%} is allowed"
        )
        yield error("policy-gap", f"{where}.gap_ratio", what, "rb plan DIR with more effort")


def simulated(case: PolicyCase) -> Iterator[Finding]:
    """Yields a plan, or limits of it, that were not tried in simulation."""
    found, fix = case.plan.simulated, "rb plan DIR --effort standard plays it"
    if found is None:
        what = "the plan was never simulated, the policy requires it"
        yield error("policy-simulated", "plan.json:simulated", what, fix)
        return
    tried = {f.key for f in found.latency if f.verdict is not None}
    for figure, at_most_ms in limited(case.plan):
        if figure.key not in tried:
            what = f"its limit of {ms(at_most_ms)} ms was never tried in simulation"
            where = f"plan.json:simulated.latency[{figure.label}]"
            yield error("policy-simulated", where, what, fix)
    for period in case.plan.periods.each if case.plan.periods else ():
        has_limits = any(figure.at_most_ms is not None for figure in period.predicted.latency)
        if has_limits and period.simulated_latency_ratio is None:
            where = f"plan.json:periods[{period.name}].simulated_latency_ratio"
            what = f"the limits of period {period.name} were never tried in simulation"
            yield error("policy-simulated", where, what, fix)


def complete(case: PolicyCase) -> Iterator[Finding]:
    """Yields a plan whose search was interrupted."""
    if not case.plan.complete:
        what = "the search was interrupted, the policy requires it to end by itself"
        yield error("policy-complete", "plan.json:complete", what, "rb plan DIR, to its end")


def scenarios(case: PolicyCase) -> Iterator[Finding]:
    """Yields scenarios that the plan is not known to survive."""
    told = {each.scenario: each for each in case.plan.survives}
    for name in case.policy.required_scenarios:
        each, where = told.get(name), f"plan.json:survives[{name}]"
        if each is None:
            what = "the policy requires the plan to survive it, and the plan says nothing of it"
            fix = f"ask for it in robust, and plan again ({meant(name, told)})"
            yield error("policy-scenarios", where, what, fix)
        elif not each.survives or each.verdict == "missed":
            by = "by its tables" if not each.survives else "in simulation"
            what = f"the policy requires the plan to survive it, it does not {by}"
            yield error("policy-scenarios", where, what, "more replicas, or plan again with robust")


def measured(case: PolicyCase) -> Iterator[Finding]:
    """Yields deployed pools, scores and limited latencies with figures that were not measured."""
    deployed = {row.pool for part in parts(case.plan) for row in part.plan.deployment}
    profiles = [p for p in case.inputs.profiles.profiles if p.name in deployed]
    said = "no figure of a deployed pool may be estimated or assumed"
    for profile in profiles:
        for file, origin in _origins(profile).items():
            if origin in GUESSED:
                where = f"profiles/{profile.name}/{file}"
                yield error("policy-measured", where, f"has {origin} figures, {said}", MEASURE)
    models = {profile.pool.scored_as for profile in profiles}
    for row in case.inputs.files.class_scores:
        if row.model_name in models and row.origin in GUESSED:
            what = f"the score of {row.model_name} on {row.class_name} is {row.origin}, {said}"
            fix = "score its answers: rb router collect"
            yield error("policy-measured", "class_scores.csv", what, fix)
    if any(_worst(profile) in GUESSED for profile in profiles):
        return  # what follows from guesses has been told by its cause
    for part in parts(case.plan):
        for figure, _ in limited(part.plan):
            if figure.origin in GUESSED:
                where = f"{part.at}predicted.latency[{figure.label}]"
                what = f"is {figure.origin}{part.of}: {figure.metric} was not measured; {said}"
                yield error("policy-measured", where, what, MEASURE)


def price_age(case: PolicyCase) -> Iterator[Finding]:
    """Yields GPUs in use whose price is older than the policy allows, or of no known age."""
    most = case.policy.max_price_age_days
    used = {row.gpu for part in parts(case.plan) for row in part.plan.deployment}
    hosted = {row.pool for part in parts(case.plan) for row in part.plan.deployment if not row.gpu}
    for pool in sorted(hosted) if most is not None else ():
        what = f"max_price_age_days was not judged: what {pool} charges has no date"
        fix = "look its price up again by hand"
        yield warning("policy-not-judged", f"profiles/{pool}/pool.yaml:price", what, fix)
    own = {*case.inputs.question.prices, *(entry.gpu for entry in case.inputs.question.supply)}
    for gpu in case.inputs.profiles.gpus:
        if gpu.name not in used or most is None:
            continue
        where = f"profiles/gpus.yaml:[{gpu.name}].as_of"
        age = (case.today - gpu.as_of).days
        if gpu.name in own:
            what = (
                "max_price_age_days was not judged: the question's own price of "
                f"{gpu.name} has no date"
            )
            fix = "give the price in gpus.yaml with its as_of, or look at it by hand"
            yield warning("policy-not-judged", "question.yaml:prices", what, fix)
        elif age < 0:
            what = f"is {gpu.as_of}, {-age} days from today ({case.today}): no price is of then"
            yield error("policy-price-age", where, what, "correct the date")
        elif is_above(age, most):
            what = (
                f"the price is of {gpu.as_of}, {age} days old on {case.today}: at most {most:g} "
                f"are allowed ({age - most:+g})"
            )
            yield error("policy-price-age", where, what, "look it up again, and change as_of")


def _origins(profile: Profile) -> dict[str, Origin]:
    """Returns where the figures of a profile come from, by its file."""
    points: list[Origin] = [point.origin for point in profile.points]
    if any(point.estimated for point in profile.points):
        points.append("estimated")
    share = profile.pool.share
    own = profile.pool.origin if share is None else _with_share(profile)
    return {
        "pool.yaml": own,
        "points.csv": worst_origin(*points),
        "capacity.csv": worst_origin(*(point.origin for point in profile.capacity)),
    }


def _with_share(profile: Profile) -> Origin:
    assert profile.pool.share is not None
    return worst_origin(profile.pool.origin, profile.pool.share.slowdown_origin)


def _worst(profile: Profile) -> Origin:
    return worst_origin(*_origins(profile).values())
