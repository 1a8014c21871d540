"""How full the plan's pools would be with the traffic that was seen, sent as the plan sends it.

Notation (class c, pool p)
    l_c        requests per second that were seen, refused ones too; those of no class are dealt
               to the classes as these were planned
    v_cp       visits per request, with as many escalations as were seen (flows.py)
    w_cp       planned work of a visit, at lengths i and o
    a, b       work per token of prompt and answer   r_i, r_o  seen over planned mean length
    n_p, M_p   replicas; load that utilisation 1 stands for

Program
    w'_cp = w_cp + a i (r_i - 1) + b o (r_o - 1)
    U_p   = sum_c l_c v_cp w'_cp / (n_p M_p)
    var   = sum_c (v_cp w'_cp / (n_p M_p))^2 var(l_c)
            + sum_c (l_c v_cp / (n_p M_p))^2 ((a i r_i cv_i)^2 + (b o r_o cv_o)^2) / k_c

with k_c the lengths known, and var(l_c) such that 1.96 standard errors are half the interval.
At other rates and another mix U is just what the tables say. The work is taken as linear in the
lengths, as it is in those of prompts. Long answers read more of themselves: at 1.3 times the
planned length that makes U a hundredth too low, at twice or at half up to a tenth. Planning anew
says what it is exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.drift.finding import Finding
from planner.drift.flows import visits
from planner.drift.intervals import Interval, Z, of_rate
from planner.drift.observed import Lengths, Observed
from planner.drift.traffic import FEWEST_LENGTHS, class_lengths, dispersion, escalated_times
from planner.spec.plan import Routes
from planner.spec.sheet import AnswerSheet, ServingSheet

LEAST_WORK_RATIO = 0.05
"""Of the planned work of a request: what is linear near it would fall below zero far from it."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a class that makes work."""

    rate: Interval  # requests per second
    n: float
    input_ratio: float
    output_ratio: float
    input_tokens: Lengths
    output_tokens: Lengths

    @property
    def rate_rps(self) -> float:
        """Returns the estimate of the rate."""
        return self.rate.value

    @property
    def n_lengths(self) -> float:
        """Returns how many answers told their lengths."""
        return self.output_tokens.n


def seen_of(observed: Observed, sheet: ServingSheet) -> dict[str, Seen]:
    """Returns what was seen of each class: its rate with its part of the requests of no class."""
    known = {name: observed.n_offered.get(name, 0.0) for name in sheet.classes}
    n_strange = observed.n_requests - sum(known.values())
    planned = sum(each.rate_rps for each in sheet.classes.values())
    found = {}
    for name, each in sheet.classes.items():
        n = known[name] + (n_strange * each.rate_rps / planned if planned > 0 else 0.0)
        planned_input, prompts = class_lengths(observed, each, name, "input_tokens")
        planned_output, made = class_lengths(observed, each, name, "output_tokens")
        found[name] = Seen(
            rate=of_rate(n, observed.seconds, dispersion(sheet)),
            n=n,
            input_ratio=_ratio(prompts, planned_input),
            output_ratio=_ratio(made, planned_output),
            input_tokens=prompts,
            output_tokens=made,
        )
    return found


def _ratio(seen: Lengths, planned_tokens: float) -> float:
    """Returns seen over planned mean length; 1 where too few are known."""
    if seen.n < FEWEST_LENGTHS or planned_tokens <= 0:
        return 1.0
    return seen.mean / planned_tokens


def utilisation_findings(
    observed: Observed, sheet: ServingSheet, routes: Routes
) -> Iterator[Finding]:
    """Yields the utilisation that each pool of the plan would have with the traffic seen."""
    seen, most = seen_of(observed, sheet), 1.0 - sheet.headroom_ratio
    asked = {
        name: visits(routes, name, escalated_times(observed, routes, name))
        for name in sheet.classes
    }
    for pool, each in sheet.pools.items():
        room = each.n_replicas * each.max_load_ratio
        total, variance, n = 0.0, 0.0, 0.0
        for name, planned in sheet.classes.items():
            n_visits = asked[name].get(pool, 0.0)
            if n_visits > 0 and pool in planned.answers:
                work_s, spread = _work_s(planned.answers[pool], seen[name])
                rate, per_rps = seen[name].rate, n_visits / room
                total += rate.value * per_rps * work_s
                n += seen[name].n * n_visits
                variance += (per_rps * work_s * (rate.high - rate.low) / (2.0 * Z)) ** 2
                variance += (rate.value * per_rps) ** 2 * spread
        half = Z * variance**0.5
        is_seen = Interval(total, max(total - half, 0.0), total + half)
        means = f"above the {most:.0%} that leave the headroom: plan again"
        yield Finding(
            "utilisation", pool, "", "ratio", each.utilisation_ratio, is_seen, 0.0, most, n, means
        )


def _work_s(planned: AnswerSheet, seen: Seen) -> tuple[float, float]:
    """Returns the work of a request at the lengths seen, in s, and the variance of its mean."""
    by_input = planned.work_s_per_input_token * planned.input_tokens
    by_output = planned.work_s_per_output_token * planned.output_tokens
    work_s = planned.work_s + by_input * (seen.input_ratio - 1.0)
    work_s += by_output * (seen.output_ratio - 1.0)
    work_s = max(work_s, LEAST_WORK_RATIO * planned.work_s)
    if seen.n_lengths < FEWEST_LENGTHS:
        return work_s, 0.0
    spread = (by_input * seen.input_ratio * seen.input_tokens.cv) ** 2
    spread += (by_output * seen.output_ratio * seen.output_tokens.cv) ** 2
    return work_s, spread / seen.n_lengths
