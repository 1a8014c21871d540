"""What a policy allows a plan to change: money, quality, latency, limits, GPUs, traffic, steps."""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.diff import diff
from planner.gate.finding import Finding, error, warning
from planner.gate.policy.case import (
    PolicyCase,
    at_latency,
    carries,
    cost_usd_per_h,
    is_above,
    limited,
    ms,
    pairs,
    ratio_change,
    usd,
    usd_change,
)
from planner.gate.way.members import replaced_pools
from planner.spec.plan import Plan

RPS_ROUNDING = 1e-6  # rates have so many digits in the file
IN_STEPS = "set keep in the question and plan again, or change in several steps"


def cost_increase(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields an increase of the money per hour beyond what the policy allows."""
    (_, then), (where, now) = cost_usd_per_h(old), cost_usd_per_h(case.plan)
    ratio, usd_per_h = (
        case.policy.max_cost_increase_ratio,
        case.policy.max_cost_increase_usd_per_h,
    )
    allowed = [
        (then * (1.0 + ratio), f"{ratio:+.1%}") if ratio is not None else None,
        (then + usd_per_h, usd_change(usd_per_h)) if usd_per_h is not None else None,
    ]
    broken = [each for each in allowed if each is not None and is_above(now, each[0])]
    if not broken:
        return
    most, said = min(broken)
    before, after = old.predicted.rate_rps, case.plan.predicted.rate_rps
    what = (
        f"goes from {usd(then)} to {usd(now)} per hour, {usd_change(now - then)} "
        f"({ratio_change(then, now)}): at most {said} is allowed, {usd(most)}"
    )
    if abs(before - after) > 1e-6:
        what += f"; the planned traffic goes from {before:g} to {after:g} requests/s"
    fix = "plan for less, or have the increase agreed to in the policy"
    yield error("policy-cost-increase", where, what, fix)


def quality_drop(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields mean scores, of all traffic and of classes, that fall more than the policy allows."""
    most = case.policy.max_quality_drop
    fix = "set the quality_at_least of the plan before in the question, and plan again"
    for before, part in pairs(old, case.plan):
        then, now = before.predicted, part.plan.predicted
        figures = [("quality", "all traffic", then.quality, now.quality)]
        figures += [
            (f"class_quality[{name}]", name, then.class_quality[name], reached)
            for name, reached in now.class_quality.items()
            if name in then.class_quality and carries(now, name)
        ]
        for field, of, was, reached in figures:
            if most is not None and is_above(was - reached, most):
                what = (
                    f"falls from {was:.4f} to {reached:.4f} of {of}{part.of}, "
                    f"{reached - was:+.4f}: at most {-most:+.4f} is allowed"
                )
                yield error("policy-quality-drop", f"{part.at}predicted.{field}", what, fix)


def traffic_drop(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields planned rates, of all traffic and of classes, that fall more than is allowed."""
    most = case.policy.max_traffic_drop_ratio
    fix = "restore the rates in the question, and plan again"
    for before, part in pairs(old, case.plan):
        then, now = before.predicted, part.plan.predicted
        figures = [("rate_rps", "all traffic", then.rate_rps, now.rate_rps)]
        figures += [
            (f"class_rps[{name}]", name, was, now.class_rps.get(name, 0.0))
            for name, was in then.class_rps.items()
        ]
        for field, of, was, comes in figures:
            if most is not None and is_above(was * (1.0 - most), comes + RPS_ROUNDING):
                what = (
                    f"goes from {was:g} to {comes:g} requests/s of {of}{part.of} "
                    f"({ratio_change(was, comes)}): at most {-most:+.1%} is allowed"
                )
                yield error("policy-traffic-drop", f"{part.at}predicted.{field}", what, fix)


def latency_increase(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields limited latencies that rise more than the policy allows."""
    most = case.policy.max_latency_increase_ratio
    for before, part in pairs(old, case.plan):
        then = {figure.key: figure.ms for figure in before.predicted.latency}
        for figure, at_most_ms in limited(part.plan):
            was, where = then.get(figure.key), at_latency(part, figure)
            if was is None:
                what = (
                    "max_latency_increase_ratio was not judged: the plan before says nothing of "
                    f"{figure.label}{part.of}"
                )
                fix = "make the plan before again with today's limits, or look at it by hand"
                yield warning("policy-not-judged", where, what, fix)
            elif most is not None and is_above(figure.ms, was * (1.0 + most)):
                what = (
                    f"goes from {ms(was)} to {ms(figure.ms)} ms{part.of} "
                    f"({ratio_change(was, figure.ms)}): at most {most:+.1%} is allowed, "
                    f"{ms(was * (1.0 + most))} ms; its limit is {ms(at_most_ms)} ms"
                )
                fix = f"limit it to {ms(was * (1.0 + most))} ms in the question, and plan again"
                yield error("policy-latency-increase", where, what, fix)


def limits_kept(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields latency limits of the plan before that are gone, or looser."""
    fix = "restore the limit in the question, and plan again"
    for before, part in pairs(old, case.plan):
        now = {figure.key: at_most_ms for figure, at_most_ms in limited(part.plan)}
        for figure, was_ms in limited(before):
            at_most_ms = now.get(figure.key)
            where = f"{part.at}predicted.latency[{figure.label}].at_most_ms"
            if at_most_ms is None:
                what = f"was limited to {ms(was_ms)} ms{part.of}, and has no limit any more"
                yield error("policy-limits-kept", where, what, fix)
            elif is_above(at_most_ms, was_ms):
                what = (
                    f"its limit goes from {ms(was_ms)} to {ms(at_most_ms)} ms{part.of} "
                    f"({ratio_change(was_ms, at_most_ms)}), and may not be loosened"
                )
                yield error("policy-limits-kept", where, what, fix)


def gpus_moved(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields changes in which replicas with more GPUs start and stop than the policy allows."""
    most = case.policy.max_gpus_moved
    for before, part in pairs(old, case.plan):
        started, stopped = _started_and_stopped(before, part.plan)
        if most is not None and is_above(started + stopped, most):
            what = (
                f"replicas with {started:g} GPUs start and with {stopped:g} stop{part.of}, "
                f"{started + stopped:g} together: at most {most:g} are allowed "
                f"({started + stopped - most:+g})"
            )
            yield error("policy-gpus-moved", f"{part.at}deployment", what, IN_STEPS)


def traffic_moved(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields changes that send more of the requests elsewhere than the policy allows."""
    most = case.policy.max_traffic_moved_ratio
    for before, part in pairs(old, case.plan):
        moved = diff(before, part.plan).moved_ratio
        if most is not None and is_above(moved, most):
            what = f"{moved:.1%} of the requests go elsewhere{part.of}: at most {most:.1%} may"
            yield error("policy-traffic-moved", f"{part.at}routing", what, IN_STEPS)


def safe_transition(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields a change that is not known to keep every promise in each of its steps."""
    way = case.transition
    if way is not None and way.is_safe is True:
        return
    fix = "get what is missing for a while, or change in several steps"
    if way is None or way.is_safe is None:
        what = "whether the change is safe in each of its steps could not be judged"
    else:
        broken = [problem for step in way.steps for problem in step.problems]
        what = f"the change is not safe: {'; '.join((way.needs or tuple(broken))[:3])}"
    yield error("policy-transition", "plan.json:deployment", what, fix)


def peak_gpus(case: PolicyCase, old: Plan) -> Iterator[Finding]:
    """Yields kinds of GPU of which the change takes more on its way than the policy allows."""
    if case.transition is None:
        what = "max_peak_gpus was not judged: the way from the plan before is not known"
        yield warning("policy-not-judged", "plan.json:deployment", what, "look at rb diff")
        return
    peaks = {each.gpu: each for each in case.transition.peak_gpus}
    for gpu, most in case.policy.max_peak_gpus.items():
        each = peaks.get(gpu)
        if each is not None and is_above(each.peak, most):
            what = (
                f"goes from {each.old:g} to {each.new:g} GPUs of {gpu} and takes {each.peak:g} on "
                f"the way: at most {most:g} are allowed ({each.peak - most:+g})"
            )
            fix = "change in several steps, or raise max_peak_gpus"
            yield error("policy-peak-gpus", "plan.json:deployment", what, fix)


def _started_and_stopped(old: Plan, new: Plan) -> tuple[float, float]:
    """Returns the GPUs of replicas that start and of those that stop.

    A pool that is another one under the same name is stopped and started.
    """
    before, after = ({row.pool: row for row in plan.deployment} for plan in (old, new))
    others = replaced_pools(old, new)
    started = stopped = 0.0
    for pool in {**before, **after}:
        then, now = before.get(pool), after.get(pool)
        n_then, n_now = (0.0 if row is None else row.n_gpus for row in (then, now))
        if pool in others:
            started, stopped = started + n_now, stopped + n_then
        else:
            started, stopped = (
                started + max(n_now - n_then, 0.0),
                stopped + max(n_then - n_now, 0.0),
            )
    return round(started, 6), round(stopped, 6)
