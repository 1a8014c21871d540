"""The cheapest path through the periods: one known deployment in each, changes paid.

Notation (see periods.py)
    K_t      known deployments of period t                            count             (T,)
    d_kl     money of changing from deployment k to l                 $                 (K_t-1, K_t)
    e_tk     money of deployment k in period t, reserved GPUs free    $                 (T, K_t)
    R_g      reserved GPUs of a kind that are paid for, cheapest first  GPUs            (G,)

Program, at given R
    V_t(k) = e_tk + min_l { V_t-1(l) + d_lk }          (shortest path)
and where periods repeat, for every deployment of the first period by itself, so that the path
closes in it: the period with the fewest deployments is taken as the first. Exact over the known
deployments.

For a given path the money is convex and piecewise linear in R_g; its corners are where a period's
use is just covered, with one offer by the hour more or less. So those values alone are tried, one
kind of GPU after the other until none is better: exact with one kind, a descent with several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.exact.periods import Candidate, Schedule
from planner.space import Offer, Space
from planner.spec.arrays import FloatArray, IntArray

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Bill:
    """What a path costs from the first hour to the last, in $."""

    reserved_usd: float
    by_the_hour_usd: float
    hosted_usd: float
    changes_usd: float

    @property
    def usd(self) -> float:
        """Returns the whole."""
        return self.reserved_usd + self.by_the_hour_usd + self.hosted_usd + self.changes_usd


@dataclass(frozen=True)
class Path:
    """A deployment for each period, and the reserved GPUs that are paid for in all of them."""

    chosen: tuple[int, ...]  # which of a period's known deployments, (T,)
    reserved: dict[str, float]  # GPUs by kind, of kinds that can be reserved
    usd: float


def cheapest_path(schedule: Schedule, known: Sequence[Sequence[Candidate]]) -> Path:
    """Returns the cheapest path over known deployments, (T,), at least one in each period."""
    search = _Search.of(schedule, known)
    starts = [
        dict.fromkeys(search.corners, 0.0),
        {gpu: max(values) for gpu, values in search.corners.items()},
    ]
    return min((search.descent(start) for start in starts), key=lambda path: path.usd)


def bill(
    schedule: Schedule, path: Sequence[Candidate], reserved: Mapping[str, float]
) -> Bill | None:
    """Returns what a path costs, None where its periods need more GPUs than there are.

    Args:
        schedule: the periods.
        path: the deployment of each period, (T,).
        reserved: GPUs by kind that are paid for in all hours.
    """
    space = schedule.space
    by_the_hour = sum(
        hours * by_the_hour_usd_per_h(space, candidate, reserved)
        for hours, candidate in zip(schedule.hours.tolist(), path, strict=True)
    )
    kept_usd = sum(kept_usd_per_h(space.offers[gpu], n) for gpu, n in reserved.items())
    replicas = np.array([candidate.replicas for candidate in path])
    changed = np.abs(replicas - replicas[schedule.before])
    hosted = np.array([candidate.hosted_usd_per_h for candidate in path])
    found = Bill(
        reserved_usd=kept_usd * float(schedule.hours.sum()),
        by_the_hour_usd=by_the_hour,
        hosted_usd=float(schedule.hours @ hosted),
        changes_usd=float((changed @ schedule.change_usd).sum()),
    )
    return found if np.isfinite(found.usd) else None


def by_the_hour_usd_per_h(
    space: Space, candidate: Candidate, reserved: Mapping[str, float]
) -> float:
    """Returns what a deployment's GPUs beyond the reserved ones cost in $/h; inf beyond supply."""
    return sum(
        float(_hourly_usd(space.offers[gpu], np.array([used - reserved.get(gpu, 0.0)]))[0])
        for gpu, used in space.gpu_count(candidate.replicas).items()
    )


def kept_usd_per_h(offers: Sequence[Offer], n_gpus: float) -> float:
    """Returns what reserving GPUs of one kind costs in $/h, cheapest first; inf beyond them."""
    kept = [offer for offer in offers if offer.kind == "reserved"]
    return float(_in_order_usd(kept, np.array([n_gpus]))[0])


def _hourly_usd(offers: Sequence[Offer], n_gpus: FloatArray) -> FloatArray:
    """Returns what GPUs beyond the reserved ones cost in $/h, (n,); inf where there are none."""
    return _in_order_usd([offer for offer in offers if offer.kind != "reserved"], n_gpus)


def _in_order_usd(offers: Sequence[Offer], n_gpus: FloatArray) -> FloatArray:
    """Returns the price in $/h of GPUs (n,) taken from offers, cheapest first."""
    left, usd = np.maximum(n_gpus, 0.0), np.zeros(n_gpus.shape)
    for offer in sorted(offers, key=lambda offer: offer.usd_per_h):
        taken = np.minimum(left, offer.count)
        usd, left = usd + taken * offer.usd_per_h, left - taken
    return np.where(left > TOLERANCE, np.inf, usd)


@dataclass(frozen=True)
class _Search:
    """The known deployments as arrays, periods turned so that the first has the fewest."""

    schedule: Schedule
    order: IntArray  # (T,)
    used: tuple[dict[str, FloatArray], ...]  # GPUs by kind of each deployment, (T,) of (K_t,)
    hosted_usd: tuple[FloatArray, ...]  # (T,) of (K_t,)
    change_usd: tuple[FloatArray, ...]  # into each period from the one before, (T,)
    corners: dict[str, list[float]]  # values of R_g to try, of kinds that can be reserved

    @classmethod
    def of(cls, schedule: Schedule, known: Sequence[Sequence[Candidate]]) -> _Search:
        """Returns the search over known deployments."""
        n = schedule.n_periods
        first = min(range(n), key=lambda t: len(known[t])) if schedule.repeats else 0
        order = (np.arange(n) + first) % n
        replicas = [np.array([c.replicas for c in each]) for each in known]
        used, hosted, change = [], [], []
        for t in order.tolist():
            counts = [schedule.space.gpu_count(c.replicas) for c in known[t]]
            used.append({g: np.array([c[g] for c in counts]) for g in schedule.space.offers})
            usd = np.array([c.hosted_usd_per_h for c in known[t]])
            hosted.append(float(schedule.hours[t]) * usd)
            there, here = replicas[int(schedule.before[t])], replicas[t]
            moved = np.abs(there[:, None, :] - here[None, :, :])
            change.append(moved @ schedule.change_usd)
        corners = {
            gpu: _corners(offers, [each[gpu] for each in used])
            for gpu, offers in schedule.space.offers.items()
            if any(offer.kind == "reserved" for offer in offers)
        }
        return cls(schedule, order, tuple(used), tuple(hosted), tuple(change), corners)

    def descent(self, start: dict[str, float]) -> Path:
        """Returns the best path found from a start, one kind of GPU improved after the other."""
        best = self.at(start)
        improved = True
        while improved:
            improved = False
            for gpu, values in self.corners.items():
                tried = [self.at({**best.reserved, gpu: value}) for value in values]
                found = min(tried, key=lambda path: path.usd, default=best)
                if found.usd < best.usd - TOLERANCE * max(1.0, abs(best.usd)):
                    best, improved = found, True
        return best

    def at(self, reserved: dict[str, float]) -> Path:
        """Returns the cheapest path with given reserved GPUs; inf where they do not suffice."""
        space, hours = self.schedule.space, self.schedule.hours[self.order]
        own = []
        for t, used in enumerate(self.used):
            usd = self.hosted_usd[t].copy()
            for gpu, n_gpus in used.items():
                more = n_gpus - reserved.get(gpu, 0.0)
                usd += hours[t] * _hourly_usd(space.offers[gpu], more)
            own.append(usd)
        kept = sum(kept_usd_per_h(space.offers[gpu], n) for gpu, n in reserved.items())
        chosen, usd_of_path = self._shortest(own)
        turned = np.empty(self.order.size, dtype=np.int64)
        turned[self.order] = chosen
        total = usd_of_path + kept * float(hours.sum())
        return Path(tuple(turned.tolist()), dict(reserved), float(total))

    def _shortest(self, own: Sequence[FloatArray]) -> tuple[list[int], float]:
        """Returns the shortest path through the turned periods and its length in $."""
        repeats, n = self.schedule.repeats, len(own)
        # One row of V for every deployment that the path may start, and close, in.
        value = np.full((own[0].size, own[0].size), np.inf)
        np.fill_diagonal(value, own[0])
        if not repeats:
            value = value.min(axis=0, keepdims=True)
        came: list[IntArray] = []
        for t in range(1, n):
            ways = value[:, :, None] + self.change_usd[t][None, :, :]
            came.append(np.argmin(ways, axis=1))
            value = ways.min(axis=1) + own[t]
        if repeats and n > 1:
            value = value + self.change_usd[0].T
        start, last = np.unravel_index(int(np.argmin(value)), value.shape)
        chosen = [int(last)]
        for back in reversed(came):
            chosen.append(int(back[start, chosen[-1]]))
        return chosen[::-1], float(value[start, last])


def _corners(offers: Sequence[Offer], used: Sequence[FloatArray]) -> list[float]:
    """Returns the numbers of reserved GPUs at which the money of a path can bend, ascending."""
    kept = sum(offer.count for offer in offers if offer.kind == "reserved")
    hourly = sorted((o.usd_per_h, o.count) for o in offers if o.kind != "reserved")
    covered = np.concatenate([[0.0], np.cumsum([n for _, n in hourly])])
    every = np.unique(np.concatenate(used))
    reserved = sorted((o.usd_per_h, o.count) for o in offers if o.kind == "reserved")
    values = np.concatenate(
        [(every[:, None] - covered).ravel(), np.cumsum([n for _, n in reserved]), [0.0]]
    )
    return [float(v) for v in np.unique(values) if 0.0 <= v <= kept]
