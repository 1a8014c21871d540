"""How fast each pool is: what was measured, the fit with its band, where the plan runs it."""

from __future__ import annotations

from planner.report.page.markup import element, joined
from planner.report.page.parts import Section, note
from planner.report.page.pictures import CURVES, picture
from planner.report.page.subject import Subject


def speed_section(subject: Subject) -> Section | None:
    """Returns the latency curves of the deployed pools; None without their profiles."""
    if subject.inputs is None:
        return None
    parts = []
    for row in subject.plan.deployment:
        drawn = picture(f"{CURVES}{row.pool}", subject)
        if drawn is not None:
            parts += [element("h3", row.pool), drawn]
    if not parts:
        return None
    lead = (
        "Of one replica, by its load: measured points, the fitted curve, the band in which 9 in 10 "
        "true figures lie, and the load at which the plan runs it."
    )
    changed = [name for name in subject.stale if name.startswith("profiles/")]
    remark = None
    if changed:
        remark = note("Profiles have changed since the plan was made: these are today's.")
    return Section("speed", "How fast the pools are", lead, joined(remark, parts))
