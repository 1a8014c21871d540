"""The best deployments that were found, and how far from the best possible they can be (§5).

What is drawn, over two of cost, quality, latency and traffic
    points     the plan's front; shape and colour say the third figure, a ring the plan itself
    found      the staircase of what these two figures can be had for, by the points
    whisker    from a point to what no deployment of at most its cost and latency exceeds
    out of reach
               above the staircase of those proofs that hold for every deployment within the limits
               (proof_stair), and below the least cost or latency of any plan where that is proved
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.report.drawing.axes import Panel, x_axis, y_axis, y_axis_width
from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import (
    Area,
    Drawing,
    Group,
    Label,
    Line,
    Mark,
    Marker,
    Path,
    Points,
    Rect,
    Role,
    Shape,
)
from planner.report.drawing.place import free_label
from planner.report.drawing.scales import Scale, logarithmic
from planner.report.figure.axis import Axis, AxisName, axes_of, axis_of
from planner.report.figure.reach import gain_of, least_possible, proof_stair
from planner.report.figure.words import (
    WIDE,
    is_roomy,
    latency,
    money,
    percent,
)
from planner.report.figures import number
from planner.report.figures import quality as score
from planner.spec.plan import FrontPoint, Plan

FROM_ZERO = 0.4  # an axis whose least value is below this share of its largest begins at 0
GROUND = 0.45  # opacity of what is out of reach
LOG_FROM = 12.0  # largest over smallest value of a cost or latency
ROOMY_HEIGHT, CLOSE_HEIGHT = 300.0, 260.0  # px of the panel
BELOW, BESIDE = 46.0, 16.0  # px under and right of it
SIZE, RING = 11.0, 20.0  # px of a point, and of the ring around the plan's
REACH = 26.0  # px around a point that belong to it when a page is pointed at
BINS: tuple[tuple[Shape, Role], ...] = (
    ("circle", "series-1"),
    ("square", "series-3"),
    ("triangle", "series-2"),
)
_PLAIN: tuple[Shape, Role] = ("circle", "accent")


def front(
    plan: Plan, x: AxisName = "cost", y: AxisName = "quality", width: float = WIDE
) -> Drawing | None:
    """Returns the front over two figures, None where there are not two points that have them."""
    if len(plan.front) < 2:
        return None
    across, up = axis_of(plan, x), axis_of(plan, y)
    if across is None or up is None:
        return None
    third = _third(plan, (x, y))
    key = legend(_entries(plan, across, up, third), 0.0, 0.0, width)
    height = ROOMY_HEIGHT if is_roomy(width) else CLOSE_HEIGHT
    panel, x_scale, y_scale = _panel(plan, across, up, key.height + 34.0, width, height)
    places = _Places(plan, across, up, x_scale, y_scale, panel)
    marks: list[Mark] = [*key.marks, *_out_of_reach(places)]
    marks += y_axis(panel, y_scale, up.title, up.tick)
    marks += x_axis(panel, x_scale, across.title, across.tick)
    found = _found(places)
    marks += [Path(found, "accent", 1.5)] if found else []
    marks += _whiskers(places)
    marks += _points(places, third)
    marks += _plan_label(places, found)
    title = f"{y.capitalize()} over {x} of the best deployments"
    return Drawing(width, panel.bottom + BELOW, title, _described(places), tuple(marks))


@dataclass(frozen=True)
class _Places:
    """Where the points of a front lie."""

    plan: Plan
    x: Axis
    y: Axis
    x_scale: Scale
    y_scale: Scale
    panel: Panel

    def at(self, k: int) -> tuple[float, float]:
        """Returns the place of point k, in px."""
        return self.x_scale.at(self.x.values[k]), self.y_scale.at(self.y.values[k])

    @property
    def least_x(self) -> float | None:
        """Returns what is proved to be the least of the figure that goes across."""
        return least_possible(self.plan, self.x)

    @property
    def least_y(self) -> float | None:
        """Returns what is proved to be the least of the figure that goes up."""
        return least_possible(self.plan, self.y)

    @property
    def stair(self) -> tuple[tuple[float, float], ...]:
        """Returns what is proved for all costs, where the axes are those of the proof."""
        return proof_stair(self.plan) if self.x.name == "cost" and self.proved else ()

    @property
    def proved(self) -> bool:
        """Returns whether the proofs of points speak of the figure that goes up."""
        return self.y.name == gain_of(self.plan)


def _panel(
    plan: Plan, x: Axis, y: Axis, top: float, width: float, height: float
) -> tuple[Panel, Scale, Scale]:
    bottom = top + height
    y_low, y_high = min(y.span[0], least_possible(plan, y) or y.span[0]), y.span[1]
    if y.name == gain_of(plan):
        proofs = [p.best_possible for p in plan.front if p.best_possible is not None]
        y_high = max([y_high, *proofs, *(best for _, best in proof_stair(plan))])
    y_scale = _scale(y, y_low, y_high, bottom, top)
    left = y_axis_width(y_scale, y.tick)
    x_low, x_high = min(x.span[0], least_possible(plan, x) or x.span[0]), x.span[1]
    right = width - BESIDE
    return Panel(left, top, right, bottom), _scale(x, x_low, x_high, left, right), y_scale


def _scale(axis: Axis, low: float, high: float, start: float, end: float) -> Scale:
    """Returns the scale of an axis, with air around the values; latency and cost may be log."""
    if low > 0 and high / low > LOG_FROM and axis.name in ("cost", "latency"):
        return logarithmic(low, high, start, end)
    if low < FROM_ZERO * high:
        low = 0.0
    air = 0.05 * (high - low) or 0.05 * high or 1.0
    return Scale(max(low - air, 0.0), high + air, start, end)


def _out_of_reach(places: _Places) -> Iterator[Mark]:
    """Yields the ground of what is proved to be impossible."""
    panel, least_x, least_y = places.panel, places.least_x, places.least_y
    left = panel.left if least_x is None else places.x_scale.clipped(least_x)
    if left > panel.left:
        yield Rect(panel.left, panel.top, left - panel.left, panel.height, "band", GROUND)
    if least_y is not None:
        y = places.y_scale.clipped(least_y)
        yield Rect(left, y, panel.right - left, panel.bottom - y, "band", GROUND)
    corners: list[tuple[float, float]] = []
    for dearest, best in places.stair:
        right, y = places.x_scale.clipped(dearest), places.y_scale.at(best)
        corners += [(left, y), (right, y)]
        left = right
    if corners:
        edge = ((corners[0][0], panel.top), *corners, (corners[-1][0], panel.top))
        yield Area(edge, "band", GROUND)
        yield Path(tuple(corners), "muted", 1.25, (4.0, 3.0))


def _found(places: _Places) -> Points:
    """Returns the corners of the staircase of what was found: less of x buys no better y."""
    if places.x.more_is_better:
        return ()
    corners: list[tuple[float, float]] = []
    best: float | None = None
    sign = 1.0 if places.y.more_is_better else -1.0
    order = sorted(
        range(len(places.x.values)), key=lambda k: (places.x.values[k], -sign * places.y.values[k])
    )
    for k in order:
        gain = sign * places.y.values[k]
        if best is not None and gain <= best:
            continue
        x, y = places.at(k)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
        best = gain
    return (*corners, (places.panel.right, corners[-1][1]))


def _whiskers(places: _Places) -> Iterator[Mark]:
    """Yields a line from each point to what is proved of its cost and latency."""
    if not places.proved:
        return
    for k, point in enumerate(places.plan.front):
        if point.best_possible is not None:
            x, y = places.at(k)
            end = places.y_scale.at(point.best_possible)
            yield Line(x, y, x, end, "muted", 0.75)
            yield Line(x - 4, end, x + 4, end, "muted", 1.25)


@dataclass(frozen=True)
class _Third:
    """The figure that the shapes of the points say, in at most three ranges of equal width."""

    axis: Axis
    edges: tuple[float, ...]  # from the least to the largest value

    def bin_of(self, value: float) -> int:
        """Returns which range a value lies in."""
        inner = self.edges[1:-1]
        return sum(value > edge for edge in inner)

    def words(self, k: int) -> str:
        """Returns a range as words."""
        low, high = self.axis.word(self.edges[k]), self.axis.word(self.edges[k + 1])
        return f"{low} to {high}" if k == 0 else f"to {high}"


def _third(plan: Plan, drawn: tuple[AxisName, AxisName]) -> _Third | None:
    """Returns what shapes are to say, None where the other figures do not differ."""
    name = next((n for n in axes_of(plan) if n not in drawn), None)
    axis = None if name is None else axis_of(plan, name)
    if axis is None:
        return None
    low, high = axis.span
    n = len(BINS)
    return _Third(axis, tuple(low + (high - low) * k / n for k in range(n + 1)))


def _entries(plan: Plan, x: Axis, y: Axis, third: _Third | None) -> list[Entry]:
    entries = []
    if third is not None:
        by_ratio = third.axis.name == "latency" and plan.front[0].latency_ratio is not None
        what = "limits used" if by_ratio else third.axis.name
        used = {third.bin_of(v) for v in third.axis.values}
        for k, (shape, role) in enumerate(BINS):
            if k in used:
                prefix = f"{what} " if k == min(used) else ""
                entries.append(Entry(prefix + third.words(k), role, "marker", shape))
    entries.append(Entry("this plan", "ink", "marker", "circle", is_hollow=True))
    has_proofs = y.name == gain_of(plan) and any(p.best_possible is not None for p in plan.front)
    if not x.more_is_better:
        entries.append(Entry("best found", "accent", "line"))
    if _rules_out(plan, x, y):
        entries.append(Entry("proved out of reach", "band", opacity=0.6))
    if has_proofs:
        entries.append(Entry("each at most, proved", "muted", "line"))
    return entries


def _rules_out(plan: Plan, x: Axis, y: Axis) -> bool:
    """Returns whether anything is proved of all points of an area."""
    by_stair = x.name == "cost" and y.name == gain_of(plan) and bool(proof_stair(plan))
    return by_stair or any(least_possible(plan, axis) is not None for axis in (x, y))


def _points(places: _Places, third: _Third | None) -> Iterator[Mark]:
    """Yields every point, the plan's own last and on top."""
    order = sorted(range(len(places.plan.front)), key=lambda k: places.plan.front[k].chosen)
    for k in order:
        point = places.plan.front[k]
        x, y = places.at(k)
        shape, role = _PLAIN if third is None else BINS[third.bin_of(third.axis.values[k])]
        marks: list[Mark] = [
            Rect(x - REACH / 2, y - REACH / 2, REACH, REACH, "surface", 0.0)  # to be pointed at
        ]
        if point.chosen:
            marks.append(Marker(x, y, "circle", RING, "ink", is_hollow=True))
        marks.append(Marker(x, y, shape, SIZE, role))
        yield Group(tuple(marks), {"point": str(k), "tip": tip(point)})


def tip(point: FrontPoint) -> str:
    """Returns a point of the front as a sentence."""
    parts = [money(point.cost_usd_per_h), f"quality {score(point.quality)}"]
    if point.latency_ratio is not None:
        parts.append(f"limits used {percent(point.latency_ratio)}")
    elif point.latency_ms is not None:
        parts.append(f"latency {latency(point.latency_ms)}")
    if point.rate_factor is not None:
        parts.append(f"{number(point.rate_factor)} times the traffic")
    if point.gap_ratio is not None:
        parts.append(f"proved within {100 * point.gap_ratio:.1f}% of the best")
    replicas = ", ".join(f"{n} x {pool}" for pool, n in sorted(point.deployment.items()))
    mine = "This plan: " if point.chosen else ""
    return f"{mine}{', '.join(parts)}: {replicas}"


def _plan_label(places: _Places, found: Points) -> Iterator[Label]:
    """Yields the words beside the plan's point, where no other point or line lies."""
    for k, point in enumerate(places.plan.front):
        if point.chosen:
            taken = [places.at(other) for other in range(len(places.plan.front)) if other != k]
            yield free_label("this plan", *places.at(k), RING / 2 + 5, taken, places.panel, found)


def _described(places: _Places) -> str:
    points = places.plan.front
    text = f"{len(points)} deployments that nothing else that was found beats in every respect. "
    return text + "; ".join(tip(p) for p in sorted(points, key=lambda p: p.cost_usd_per_h)) + "."
