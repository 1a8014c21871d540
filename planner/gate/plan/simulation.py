"""Whether what a plan says of its simulation is of this plan, and follows from its own figures.

Nothing is played again, so a figure that was invented with care passes: `rb simulate` plays the
plan, and `rb plan` with the same seed makes the same bytes. A verdict that its own interval does
not give, a limit that is another one, and a simulation of another deployment are found here.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.gate.finding import Finding, error
from planner.spec.plan import LatencyFigure, Plan, Simulated, SimulatedFigure, Verdict

MS_ROUNDING = 0.1  # §6: verdicts are given before the interval is rounded
USD_ROUNDING = 2e-4
RATIO_ROUNDING = 2e-6
NEAR_RATIO = 1e-3  # rates of few decimals, summed
PLAN_AGAIN = "rb plan DIR"
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
            yield _differs(f".latency[{_label(figure)}].verdict", what)
    yield from _subject(plan, said)
    yield from _sums(said)


def _limits(plan: Plan, said: Simulated) -> Iterator[Finding]:
    """Yields limits that were not tried, or tried as others."""
    tried = {_label(f): f.at_most_ms for f in said.latency if f.at_most_ms is not None}
    asked = {_label(f): f.at_most_ms for f in plan.predicted.latency if f.at_most_ms is not None}
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
    if figure.high_ms <= limit + MS_ROUNDING:
        found.append("met")
    if figure.low_ms > limit - MS_ROUNDING:
        found.append("missed")
    if figure.low_ms <= limit + MS_ROUNDING and figure.high_ms > limit - MS_ROUNDING:
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


def _sums(said: Simulated) -> Iterator[Finding]:
    """Yields figures that do not follow from the others."""
    total = sum(said.class_rps.values())
    if abs(said.rate_rps - total) > NEAR_RATIO * max(said.rate_rps, total):
        yield _differs(".rate_rps", f"says {said.rate_rps:g}, its classes have {total:g}")
    if not 0 <= said.n_failed + said.n_refused <= said.n_requests or said.n_requests == 0:
        ended = f"{said.n_failed} failed and {said.n_refused} refused"
        yield _differs(".n_requests", f"says {said.n_requests}, with {ended}")
    ratios = [min(f.ms / f.at_most_ms, 1e6) for f in said.latency if f.at_most_ms is not None]
    largest, told = max(ratios, default=None), said.latency_ratio
    is_off = (told is None) != (largest is None)
    if told is not None and largest is not None:
        is_off = abs(told - largest) > RATIO_ROUNDING * max(1.0, largest)
    if is_off:
        yield _differs(".latency_ratio", f"says {told}, its figures give {largest}")


def _label(figure: LatencyFigure | SimulatedFigure) -> str:
    return f"{figure.statistic} {figure.metric} of {figure.class_name or 'all traffic'}"


def _differs(field: str, what: str) -> Finding:
    return error("simulation-differs", f"{WHERE}{field}", what, PLAN_AGAIN)
