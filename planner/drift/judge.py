"""Judges whether real traffic is still what a plan was made for, and whether the plan still fits.

Two questions, never mixed. Has something changed? A figure has drifted where its whole 95 %
interval lies outside what counts as planned (finding.py; the tolerances stand in traffic.py and
service.py). Does it matter? Only what the plan promises can make it fit no longer: capacity with
its headroom, at the rates and lengths seen; latency limits; quality floors; room for all requests.

    traffic    rates, mix, lengths, shares,
               escalations of cascades             differences, told
    service    predicted latencies, errors         differences, told
               limits, refusals, floors            promises
    capacity   utilisation with what was seen      promise

Nothing here reads a file or a clock, and a report takes about as long as a page of metrics.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.drift.capacity import utilisation_findings
from planner.drift.finding import DriftReport, Finding, Fits
from planner.drift.observed import Observed
from planner.drift.service import failure_findings, latency_findings, quality_findings
from planner.drift.traffic import (
    escalation_findings,
    length_findings,
    mix_findings,
    rate_findings,
    share_findings,
)
from planner.errors import InputError
from planner.spec.plan import Routes
from planner.spec.sheet import ServingSheet

FEWEST_REQUESTS = 100
"""With fewer nothing is said of a plan, but that it is too early."""


def judge(observed: Observed, sheet: ServingSheet, routes: Routes) -> DriftReport:
    """Returns what has changed since a plan was made, and whether it still fits.

    Args:
        observed: what was seen of the traffic.
        sheet: what the plan expected.
        routes: where it sends requests.

    Raises:
        InputError: the page is of another plan, or the sheet is not of the routes.
    """
    _need_one_plan(observed, sheet, routes)
    used = tuple(utilisation_findings(observed, sheet, routes))
    findings = (
        *used,
        *rate_findings(observed, sheet),
        *mix_findings(observed, sheet),
        *length_findings(observed, sheet),
        *share_findings(observed, sheet, routes),
        *escalation_findings(observed, sheet, routes),
        *latency_findings(observed, sheet, {each.where: each.seen.value for each in used}),
        *failure_findings(observed, sheet),
        *quality_findings(observed, sheet, routes),
    )
    return DriftReport(
        plan_hash=sheet.plan_hash,
        seconds=observed.seconds,
        n_requests=observed.n_requests,
        fits=_fits(observed, findings),
        findings=findings,
        notes=tuple(_notes(observed, sheet)),
    )


def _fits(observed: Observed, findings: tuple[Finding, ...]) -> Fits:
    if observed.n_requests < FEWEST_REQUESTS:
        return "too early to tell"
    return "no longer fits" if any(f.breaks for f in findings) else "fits"


def _need_one_plan(observed: Observed, sheet: ServingSheet, routes: Routes) -> None:
    if routes.plan_hash != sheet.plan_hash:
        what = "is not of the plan of routes.json: its plan_hash is another one"
        raise InputError.single("serving.json", "plan_hash", what, "rb plan DIR writes both")
    if observed.plan_hashes != (sheet.plan_hash,):
        served = ", ".join(plan_hash[:12] or "none" for plan_hash in observed.plan_hashes)
        what = f"rb serve has another plan ({served}), this is {sheet.plan_hash[:12]}"
        fix = "give the plan folder that is served, or wait until it has been reloaded"
        raise InputError.single(observed.source, "", what, fix)


def _notes(observed: Observed, sheet: ServingSheet) -> Iterator[str]:
    if observed.n_requests < FEWEST_REQUESTS:
        yield (
            f"{observed.n_requests:.0f} requests are too few to judge a plan, "
            f"{FEWEST_REQUESTS} are needed"
        )
    if sheet.period is not None:
        yield f"judged as of period {sheet.period}, the busiest; shares by period are not judged"
    elif sheet.rate_varies:
        yield (
            "the question's rate varies: only more than what was planned for is drift, "
            "and utilisation is that of the mean rate seen"
        )
