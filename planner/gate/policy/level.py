"""What a policy allows a plan to be by itself: money, quality, latency, headroom, GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.finding import Finding, error
from planner.gate.policy.case import (
    PolicyCase,
    at_latency,
    carries,
    cost_usd_per_h,
    is_above,
    limited,
    ms,
    parts,
    reserved,
    usd,
    usd_change,
)
from planner.spec.plan import Plan
from planner.spec.whole import gpus_of


def cost(case: PolicyCase) -> Iterator[Finding]:
    """Yields a plan that costs more than the policy allows."""
    most = case.policy.max_cost_usd_per_h
    where, now = cost_usd_per_h(case.plan)
    if most is not None and is_above(now, most):
        over = usd_change(now - most)
        what = f"costs {usd(now)} per hour, at most {usd(most)} is allowed ({over})"
        yield error("policy-cost", where, what, "plan for less, or raise max_cost_usd_per_h")


def quality(case: PolicyCase) -> Iterator[Finding]:
    """Yields mean scores below the floors of the policy."""
    least_of_class = case.policy.min_class_quality
    fix = "raise the question's floor to the policy's, and plan again"
    for part in parts(case.plan):
        predicted = part.plan.predicted
        asked = [("quality", "all traffic", predicted.quality, case.policy.min_quality)]
        asked += [
            (f"class_quality[{name}]", name, predicted.class_quality.get(name, 0.0), least)
            for name, least in least_of_class.items()
            if carries(predicted, name)
        ]
        for field, of, now, least in asked:
            if least is not None and is_above(least, now):
                what = f"is {now:.4f} of {of}{part.of}, at least {least:.4f} is asked for"
                what += f" ({now - least:+.4f})"
                yield error("policy-quality", f"{part.at}predicted.{field}", what, fix)


def limit_used(case: PolicyCase) -> Iterator[Finding]:
    """Yields predictions that use more of their limits than the policy allows."""
    most = case.policy.max_limit_used_ratio
    for part in parts(case.plan):
        for figure, at_most_ms in limited(part.plan):
            used = figure.ms / at_most_ms
            if most is not None and is_above(used, most):
                what = (
                    f"{ms(figure.ms)} of {ms(at_most_ms)} ms are used{part.of}, {used:.2%}: "
                    f"at most {most:.2%} is allowed, {ms(most * at_most_ms)} ms"
                )
                fix = f"limit it to {ms(most * at_most_ms)} ms in the question, and plan again"
                yield error("policy-limit-used", at_latency(part, figure), what, fix)


def limit_band(case: PolicyCase) -> Iterator[Finding]:
    """Yields error bands that reach further into their limits than the policy allows."""
    most = case.policy.max_limit_used_with_band_ratio
    for part in parts(case.plan):
        for figure, at_most_ms in limited(part.plan):
            used = figure.high_ms / at_most_ms
            if most is not None and is_above(used, most):
                what = (
                    f"predicted {ms(figure.ms)} ms, its band reaches to {ms(figure.high_ms)} of "
                    f"{ms(at_most_ms)} ms{part.of}, {used:.2%}: at most {most:.1%} is allowed"
                )
                fix = "measure the pools better, or plan with robust: {latency_band: true}"
                yield error("policy-limit-band", at_latency(part, figure), what, fix)


def headroom(case: PolicyCase) -> Iterator[Finding]:
    """Yields pools with less free capacity than the policy asks for."""
    least = case.policy.min_headroom_ratio
    for part in parts(case.plan):
        for pool in part.plan.predicted.pools:
            free = 1.0 - pool.utilisation_ratio
            if least is not None and is_above(least, free):
                what = (
                    f"runs at {pool.utilisation_ratio:.1%} of its capacity{part.of}: {free:.1%} is "
                    f"free, at least {least:.1%} is asked for ({100 * (free - least):+.1f} points)"
                )
                fix = f"headroom_ratio: {least:g} in the question, and plan again"
                where = f"{part.at}predicted.pools[{pool.pool}].utilisation_ratio"
                yield error("policy-headroom", where, what, fix)


def forbidden_gpu(case: PolicyCase) -> Iterator[Finding]:
    """Yields GPUs in use, or reserved, that the policy forbids."""
    fix = "take it out of the question's stock or supply, and plan again"
    for gpu, (n, where) in _most(case.plan).items():
        if gpu in case.policy.forbidden_gpus and n > 0:
            what = f"takes {n:g} GPUs of {gpu}, which the policy forbids: 0 are allowed"
            yield error("policy-forbidden-gpu", where, what, fix)


def required_gpu(case: PolicyCase) -> Iterator[Finding]:
    """Yields GPUs that the policy wants to see used, and no part of the plan uses."""
    used = {
        gpu for part in parts(case.plan) for gpu, n in gpus_of(part.plan.deployment).items() if n
    }
    for gpu in case.policy.required_gpus:
        if gpu not in used:
            what = f"takes no GPU of {gpu}, which the policy requires"
            fix = f"set replicas of a pool on {gpu} in the question, and plan again"
            yield error("policy-required-gpu", "plan.json:deployment", what, fix)


def most_gpus(case: PolicyCase) -> Iterator[Finding]:
    """Yields kinds of GPU of which more are used or reserved than the policy allows."""
    taken = _most(case.plan)
    for gpu, most in case.policy.max_gpus.items():
        n, where = taken.get(gpu, (0.0, ""))
        if is_above(n, most):
            what = f"takes {n:g} GPUs of {gpu}, at most {most:g} are allowed ({n - most:+g})"
            fix = f"a stock of {most:g} in the question, and plan again"
            yield error("policy-gpus", where, what, fix)


def _most(plan: Plan) -> dict[str, tuple[float, str]]:
    """Returns the most GPUs of each kind that a plan takes at a time, and where that stands."""
    most = {gpu: (n, f"plan.json:periods.reserved[{gpu}]") for gpu, n in reserved(plan).items()}
    for part in parts(plan):
        for gpu, n in gpus_of(part.plan.deployment).items():
            if n > most.get(gpu, (0.0, ""))[0]:
                most[gpu] = n, f"{part.at}deployment"
    return most
