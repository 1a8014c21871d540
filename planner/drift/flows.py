"""Where a plan sends a class: who gives its answers, and who works for them.

Notation (one class, a cascade of share s that escalates the share e)
    f, g   shares of the pools of its first and second stage, each summing to 1
    m      how many times as often as planned it escalates                         1

    escalations         sum s e
    answers of a pool   direct share + sum s ((1 - m e) f + m e g)  sums to 1
    visits of a pool    direct share + sum s (f + m e g)            work is done for all of them

with m e at most 1.
"""

from __future__ import annotations

from collections import defaultdict

from planner.spec.plan import PeriodRoutes, Routes


def answers(routes: Routes | PeriodRoutes, class_name: str, times: float = 1.0) -> dict[str, float]:
    """Returns the share of a class's answers that each pool gives."""
    return _sums(routes, class_name, times, delivered=True)


def visits(routes: Routes, class_name: str, times: float = 1.0) -> dict[str, float]:
    """Returns how often each pool is asked per request of a class.

    Args:
        routes: of the plan.
        class_name: one of its classes.
        times: how many times as often as planned cascades escalate.
    """
    return _sums(routes, class_name, times, delivered=False)


def escalations(routes: Routes, class_name: str) -> float:
    """Returns the planned share of a class's requests that are asked again."""
    return sum(each.share * each.escalated_ratio for each in routes.cascades.get(class_name, ()))


def _sums(
    routes: Routes | PeriodRoutes, class_name: str, times: float, delivered: bool
) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for entry in routes.classes.get(class_name, ()):
        found[entry.pool] += entry.share
    for cascade in routes.cascades.get(class_name, ()):
        escalated = min(times * cascade.escalated_ratio, 1.0)
        kept = 1.0 - escalated if delivered else 1.0
        for entry in cascade.first:
            found[entry.pool] += cascade.share * kept * entry.share
        for entry in cascade.second:
            found[entry.pool] += cascade.share * escalated * entry.share
    return dict(found)
