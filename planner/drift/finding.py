"""What drift finds: one figure as planned and as seen, and what it means for the plan."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from planner.drift.intervals import Interval

Kind = Literal[
    "rate", "mix", "unknown", "input_tokens", "output_tokens", "share", "escalated", "latency",
    "errors", "quality", "utilisation", "limit", "quality_floor", "refused",
]  # fmt: skip
Unit = Literal["req/s", "ratio", "tokens", "ms", "quality"]
Verdict = Literal["as planned", "drift", "open"]
Fits = Literal["fits", "no longer fits", "too early to tell"]

BREAKING: tuple[Kind, ...] = ("utilisation", "limit", "quality_floor", "refused")
"""Figures that the plan promises: all others may differ, and the plan still fit."""

ALL = "all traffic"

_NAMES: dict[Kind, str] = {
    "input_tokens": "prompt tokens",
    "output_tokens": "answer tokens",
    "quality_floor": "quality",
    "rate": "requests/s",
    "mix": "part",
    "unknown": "part",
    "escalated": "escalations",
    "refused": "refusals",
}


@dataclass(frozen=True)
class Finding:
    """One figure: planned, seen with its 95 % interval, and the range in which it is as planned.

    It is drift where the whole interval lies outside the range, as planned where it lies inside,
    and open where more requests are needed to tell.
    """

    kind: Kind
    where: str  # a class, a pool, "class -> pool", or all traffic
    what: str  # e.g. "p95 e2e"; empty where the kind says all
    unit: Unit
    planned: float
    seen: Interval
    least: float
    most: float
    n: float  # requests that it rests on
    means: str  # what follows, where it is drift

    @property
    def verdict(self) -> Verdict:
        """Returns whether the figure has changed, as far as can be told."""
        if self.seen.high < self.least or self.seen.low > self.most:
            return "drift"
        inside = self.seen.low >= self.least and self.seen.high <= self.most
        return "as planned" if inside else "open"

    @property
    def breaks(self) -> bool:
        """Returns whether the plan no longer fits because of it."""
        return self.kind in BREAKING and self.verdict == "drift"

    @property
    def name(self) -> str:
        """Returns what it is in a word or two, e.g. 'p95 e2e'."""
        return self.what or _NAMES.get(self.kind, self.kind)

    @property
    def label(self) -> str:
        """Returns what it is about, e.g. 'p95 e2e of math'."""
        return f"{self.name} of {self.where}"

    def as_dict(self) -> dict[str, object]:
        """Returns the finding as plain data; null where there is no bound."""
        return {
            "kind": self.kind,
            "where": self.where,
            "what": self.what,
            "unit": self.unit,
            "planned": _plain(self.planned),
            "seen": _plain(self.seen.value),
            "low": _plain(self.seen.low),
            "high": _plain(self.seen.high),
            "least": _plain(self.least),
            "most": _plain(self.most),
            "n_requests": _plain(self.n),
            "verdict": self.verdict,
            "breaks": self.breaks,
            "means": self.means if self.verdict == "drift" else "",
        }


@dataclass(frozen=True)
class DriftReport:
    """Whether real traffic is what a plan was made for, and whether the plan still fits it."""

    plan_hash: str
    seconds: float
    n_requests: float
    fits: Fits
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """Returns the figures that are not as planned, those that break the plan first.

        Of a few requests there are none: the first minute of a server would be drift, too.
        """
        if self.fits == "too early to tell":
            return ()
        drifted = [f for f in self.findings if f.verdict == "drift"]
        return tuple(sorted(drifted, key=lambda f: not f.breaks))

    def as_dict(self) -> dict[str, object]:
        """Returns the report as plain data, for JSON."""
        return {
            "plan_hash": self.plan_hash,
            "seconds": _plain(self.seconds),
            "n_requests": _plain(self.n_requests),
            "fits": self.fits,
            "n_drifted": len(self.drifted),
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": list(self.notes),
        }


def _plain(value: float) -> float | None:
    return None if abs(value) == inf else float(f"{value:.6g}")
