"""Why this plan: which limits bind, and what one replica or one GPU more or less would change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.explore import PROMISING, Explored
from planner.objectives import LEAST_GAIN, Evaluation, Objectives
from planner.score import MET_TOLERANCE, duration
from planner.settle import Settled, settle
from planner.spec.plan import Bound

BINDING_RATIO = 0.97
"""A limit of which at least this much is used is called binding."""

LEAST_USD_PER_H = 0.005


def reasons(
    objectives: Objectives, chosen: Settled, explored: Explored, bound: Bound | None
) -> list[str]:
    """Returns plain sentences: how the plan was found, what binds, what more or less would do."""
    near = replace(objectives, tables=chosen.tables)
    return [
        *_found(explored),
        *_proved(bound),
        *_cascades(objectives, chosen),
        *_neighbours(objectives, chosen),
        *_spot(objectives, chosen),
        *_binding(objectives, chosen),
        *_one_less(near, chosen),
        *_one_more(near, chosen),
        *_cautions(objectives, chosen),
    ]


def _found(explored: Explored) -> list[str]:
    n = len(explored.evaluations)
    if explored.exhaustive:
        return [f"all {n:,} deployments and latency levels of the box were evaluated"]
    return [f"found by {explored.method} over {n:,} deployments of the box"]


def _proved(bound: Bound | None) -> list[str]:
    """Returns what no other plan can beat, by the fitted tables."""
    if bound is None:
        return []
    best, of_money = bound.best_possible, ""
    if bound.within_usd_per_h is not None:
        of_money = f" of at most {bound.within_usd_per_h:.2f} $/h"
    what = {
        "cost_usd_per_h": f"no plan costs less than {best:.2f} $/h",
        "quality": f"no plan{of_money} reaches a quality above {best:.4f}",
        "rate_factor": f"no plan carries more than {best:.4f} times the traffic",
        "latency_ratio": f"no plan uses less than {best:.1%} of its tightest limit",
        "latency_ms": f"no plan has a latency below {duration(best)}",
    }[bound.objective]
    return [f"{what} by these tables: this one is within {bound.gap_ratio:.1%} of the best"]


def _cascades(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns what goes through a cascade, and how it compares with either model alone."""
    workload, found = objectives.case.workload, []
    for cascade in workload.cascades:
        share = float(chosen.shares[cascade.first_row].sum())
        if share <= 0:
            continue
        direct = workload.quality[cascade.class_index]
        stages = workload.allowed[[cascade.first_row, cascade.second_row]]
        alone = [float(direct[runs_it].max()) for runs_it in stages]
        found.append(
            f"{share:.1%} of {cascade.class_name} asks {cascade.first_model} first, and "
            f"{cascade.second_model} where the signal {cascade.signal} is below "
            f"{cascade.below:g} ({cascade.escalated_ratio:.0%}): quality {cascade.quality:.4f}, "
            f"alone they reach {alone[0]:.4f} and {alone[1]:.4f}"
        )
    return found


def _neighbours(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns which pools share GPUs, and how their neighbours' part in their times is known."""
    found = []
    for p in np.flatnonzero(chosen.replicas).tolist():
        profile = objectives.case.pools[p]
        share = profile.pool.share
        if share is not None:
            known = "was measured" if share.slowdown_origin == "measured" else "is assumed"
            slower = f"make everything take {share.slowdown_ratio:.2f} times as long"
            slower = slower if share.slowdown_ratio > 1 else "do not slow it down"
            found.append(
                f"{profile.name} takes {share.compute_ratio:.0%} of a GPU and "
                f"{share.memory_gib:g} GiB of it; that neighbours {slower} {known}"
            )
    return found


def _spot(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns on how many spot GPUs the plan counts, of each kind."""
    space, replicas = objectives.case.space, chosen.replicas
    count = space.gpu_count(replicas)
    return [
        f"{n:g} of {count[gpu]:g} {gpu} are spot and may be taken away"
        for gpu, n in space.spot_count(replicas).items()
    ]


def _binding(objectives: Objectives, chosen: Settled) -> list[str]:
    score, question = chosen.score, objectives.case.question
    found = [
        f"{f.label} binds: {duration(f.ms)} of {duration(f.at_most_ms)} ({f.ratio:.1%})"
        for f in sorted(score.figures, key=lambda f: -f.ratio)
        if f.at_most_ms is not None and f.ratio >= BINDING_RATIO
    ]
    tightest = max((f for f in score.figures if f.at_most_ms), key=lambda f: f.ratio, default=None)
    if not found and tightest is not None:
        found.append(
            f"no latency limit binds; the tightest is {tightest.label} at {tightest.ratio:.1%}"
        )
    full = [
        name
        for name, used, n in zip(
            objectives.case.space.pool_names, score.utilisation, chosen.replicas, strict=True
        )
        if n > 0 and used >= (1 - question.headroom_ratio) * 0.999
    ]
    if full:
        keep = f"{question.headroom_ratio:.0%} headroom"
        found.append(f"at their capacity less {keep}: {', '.join(full)}")
    floor = question.quality_at_least
    if floor is not None:
        above = round(score.quality - floor, 4) + 0.0  # never -0.0000
        found.append(f"quality is {above:+.4f} from its floor of {floor:g}")
    return found


def _one_less(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns what breaks, or is saved, without one replica of each pool."""
    case = objectives.case
    found = []
    for p in np.flatnonzero(chosen.replicas > case.space.lower).tolist():
        fewer = chosen.replicas.copy()
        fewer[p] -= 1
        if not fewer.any():
            continue
        name = case.space.pool_names[p]
        e = objectives.evaluate(fewer)
        if e.violation > PROMISING:
            found.append(f"one {name} less will not do: {_shortfall(objectives, e)}")
            continue
        settled = settle(objectives, fewer)
        if not settled.acceptable:
            found.append(f"one {name} less will not do: {settled.score.problems[0]}")
            continue
        saved = chosen.cost_usd_per_h - settled.cost_usd_per_h
        at = f"at quality {settled.score.quality:.4f}"
        if objectives.maximises_rate:
            at = f"carrying {settled.rate_factor:.3f} times the traffic"
        money = f"save {saved:.2f} $/h" if saved > LEAST_USD_PER_H else "save nothing"
        found.append(f"one {name} less would do and {money}, {at}")
    return found


def _shortfall(objectives: Objectives, e: Evaluation) -> str:
    """Returns what a deployment misses first: traffic, then limits, then quality."""
    workload = objectives.case.workload
    lost = float(e.routing.unserved @ workload.weights)
    if lost > 1e-6:
        return f"{lost:.1%} of the traffic has no place within limits and floors"
    if workload.limits and e.latency > 1.0 + 1e-6:
        return f"a latency limit is missed by {e.latency - 1:.1%}"
    floor = workload.quality_at_least
    if floor is not None and e.quality < floor:
        return f"quality falls to {e.quality:.4f}, floor {floor:g}"
    budget = objectives.case.question.budget_usd_per_h
    if budget is not None and e.cost_usd_per_h > budget:
        return f"hosted requests raise the cost to {e.cost_usd_per_h:.2f} $/h, budget {budget:g}"
    return "a limit or a floor of a class is missed"


def _one_more(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns what one more replica on each kind of GPU would buy at best."""
    case = objectives.case
    found = []
    for gpu in case.space.offers:
        best: Evaluation | None = None
        name = ""
        for p, pool in enumerate(case.space.pool_names):
            more = chosen.replicas.copy()
            more[p] += 1
            if case.space.gpu_of[p] != gpu or not case.space.admits(more):
                continue
            e = objectives.evaluate(more)
            better = best is None or _gain(objectives, e) > _gain(objectives, best)
            if e.violation <= 0 and better:
                best, name = e, pool
        if best is not None:
            found.append(_addition(objectives, chosen, best, gpu, name))
    return found


def _addition(
    objectives: Objectives, chosen: Settled, best: Evaluation, gpu: str, name: str
) -> str:
    """Returns what the best single addition on a GPU buys; never less than nothing."""
    extra = best.cost_usd_per_h - chosen.cost_usd_per_h
    if extra < -LEAST_USD_PER_H:
        return (
            f"best single addition on {gpu}: one {name} saves {-extra:.2f} $/h of hosted requests"
        )
    now, then, what = chosen.score.quality, best.quality, "quality"
    if objectives.maximises_rate:
        now, then, what = chosen.rate_factor, best.routing.rate_factor, "rate factor"
    if then - now < LEAST_GAIN:
        return f"one more replica on {gpu} buys no {what}"
    return (
        f"best single addition on {gpu}: one {name} for {extra:.2f} $/h, {what} {then - now:+.4f}"
    )


def _cautions(objectives: Objectives, chosen: Settled) -> list[str]:
    """Returns what the reader should doubt: extrapolation, estimates, wide bands."""
    found = []
    names = objectives.case.space.pool_names
    used = [p for p, n in zip(objectives.case.pools, chosen.replicas, strict=True) if n > 0]
    guessed = [p.name for p in used if p.pool.origin in ("estimated", "assumed")]
    if guessed:
        found.append(f"figures of these pools are estimated or assumed: {', '.join(guessed)}")
    beyond = [n for n, e in zip(names, chosen.score.extrapolated, strict=True) if e]
    if beyond:
        found.append(f"outside the measured loads: {', '.join(beyond)} (band widened)")
    at_risk = [
        f.label
        for f in chosen.score.figures
        if f.at_most_ms is not None and f.ratio <= 1 + MET_TOLERANCE and f.high_ms > f.at_most_ms
    ]
    if at_risk:
        found.append(f"the error band reaches beyond the limit of: {', '.join(at_risk)}")
    estimated = sorted({f.metric for f in chosen.score.figures if f.origin == "estimated"})
    if estimated:
        found.append(f"estimated, not measured in the open loop: {', '.join(estimated)}")
    return found


def _gain(objectives: Objectives, e: Evaluation) -> tuple[float, float]:
    if objectives.maximises_rate:
        return e.routing.rate_factor, -e.cost_usd_per_h
    if objectives.objective == "cost":
        return -round(e.cost_usd_per_h, 4), e.quality
    return round(e.quality, 6), -e.cost_usd_per_h
