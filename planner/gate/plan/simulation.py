"""Whether what a plan says of its simulation is of this plan, and follows from its own figures.

Nothing is played again, so a figure that was invented with care passes: `rb simulate` plays the
plan, and `rb plan` with the same seed makes the same bytes. A verdict that its own interval does
not give, a limit that is another one, sums that are none, and a simulation of another deployment or
of other traffic are found here.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.gate.plan.roundings import USD_ROUNDING
from planner.spec.plan import MS_STEP, Plan, Simulated, SimulatedFigure, Verdict

RATIO_ROUNDING = 2e-6
NEAR_RATIO = 1e-3  # rates of few decimals, summed
RATE_RATIO, RATE_SPREAD = 0.1, 30.0
"""The rate of n requests may be so far off: a tenth, and 30/sqrt(n), three deviations at cv 10."""

WHERE = "plan.json:simulated"


def simulation_findings(plan: Plan) -> Iterator[Finding]:
    """Yields where the simulation in a plan's file cannot be the one that was played for it."""
    said = plan.simulated
    if said is None:
        return
    yield from _limits(plan, said)
    for figure in said.latency:
        possible = _verdicts(figure)
        if figure.verdict not in possible:
            what = (
                f"is {figure.verdict or 'nothing'}, the interval from {figure.low_ms:,.1f} to "
                f"{figure.high_ms:,.1f} ms is {' or '.join(map(str, possible))}"
            )
            yield _differs(f".latency[{figure.label}].verdict", what)
    yield from _subject(plan, said)
    yield from _traffic(plan, said)
    yield from _sums(said)
    yield from _goodput(said)


def _limits(plan: Plan, said: Simulated) -> Iterator[Finding]:
    """Yields limits that were not tried, or tried as others."""
    tried = {f.label: f.at_most_ms for f in said.latency if f.at_most_ms is not None}
    asked = {f.label: f.at_most_ms for f in plan.predicted.latency if f.at_most_ms is not None}
    for label in dict.fromkeys((*asked, *tried)):
        was, limit = tried.get(label), asked.get(label)
        if was != limit:
            old, new = ("none" if ms is None else f"{ms:,.1f} ms" for ms in (was, limit))
            yield _differs(f".latency[{label}].at_most_ms", f"is {old}, the plan's limit is {new}")


def _verdicts(figure: SimulatedFigure) -> tuple[Verdict | None, ...]:
    """Returns what may be said of an interval: two things where rounding hides which."""
    limit = figure.at_most_ms
    if limit is None:
        return (None,)
    found: list[Verdict | None] = []
    if figure.high_ms <= limit + MS_STEP:  # verdicts are given before the interval is rounded
        found.append("met")
    if figure.low_ms > limit - MS_STEP:
        found.append("missed")
    if figure.low_ms <= limit + MS_STEP and figure.high_ms > limit - MS_STEP:
        found.append("too close to call")
    return tuple(found)


def _subject(plan: Plan, said: Simulated) -> Iterator[Finding]:
    """Yields where another plan was played."""
    played, deployed = (
        sorted(each.pool for each in rows) for rows in (said.pools, plan.deployment)
    )
    if played != deployed:
        what = f"is of {', '.join(played) or 'no pool'}, the plan deploys {', '.join(deployed)}"
        yield _differs(".pools", what)
    names, planned = sorted(said.class_rps), sorted(plan.predicted.class_rps)
    if names != planned:
        what = f"is of {', '.join(names) or 'no class'}, the plan serves {', '.join(planned)}"
        yield _differs(".class_rps", what)
    rents_all = all(row.gpu is not None for row in plan.deployment)  # requests cost as they come
    cost = plan.predicted.cost_usd_per_h
    if rents_all and abs(said.cost_usd_per_h - cost) > USD_ROUNDING:
        what = f"says ${said.cost_usd_per_h:,.4f}, the deployment's rent is ${cost:,.4f}"
        yield _differs(".cost_usd_per_h", what)


def _traffic(plan: Plan, said: Simulated) -> Iterator[Finding]:
    """Yields where other traffic was played than is planned for, beyond what chance makes of it."""
    planned, factor = plan.predicted.rate_rps, plan.predicted.rate_factor or 1.0
    if said.rate_factor != factor:
        yield _differs(".rate_factor", f"says {said.rate_factor:g}, the plan is for {factor:g}")
    by_chance = RATE_RATIO + RATE_SPREAD / max(said.n_requests, 1) ** 0.5
    if abs(said.rate_rps - planned) > by_chance * planned:
        what = f"says {said.rate_rps:g}, the plan is for {planned:g} requests/s"
        yield _differs(".rate_rps", what)
    if len(set(said.seeds)) < len(said.seeds):
        yield _differs(".seeds", "counts one run twice")


def _sums(said: Simulated) -> Iterator[Finding]:
    """Yields figures that do not follow from the others."""
    total, n_runs = sum(said.class_rps.values()), len(said.seeds)
    points = sum(said.class_quality.get(name, 0.0) * rps for name, rps in said.class_rps.items())
    for field, counted, gives in (
        ("rate_rps", said.rate_rps, total),
        ("goodput_rps", said.goodput_rps, sum(said.class_goodput_rps.values())),
        ("quality", said.quality, points / total if total > 0 else 0.0),
        ("n_requests", said.n_requests, said.rate_rps * said.duration_s * n_runs),
    ):
        rounding = 1.0 if field == "n_requests" else 2e-6
        if abs(counted - gives) > NEAR_RATIO * max(counted, gives) + rounding:
            yield _differs(f".{field}", f"says {counted:g}, the figures beside it give {gives:g}")
    if not 0 <= said.n_failed + said.n_refused <= said.n_requests or said.n_requests == 0:
        ended = f"{said.n_failed} failed and {said.n_refused} refused"
        yield _differs(".n_requests", f"says {said.n_requests}, with {ended}")
    ratios = [min(f.ms / f.at_most_ms, 1e6) for f in said.latency if f.at_most_ms is not None]
    largest, ratio = max(ratios, default=None), said.latency_ratio
    is_off = (ratio is None) != (largest is None)
    if ratio is not None and largest is not None:
        is_off = abs(ratio - largest) > RATIO_ROUNDING * max(1.0, largest)
    if is_off:
        yield _differs(".latency_ratio", f"says {ratio}, its figures give {largest}")


def _goodput(said: Simulated) -> Iterator[Finding]:
    """Yields good answers of other classes, or more of them than there are answers."""
    for field, by_class in (
        ("class_quality", said.class_quality),
        ("class_goodput_rps", said.class_goodput_rps),
    ):
        if by_class.keys() != said.class_rps.keys():
            yield _differs(f".{field}", f"is of {', '.join(sorted(by_class)) or 'no class'}")
    lost = (said.n_failed + said.n_refused) / max(said.n_requests, 1)
    answered_rps = said.rate_rps * max(0.0, 1.0 - lost)
    if said.goodput_rps > answered_rps * (1.0 + NEAR_RATIO):
        what = f"says {said.goodput_rps:g} good answers per second, {answered_rps:g} are answered"
        yield _differs(".goodput_rps", what)
    elif not said.goodput_low_rps <= said.goodput_rps <= said.goodput_high_rps:
        what = f"goes from {said.goodput_low_rps:g} to {said.goodput_high_rps:g}"
        yield _differs(".goodput_rps", f"is {said.goodput_rps:g}, its interval {what}")


def _differs(field: str, what: str) -> Finding:
    return error("simulation-differs", f"{WHERE}{field}", what, PLAN_AGAIN)
